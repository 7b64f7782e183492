"""What runs as in training, and what a refused batch leaves: F26, F28 and F44."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import assert_as_before, graph_of, make_model, make_rows, step_of

from branchline.components.branch_trainer import Head, PathSettings, Trainer

SGD = keras.optimizers.SGD
layers = keras.layers


@pytest.mark.parametrize("kind", ["uniform", "gate", "xla", "sum", "pcgrad", "famo"])
def test_f28_a_batch_that_is_not_finite_leaves_statistics_and_random_state(kind, values_of):
    model = make_model(layers.BatchNormalization(), layers.Dropout(0.5))
    (x, y), ids = make_rows(), tf.constant([0, 0, 1, 1])
    if kind in ("uniform", "gate", "xla"):
        gate = (lambda losses: tf.fill([4], True)) if kind == "gate" else None
        step = step_of(model, "a", PathSettings(gate=gate), jit_compile=kind == "xla")
        good, bad = (x, y), (x, y * np.nan)
    else:
        step = step_of(model, "all", PathSettings(conflicts=kind))
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
    graph_of(step_of(model, "a", PathSettings(freeze=[stage])))(make_rows())
    assert_as_before(before, norm.variables)
    graph_of(step_of(model, "b", PathSettings()))(make_rows())
    assert np.all(np.array(norm.moving_mean) != before[2])


class Root(layers.Layer):
    """The root of its weights: 0, with a slope that is not finite."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(2,), initializer="zeros")

    def call(self, inputs):
        return inputs + tf.sqrt(self.scale)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_f44_a_gradient_that_no_scale_makes_finite_ends_the_path(jit_compile):
    model = make_model(a=Root())
    optimizer = keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=8.0)
    trainer = Trainer(
        model,
        streams={"a": tf.data.Dataset.from_tensors(make_rows())},
        settings={"a": PathSettings(optimizer)},
        steps=40,
        jit_compile=jit_compile,
    )
    history = trainer.run()
    assert history.stopped["a"] == "loss or gradient not finite at step 3"  # 8, 4, 2
    assert float(optimizer.dynamic_scale) == 1.0
