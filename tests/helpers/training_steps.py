"""Steps of one stream, without a trainer around them, and a small model to take them on."""

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch
from branchline.components.branch_trainer.step.step import Step, objective_of

layers = keras.layers


def step_of(model, name, settings, *, jit_compile=False, **options):
    """The step on a path, or on mixed batches under any other name."""
    return Step(objective_of(model, name, settings, **options), jit_compile=jit_compile)


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
    """Features float32 [count, 2] and labels float32 [count, 1]."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 2)), rng.normal(size=(count, 1))
    return tf.constant(x, tf.float32), tf.constant(y, tf.float32)


def graph_of(step):
    """The step as a function that is traced once."""
    return tf.function(step, autograph=False)


def assert_as_before(before, variables):
    """Checks that variables have the values that they had, to the last bit."""
    for was, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(was, variable, err_msg=getattr(variable, "path", None))


def built(layer, width=2):
    """The layer, built for rows of `width` values."""
    layer.build([None, width])
    return layer


def optional(name, layer=None):
    """A head whose labels may be missing."""
    return Head(name, layer or layers.Dense(1), loss="mse", missing=np.nan)
