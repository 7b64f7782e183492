"""Parts of a model that mixed batches have to take as they are: F43."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import built, make_model, make_rows

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch, Trainer
from branchline.components.branch_trainer.model.selective import Conditional
from branchline.components.branch_trainer.step.batch_loss import batch_loss

layers = keras.layers


@pytest.mark.parametrize("ids", [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], ids=str)
@pytest.mark.parametrize("mixed", ["partition", "multiplex"])
def test_f43_a_branch_of_any_length_may_have_no_rows(mixed, ids):
    """Series of 5 steps, of a number that the graph does not know."""
    conv = [keras.Sequential([layers.Conv1D(2, 3, padding="same")]) for _ in "ab"]
    model = BranchedModel(
        [Switch("s", a=conv[0], b=conv[1]), layers.GlobalAveragePooling1D()],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={path: Path(s=path) for path in "ab"},
        mixed=mixed,
    )
    series = tf.constant(np.random.default_rng(0).normal(size=(4, 5, 3)), tf.float32)
    spec = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None], tf.int32)]
    run = tf.function(lambda x, ids: model(x, path=ids)["y"], input_signature=spec)
    output = run(series, tf.constant(ids))
    for row, number in enumerate(ids):
        expected = model(series[row : row + 1], path="ab"[number])["y"][0]
        np.testing.assert_allclose(output[row], expected, rtol=1e-5, atol=1e-6)


class Adds(layers.Layer):
    """Adds the sum of what comes in to the loss."""

    def call(self, inputs):
        self.add_loss(tf.reduce_sum(inputs))
        return inputs


@pytest.mark.parametrize("ids", [[0, 1, 0, 1], [1, 1, 1, 1]], ids=["both", "none on it"])
@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eager"])
def test_f43_losses_that_a_branch_adds_count_once_and_for_its_rows(graph, ids):
    model = make_model(a=keras.Sequential([Adds(), layers.Dense(2)]))
    (x, y), ids = make_rows(), tf.constant(ids)

    def losses():
        return batch_loss(model, None, ((x, ids), y), training=True), batch_loss(
            model, None, ((x, ids), y), training=True
        )

    first, second = tf.function(losses)() if graph else losses()
    plain = np.mean((np.array(model(x, path=ids)["y"]) - np.array(y)) ** 2)
    added = np.sum(np.array(x)[np.array(ids) == 0])
    np.testing.assert_allclose([first, second], [plain + added] * 2, rtol=1e-5)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("stream", ["uniform", "mixed"])
def test_f43_losses_that_a_conditional_layer_adds_count_where_it_runs(on, stream):
    layer = Conditional(built(Adds()), on=on)
    (x, y), model = make_rows(), make_model(layer)
    if stream == "mixed":
        ids = tf.constant([0, 1, 0, 1])
        loss = tf.function(lambda: batch_loss(model, None, ((x, ids), y), training=True))()
    else:
        ids = "a"
        loss = tf.function(lambda: batch_loss(model, ids, (x, y), training=True))()
    through = model.stages[0].branches
    rows = [through["b" if stream == "mixed" and i % 2 else "a"](x[i : i + 1]) for i in range(4)]
    plain = np.mean((np.array(model(x, path=ids)["y"]) - np.array(y)) ** 2)
    np.testing.assert_allclose(loss, plain + on * np.sum(rows), rtol=1e-5)


def test_f43_a_trainer_takes_branches_that_add_losses():
    model = make_model(a=keras.Sequential([layers.Dense(2), layers.ActivityRegularization(0.1)]))
    (x, y), ids = make_rows(), tf.constant([0, 1, 0, 1])
    stream = tf.data.Dataset.from_tensors(((x, ids), y))
    trainer = Trainer(model, streams={"all": stream}, steps=2, validation={"all": stream})
    assert trainer.run().steps == {"all": 2}


def test_f43_frozen_weights_and_conditions_are_no_statistics():
    frozen = built(layers.Dense(2))
    frozen.trainable = False
    switched = Conditional(built(layers.Dense(2)))
    at_rest = built(layers.BatchNormalization())
    at_rest.trainable = False
    branch = keras.Sequential([frozen, switched, at_rest])
    model = make_model(a=branch, mixed="multiplex")
    assert model(make_rows()[0], path=tf.constant([0, 1, 0, 1]), training=True)["y"].shape == [4, 1]
    at_rest.trainable = True
    with pytest.raises(ValueError, match="'s' would mix all rows into the statistics .*moving"):
        model(make_rows()[0], path=tf.constant([0, 1, 0, 1]), training=True)
