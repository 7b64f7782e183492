"""One test per fault that a step can have; the number is the row's in the list F26 to F47."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import BranchedModel, Head, Path, PathSettings, Switch
from branchline.components.branch_trainer.mixed_step import MixedStep
from branchline.components.branch_trainer.step import PathStep

SGD, ADAM, ADAMW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW
layers = keras.layers


def make_model(*stages, mixed="partition", heads=(), **branches):
    """Paths `a` and `b` over float [batch, 2], each with its branch, then `stages`, then heads."""
    keras.utils.set_random_seed(3)
    branches = {"a": layers.Dense(2), "b": layers.Dense(2)} | branches
    model = BranchedModel(
        [Switch("s", **branches), *stages],
        heads=list(heads) or [Head("y", layers.Dense(1), loss="mse")],
        paths={path: Path(s=path) for path in "ab"},
        mixed=mixed,
    )
    for path in "ab":
        model.build_path(path, tf.TensorSpec([None, 2]))
    return model


def make_rows(count=4, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 2)), rng.normal(size=(count, 1))
    return tf.constant(x, tf.float32), tf.constant(y, tf.float32)


def graph_of(step):
    return tf.function(step, autograph=False)


def assert_as_before(before, variables):
    for was, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(was, variable, err_msg=getattr(variable, "path", None))


@pytest.mark.parametrize("kind", ["uniform", "gate", "xla", "sum", "pcgrad", "famo"])
def test_f28_a_batch_that_is_not_finite_leaves_statistics_and_random_state(kind, values_of):
    model = make_model(layers.BatchNormalization(), layers.Dropout(0.5))
    (x, y), ids = make_rows(), tf.constant([0, 0, 1, 1])
    if kind in ("uniform", "gate", "xla"):
        gate = (lambda losses: tf.fill([4], True)) if kind == "gate" else None
        step = PathStep(model, "a", PathSettings(gate=gate), jit_compile=kind == "xla")
        good, bad = (x, y), (x, y * np.nan)
    else:
        step = MixedStep(model, "all", PathSettings(conflicts=kind))
        good, bad = ((x, ids), y), ((x, ids), y * np.nan)
    run = graph_of(step)
    run(good)
    state = [*model.variables, *step.state]
    before = values_of(state)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        run(bad)
    assert_as_before(before, state)
    run(good)
    assert any(np.any(was != np.array(v)) for was, v in zip(before, state, strict=True))
