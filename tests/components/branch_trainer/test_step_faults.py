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


class Wrapped(layers.Layer):
    """A layer of somebody who did not think of `training`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.parametrize("mixed", ["partition", "multiplex"])
def test_f26_heads_and_trunk_run_as_in_training_after_a_branch_without_rows(mixed):
    """Of which there is a trace as in inference, in the same call of the model."""
    (x, _), ids = make_rows(), tf.constant([0, 1, 0, 1])
    branches = {path: keras.Sequential([Wrapped(layers.Dense(2))]) for path in "ab"}
    head = Head("y", layers.Dropout(0.5), loss="mse")
    model = make_model(heads=[head], mixed=mixed, **branches)
    run = tf.function(lambda training: model(x, path=ids, training=training)["y"])
    assert np.any(np.array(run(True)) == 0)
    assert np.all(np.array(run(False)) != 0)


def test_f26_a_made_up_row_does_not_reach_the_statistics():
    norm = layers.BatchNormalization(momentum=0.5)
    model = make_model(a=Wrapped(norm))
    (x, _), before = make_rows(), np.array(norm.moving_variance)
    run = tf.function(lambda ids: model(x, path=ids, training=True)["y"])
    run(tf.constant([1, 1, 1, 1]))
    np.testing.assert_array_equal(norm.moving_variance, before)
    run(tf.constant([0, 1, 0, 1]))
    assert np.all(np.array(norm.moving_variance) != before)


def test_f26_freeze_reaches_a_layer_inside_another(values_of):
    norm = layers.BatchNormalization(momentum=0.5)
    model = make_model(Wrapped(norm))
    stage = model.stages[1].name
    before = values_of(norm.variables)
    graph_of(PathStep(model, "a", PathSettings(freeze=[stage])))(make_rows())
    assert_as_before(before, norm.variables)
    graph_of(PathStep(model, "b", PathSettings()))(make_rows())
    assert np.all(np.array(norm.moving_mean) != before[2])
