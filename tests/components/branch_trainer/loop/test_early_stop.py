"""Validation losses, and what ends a path; F27, F29 and F37 of the list of failures."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    EarlyStop,
    Head,
    Path,
    PathSettings,
    Sequential,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.loop.early_stop import BestWeights
from branchline.components.branch_trainer.loop.validator import Validator

SGD = keras.optimizers.SGD


def stopping(patience=2, **settings):
    return PathSettings(SGD(0.01), early_stop=EarlyStop(patience), **settings)


def two_paths(typed_model, typed_batches, stream_of, **arguments):
    streams = {path: stream_of(b) for path, b in typed_batches().items()}
    return Trainer(typed_model(), streams=streams, steps_per_loop=10, **arguments)


def test_f27_a_path_that_waits_for_its_turn_does_not_lose_patience(
    typed_model, typed_batches, stream_of
):
    trainer = two_paths(
        typed_model,
        typed_batches,
        stream_of,
        schedule=Sequential([("vector", 60), ("token", 20)]),
        steps=80,
        settings={"token": stopping()},
        validation={"token": stream_of([(x, 0 * y - 9) for x, y in typed_batches()["token"]])},
        validate_every=10,
    )
    assert trainer.run().steps == {"vector": 60, "token": 20}


def test_f27_a_path_that_only_gathers_gradients_does_not_lose_patience(
    typed_model, typed_batches, stream_of
):
    batches = typed_batches()["token"]
    trainer = two_paths(
        typed_model,
        typed_batches,
        stream_of,
        schedule=Alternate("b"),
        steps=80,
        settings={"token": stopping(accumulate=40)},
        validation={"token": stream_of([(x, -y) for x, y in batches])},
        validate_every=10,
    )
    assert trainer.run().stopped["token"] == "all steps taken"
    assert trainer.best["token"].waited <= 2


def test_f27_a_path_that_takes_its_turns_still_loses_patience(
    typed_model, typed_batches, stream_of
):
    trainer = two_paths(
        typed_model,
        typed_batches,
        stream_of,
        schedule=Sequential([("vector", 60), ("token", 80)]),
        steps=200,
        settings={"token": stopping()},
        validation={"token": stream_of([(x, -y) for x, y in typed_batches()["token"]])},
        validate_every=10,
    )
    assert trainer.run().stopped["token"] == "no improvement until step 90"


@pytest.mark.parametrize(
    ("today", "remembered", "kept"),
    [
        (np.nan, 1.0, "remembered"),
        (np.inf, 1.0, "remembered"),
        (2.0, 1.0, "remembered"),
        (1.0, 2.0, "today's"),
        (1.0, np.nan, "today's"),
    ],
)
def test_f29_the_better_weights_are_kept_also_where_a_loss_is_not_finite(today, remembered, kept):
    weight = keras.Variable([0.0])
    best = BestWeights([weight], EarlyStop())
    best.observe(0.5, updates=1)
    weight.assign([7.0])
    losses = {0.0: remembered, 7.0: today}
    loss = best.settle(lambda: losses[float(np.array(weight)[0])])
    expected = {"remembered": (0.0, remembered), "today's": (7.0, today)}[kept]
    assert (float(np.array(weight)[0]), loss) == expected


def constant_model(**head):
    """One path whose output is 0, so that its loss is the mean square of the labels."""
    layer = keras.layers.Dense(
        1, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(1.0)
    )
    model = BranchedModel(
        [keras.layers.Identity()],
        heads=[Head("y", layer, loss="mse", missing=np.nan, **head)],
        paths={"a": Path()},
    )
    model.build_path("a", tf.TensorSpec([None, 1]))
    return model


def rows(labels):
    labels = np.array(labels, np.float32)[:, None]
    return tf.data.Dataset.from_tensor_slices((np.ones_like(labels), labels))


@pytest.mark.parametrize("batch_size", [200, 100, 50, 37])
def test_f37_a_validation_loss_is_that_of_the_labelled_rows_however_they_are_batched(batch_size):
    labels = [0.0] * 100 + [10.0] + [np.nan] * 99
    validator = Validator(constant_model(), {"a": rows(labels).batch(batch_size)})
    assert validator("a") == pytest.approx(100 / 101, rel=1e-6)


def test_f37_each_head_counts_its_own_labels():
    dense = {name: keras.layers.Dense(1, kernel_initializer="zeros") for name in "xy"}
    model = BranchedModel(
        [keras.layers.Identity()],
        heads=[
            Head("x", dense["x"], loss="mse", label="x", missing=np.nan),
            Head("y", dense["y"], loss="mse", label="y", missing=np.nan, loss_weight=0.5),
        ],
        paths={"a": Path()},
    )
    labels = {
        "x": np.array([[1.0], [2.0], [np.nan], [3.0]], np.float32),
        "y": np.array([[np.nan], [np.nan], [np.nan], [4.0]], np.float32),
    }
    data = tf.data.Dataset.from_tensor_slices((np.ones([4, 1], np.float32), labels))
    model.build_path("a", tf.TensorSpec([None, 1]))
    for size in (1, 2, 3, 4):
        found = Validator(model, {"a": data.batch(size)})("a")
        assert found == pytest.approx((1 + 4 + 9) / 3 + 0.5 * 16, rel=1e-6)


def test_f37_sample_weights_multiply_and_rows_of_a_mixed_batch_count_for_their_heads():
    model = BranchedModel(
        [Switch("s", a=keras.layers.Identity(), b=keras.layers.Identity())],
        heads=[
            Head(name, keras.layers.Dense(1, kernel_initializer="zeros"), loss="mse")
            for name in ("one", "two")
        ],
        paths={"a": Path(s="a", heads=["one"]), "b": Path(s="b", heads=["two"])},
    )
    x, y = np.ones([5, 1], np.float32), np.arange(1.0, 6.0, dtype=np.float32)[:, None]
    ids, weight = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 1, 2, 1], np.float32)
    model.build_path("a", tf.TensorSpec([None, 1]))
    model.build_path("b", tf.TensorSpec([None, 1]))
    data = tf.data.Dataset.from_tensor_slices(((x, ids), y, weight))
    for size in (1, 2, 5):
        found = Validator(model, {"all": data.batch(size)})("all")
        assert found == pytest.approx((1 + 4 + 9 + 2 * 16) / 4 + 25, rel=1e-6), size


def test_f37_a_penalty_is_no_part_of_a_validation_loss():
    model = constant_model()
    model.heads[0].layer.kernel.assign([[3.0]])
    validator = Validator(model, {"a": rows([3.0, 4.0]).batch(2)})
    assert validator("a") == pytest.approx(0.5)


def test_f37_validation_data_without_any_label_is_an_error_that_names_the_path():
    validator = Validator(constant_model(), {"a": rows([np.nan] * 3).batch(2)})
    with pytest.raises(ValueError, match=r"path 'a' .* 3 rows, .* label of its heads \['y'\]"):
        validator("a")


@pytest.mark.parametrize("steps", [7, 25])
def test_f37_training_that_ends_between_validations_is_validated_at_its_end(
    typed_model, typed_batches, stream_of, steps
):
    trainer = two_paths(
        typed_model,
        typed_batches,
        stream_of,
        steps=steps,
        validation={"token": stream_of(typed_batches()["token"])},
        validate_every=10,
    )
    history = trainer.run()
    assert [step for step, _ in history.validation["token"]] == [*range(10, steps, 10), steps]
    assert history.validation["token"][-1][1] == trainer.validator("token")
