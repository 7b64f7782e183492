import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from graphs import keeps_before_checking
from tensorflow.core.util import event_pb2

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    EarlyStop,
    Head,
    Path,
    PathSettings,
    Sequential,
    Trainer,
)
from branchline.components.branch_trainer.loop import tensorboard
from branchline.components.branch_trainer.loop.history import History
from branchline.components.branch_trainer.loop.loop import Chunk, Outcome


def streams_of(batches, stream_of):
    return {path: stream_of(of_path) for path, of_path in batches.items()}


def test_training_equals_the_hand_written_loop_bit_for_bit(
    typed_model, typed_batches, stream_of, values_of, train_by_hand
):
    batches = typed_batches()
    ours, by_hand = typed_model(), typed_model()

    def optimizers():
        return {"vector": keras.optimizers.Adam(0.01), "token": keras.optimizers.SGD(0.1, 0.9)}

    trainer = Trainer(
        ours,
        streams=streams_of(batches, stream_of),
        schedule=Alternate("aab"),
        settings={
            p: PathSettings(optimizer=o, embeddings="dense") for p, o in optimizers().items()
        },
        steps=14,
        steps_per_loop=4,
    )
    history = trainer.run()
    train_by_hand(by_hand, (["vector", "vector", "token"] * 5)[:14], batches, optimizers())
    for mine, theirs in zip(ours.variables, by_hand.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=mine.path)
    assert history.steps == {"vector": 10, "token": 4}
    assert history.examples == {"vector": 50, "token": 20}


def test_the_history_holds_the_mean_loss_of_each_loop(
    typed_model, typed_batches, stream_of, train_by_hand
):
    batches = typed_batches()
    seen = []
    trainer = Trainer(
        typed_model(),
        streams=streams_of(batches, stream_of),
        schedule=Alternate("ab"),
        settings={p: PathSettings(optimizer=keras.optimizers.SGD(0.1)) for p in batches},
        steps=6,
        steps_per_loop=4,
        on_progress=seen.append,
    )
    history = trainer.run()
    optimizers = {p: keras.optimizers.SGD(0.1) for p in batches}
    losses = train_by_hand(typed_model(), ["vector", "token"] * 3, batches, optimizers)
    assert [step for step, _ in history.losses["vector"]] == [4, 6]
    means = [np.mean([losses[0], losses[2]]), losses[4]]
    np.testing.assert_allclose([loss for _, loss in history.losses["vector"]], means, rtol=1e-6)
    assert [(p.step, p.steps) for p in seen] == [(4, 6), (6, 6)]
    assert seen[-1].losses == {p: history.losses[p][-1][1] for p in batches}
    assert seen[-1].eta_seconds == 0 and seen[0].eta_seconds > 0
    assert all(p.examples_per_second > 0 for p in seen)


def test_a_stream_that_ends_is_repeated_by_default(typed_model, typed_batches, stream_of):
    batches = typed_batches(num_batches=2)
    trainer = Trainer(typed_model(), streams=streams_of(batches, stream_of), steps=10)
    history = trainer.run()
    assert history.steps == {"vector": 5, "token": 5}
    assert set(history.stopped.values()) == {"all steps taken"}


def test_training_stops_when_the_first_stream_ends(typed_model, typed_batches, stream_of):
    batches = typed_batches(num_batches=3)
    batches["token"] = batches["token"][:1]
    trainer = Trainer(
        typed_model(),
        streams=streams_of(batches, stream_of),
        schedule=Alternate("ab", on_end="stop"),
        steps=100,
    )
    history = trainer.run()
    assert history.steps == {"vector": 2, "token": 1}
    assert history.stopped == {
        "token": "its stream ended at step 3",
        "vector": "the stream of 'token' ended at step 3",
    }


def test_a_path_whose_stream_ends_is_dropped_and_the_others_go_on(
    typed_model, typed_batches, stream_of
):
    batches = typed_batches(num_batches=6)
    batches["token"] = batches["token"][:1]
    trainer = Trainer(
        typed_model(),
        streams=streams_of(batches, stream_of),
        schedule=Alternate("ab", on_end="drop"),
        steps=100,
    )
    history = trainer.run()
    assert history.steps == {"vector": 6, "token": 1}
    assert history.stopped["token"] == "its stream ended at step 3"
    assert history.stopped["vector"] == "its stream ended at step 7"


def test_a_schedule_may_end_before_the_steps_do(typed_model, typed_batches, stream_of):
    trainer = Trainer(
        typed_model(),
        streams=streams_of(typed_batches(), stream_of),
        schedule=Sequential([("token", 2), ("vector", 1)]),
        steps=100,
    )
    history = trainer.run()
    assert history.steps == {"vector": 1, "token": 2}
    assert set(history.stopped.values()) == {"the schedule ended"}


def test_a_loss_that_is_not_finite_stops_its_path_and_keeps_the_batch(
    typed_model, typed_batches, stream_of, train_by_hand
):
    batches = typed_batches()
    broken = batches["token"][1][1]
    broken[2, 0] = np.nan
    ours, by_hand = typed_model(), typed_model()
    trainer = Trainer(
        ours,
        streams=streams_of(batches, stream_of),
        schedule=Alternate("ab"),
        settings={p: PathSettings(optimizer=keras.optimizers.SGD(0.1)) for p in batches},
        steps=8,
    )
    history = trainer.run()
    optimizers = {p: keras.optimizers.SGD(0.1) for p in batches}
    train_by_hand(by_hand, ["vector", "token"] + ["vector"] * 6, batches, optimizers)
    assert history.steps == {"vector": 7, "token": 1}
    assert history.stopped["token"] == "loss or gradient not finite at step 3"
    for mine, theirs in zip(ours.variables, by_hand.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    features, labels = trainer.failed_batch("token")
    np.testing.assert_array_equal(features, batches["token"][1][0])
    np.testing.assert_array_equal(labels, broken)
    assert trainer.failed_batch("vector") is None
    assert keeps_before_checking(trainer)  # or it would now and then be a part of another batch


def test_f40_an_id_out_of_range_is_told_with_path_step_and_batch(
    typed_model, typed_batches, stream_of
):
    batches = typed_batches()
    ids = batches["token"][2][0]
    ids[3, 0] = 99
    trainer = Trainer(typed_model(), streams=streams_of(batches, stream_of), steps=20)
    expected = (
        r"A step on path 'token' failed after 5 steps: (.|\n)*99 is not in \[0, 6\)(.|\n)*"
        r"failed_batch\('token'\) returns: "
        r"\[0\] int64 \[5, 1\] from \d to 99; \[1\] float32 \[5, 1\] from"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        trainer.run()
    np.testing.assert_array_equal(trainer.failed_batch("token")[0], ids)
    assert trainer.failed_batch("vector") is None
    assert trainer.history.steps == {"vector": 3, "token": 2}


def test_f40_a_label_out_of_range_is_told_with_path_step_and_batch(typed_batches, stream_of):
    x = typed_batches()["vector"][0][0]
    labels = np.array([0, 1, 2, 7, 0])
    model = BranchedModel(
        [keras.layers.Dense(4)],
        heads=[Head("k", keras.layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy")],
        paths={"a": Path()},
    )
    trainer = Trainer(model, streams={"a": stream_of([(x, labels)])}, steps=3)
    expected = r"A step on path 'a' failed after 0 steps: (.|\n)*\[1\] int64 \[5\] from 0 to 7"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        trainer.run()
    np.testing.assert_array_equal(trainer.failed_batch("a")[1], labels)


def test_f40_a_stream_that_fails_is_told_and_no_batch_of_another_is_given(
    typed_model, typed_batches, stream_of
):
    streams = streams_of(typed_batches(), stream_of)

    def break_at_nine(number, batch):
        with tf.control_dependencies([tf.debugging.assert_less(number, tf.constant(9, tf.int64))]):
            return tf.nest.map_structure(tf.identity, batch)

    broken = streams["token"].repeat().enumerate().map(break_at_nine)
    trainer = Trainer(typed_model(), streams=streams | {"token": broken}, steps=30)
    expected = "The stream of path 'token' could not be read on after 19 steps"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        trainer.run()
    assert trainer.failed_batch("token") is None


NOT_FINITE = "The loss or the gradient is not finite"  # as a step itself says it


class Fails(keras.layers.Layer):
    """Fails from its third call on, by what the function does then."""

    def __init__(self, fail_fn):
        super().__init__()
        self.fail_fn = fail_fn
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, inputs, training=None):
        if training:
            self.calls.assign(self.calls + 1)
            failing = tf.cond(self.calls.value > 2, lambda: self.fail_fn(inputs), lambda: 0.0)
            return inputs + failing
        return inputs


def check_nan(inputs):
    return tf.debugging.check_numerics(tf.reduce_sum(inputs) * np.nan, NOT_FINITE)


class ReadsOn:
    """Reads where nothing is left."""

    def __init__(self):
        self.queue = tf.queue.FIFOQueue(1, [tf.float32], [[]])
        self.queue.close()

    def __call__(self, inputs):
        return self.queue.dequeue()


class Refuses(keras.optimizers.SGD):
    """Fails at its third update."""

    def update_step(self, gradient, variable, learning_rate):
        with tf.control_dependencies(
            [tf.debugging.assert_less(tf.cast(self.iterations.value, tf.int32), 2)]
        ):
            super().update_step(gradient, variable, learning_rate)


@pytest.mark.parametrize(
    ("fail_fn", "optimizer_fn", "error"),
    [
        (check_nan, keras.optimizers.SGD, tf.errors.InvalidArgumentError),
        (ReadsOn(), keras.optimizers.SGD, tf.errors.OutOfRangeError),
        (tf.reduce_sum, Refuses, tf.errors.InvalidArgumentError),
    ],
    ids=["says not finite", "says out of range", "in the update"],
)
def test_f40_a_step_that_fails_is_told_as_such_whatever_its_error_says(
    typed_model, typed_batches, stream_of, fail_fn, optimizer_fn, error
):
    batches = typed_batches()
    encoder = keras.Sequential([keras.layers.Dense(3), Fails(fail_fn)])
    trainer = Trainer(
        typed_model(vector=encoder),
        streams=streams_of(batches, stream_of),
        settings={"vector": PathSettings(optimizer_fn())},
        steps=20,
    )
    with pytest.raises(error, match="A step on path 'vector' failed after 4 steps"):
        trainer.run()
    np.testing.assert_array_equal(trainer.failed_batch("vector")[0], batches["vector"][2][0])
    assert trainer.history.steps == {"vector": 2, "token": 2} and not trainer.history.stopped


@pytest.mark.parametrize("message", [NOT_FINITE, "nothing of the kind"])
def test_f40_a_stream_that_fails_is_told_as_such_whatever_its_error_says(
    typed_model, typed_batches, stream_of, message
):
    streams = streams_of(typed_batches(), stream_of)

    def break_at_two(number, batch):
        number = tf.where(number < 2, 0.0, np.nan)
        with tf.control_dependencies([tf.debugging.check_numerics(number, message)]):
            return tf.nest.map_structure(tf.identity, batch)

    broken = streams["vector"].repeat().enumerate().map(break_at_two)
    streams |= {"vector": broken}
    trainer = Trainer(typed_model(), streams=streams, steps=30, steps_per_loop=3)
    expected = "The stream of path 'vector' could not be read on after 4 steps"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        trainer.run()
    assert trainer.failed_batch("vector") is None and not trainer.history.stopped


def test_the_loop_is_traced_once(typed_model, typed_batches, stream_of):
    batches = typed_batches(num_batches=3)
    streams = {
        path: stream_of(of_path).unbatch().batch(4) for path, of_path in batches.items()
    }  # 15 rows: the last batch has 3
    trainer = Trainer(typed_model(), streams=streams, steps=23, steps_per_loop=5)
    trainer.run()
    assert trainer.loop.num_traces == 1


def test_a_path_that_stops_improving_stops_with_the_better_branch(
    typed_model, typed_batches, stream_of
):
    batches = typed_batches(num_batches=2)
    model = typed_model()
    validation = {"token": stream_of([(x, -y) for x, y in batches["token"]])}
    trainer = Trainer(
        model,
        streams=streams_of(batches, stream_of),
        settings={
            "token": PathSettings(
                optimizer=keras.optimizers.SGD(0.3), early_stop=EarlyStop(patience=2)
            )
        },
        validation=validation,
        validate_every=4,
        steps=80,
    )
    history = trainer.run()
    losses = [loss for _, loss in history.validation["token"]]
    assert history.stopped["token"] == "no improvement until step 12"
    assert history.steps["token"] == 6 and history.steps["vector"] == 74
    assert losses[-1] == trainer.validator("token")
    best = trainer.best["token"]
    for variable, copy in zip(model.own_state_of("token"), best.copies, strict=True):
        np.testing.assert_array_equal(variable, copy)


def test_a_frozen_part_keeps_weights_and_statistics(typed_batches, stream_of, values_of):
    trunk = keras.Sequential(
        [keras.layers.Dense(3), keras.layers.BatchNormalization()], name="trunk"
    )
    model = BranchedModel(
        [trunk], heads=[Head("out", keras.layers.Dense(1), loss="mse")], paths={"vector": Path()}
    )
    batches = {"vector": typed_batches()["vector"]}
    model.build_path("vector", tf.TensorSpec([None, 4]))
    before = values_of(trunk.variables)
    head_before = values_of(model.heads[0].variables)
    Trainer(
        model,
        streams=streams_of(batches, stream_of),
        settings={"vector": PathSettings(freeze=["trunk"])},
        steps=3,
    ).run()
    for was, now in zip(before, trunk.variables, strict=True):
        np.testing.assert_array_equal(was, now)
    assert not np.array_equal(head_before[0], model.heads[0].variables[0])


def shared_optimizer():
    optimizer = keras.optimizers.Adam()
    return {p: PathSettings(optimizer=optimizer) for p in ("vector", "token")}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"streams": {}}, ValueError, "streams is empty"),
        ({"streams": {"scan": tf.data.Dataset.range(1)}}, KeyError, "'scan' is not in the model"),
        ({"settings": {"scan": PathSettings()}}, ValueError, "settings for .'scan'."),
        ({"settings": shared_optimizer()}, ValueError, "share one optimizer"),
        ({"steps": 0}, ValueError, "steps=0, expected at least 1"),
        ({"settings": {"token": PathSettings(early_stop=EarlyStop())}}, ValueError, "validation="),
        ({"settings": {"token": PathSettings(freeze=["scan"])}}, ValueError, "not parts of path"),
        (
            {"settings": {"token": PathSettings(freeze=["encoder", "trunk", "out"])}},
            ValueError,
            "nothing to train",
        ),
        (
            {"streams": {"vector": tf.data.Dataset.range(3)}},
            ValueError,
            "expected .features, labels.",
        ),
    ],
    ids=[
        "no streams",
        "unknown path",
        "settings without stream",
        "shared optimizer",
        "no steps",
        "early stop without validation",
        "freeze unknown",
        "freeze all",
        "no labels",
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_first_step(
    typed_model, typed_batches, stream_of, arguments, error, message
):
    streams = streams_of(typed_batches(), stream_of)
    with pytest.raises(error, match=message):
        Trainer(typed_model(), **{"streams": streams, "steps": 3} | arguments)


def test_an_empty_stream_is_an_error_that_names_its_path(typed_model, typed_batches, stream_of):
    streams = streams_of(typed_batches(), stream_of)
    with pytest.raises(ValueError, match="stream of path 'token' is empty"):
        Trainer(typed_model(), streams=streams | {"token": streams["token"].take(0)}, steps=3)
    streams["token"] = streams["token"].filter(lambda x, y: False)
    with pytest.raises(ValueError, match="stream of path 'token' is empty"):
        Trainer(typed_model(), streams=streams, steps=3).run()


def test_mixed_precision_keeps_weights_and_slots_in_float32(typed_model, typed_batches, stream_of):
    batches = typed_batches()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = typed_model()
    finally:
        keras.config.set_dtype_policy("float32")
    plain = typed_model()
    losses = []
    for model in (mixed, plain):
        chosen = {p: PathSettings(keras.optimizers.SGD(0.01, 0.9)) for p in batches}
        streams = streams_of(batches, stream_of)
        trainer = Trainer(model, streams=streams, settings=chosen, steps=12)
        losses.append([loss for of_path in trainer.run().losses.values() for _, loss in of_path])
        slots = [v for o in trainer.optimizers.values() for v in o.variables if len(v.shape)]
        assert {v.dtype for v in (*model.variables, *slots)} == {"float32"}
    assert mixed.stages[1].compute_dtype == "bfloat16"
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    for one, other in zip(mixed.variables, plain.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


def points_of(directory):
    """tag → {step: value} of the TensorBoard files in a directory."""
    points = {}
    for file in sorted(directory.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())  # pyright: ignore
            for value in event.summary.value:
                points.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return points


def test_tensorboard_gets_a_run_per_path(
    typed_model, typed_batches, stream_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(tensorboard, "_SECONDS", 0)
    batches = typed_batches()
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.5, 0.25])
    trainer = Trainer(
        typed_model(),
        streams=streams_of(batches, stream_of),
        schedule=Alternate("aab"),
        settings={
            "vector": PathSettings(keras.optimizers.SGD(rates)),
            "token": PathSettings(keras.optimizers.SGD(0.125)),
        },
        steps=9,
        steps_per_loop=6,
        validation={"token": stream_of(batches["token"])},
        tensorboard_dir=tmp_path,
    )
    history = trainer.run()
    assert sorted(run.name for run in tmp_path.iterdir()) == ["token", "vector"]
    for path, share in (("vector", 2 / 3), ("token", 1 / 3)):
        points = points_of(tmp_path / path)
        assert points["loss"] == pytest.approx(dict(history.losses[path]))
        assert points["step_share"] == pytest.approx({6: share, 9: share})
        assert all(value > 0 for value in points["gradient_norm"].values())
        assert all(value > 0 for value in points["examples_per_second"].values())
    assert points["learning_rate"] == {6: 0.125, 9: 0.125}
    assert points["validation_loss"] == pytest.approx(dict(history.validation["token"]))
    assert points_of(tmp_path / "vector")["learning_rate"] == {6: 0.25, 9: 0.25}


def test_calls_shorter_than_a_tenth_of_a_second_are_one_point_in_tensorboard(
    typed_model, typed_batches, stream_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(tensorboard, "_SECONDS", 1e9)
    streams = streams_of(typed_batches(), stream_of)
    trainer = Trainer(
        typed_model(), streams=streams, steps=12, steps_per_loop=2, tensorboard_dir=tmp_path
    )
    history = trainer.run()
    for path in ("vector", "token"):
        points = points_of(tmp_path / path)
        assert list(points["loss"]) == [2, 12], "the first call, and all others when it closes"
        others = [loss for step, loss in history.losses[path] if step > 2]
        assert points["loss"][12] == pytest.approx(np.mean(others))
        assert points["step_share"] == pytest.approx({2: 1 / 2, 12: 1 / 2})


def test_f47_what_tensorboard_got_before_an_error_is_in_closed_files(
    typed_model, typed_batches, stream_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(tensorboard, "_SECONDS", 0)

    def fail(progress):
        if progress.step == 6:
            raise RuntimeError("of the caller")

    trainer = Trainer(
        typed_model(),
        streams=streams_of(typed_batches(), stream_of),
        steps=12,
        steps_per_loop=2,
        on_progress=fail,
        tensorboard_dir=tmp_path,
    )
    with pytest.raises(RuntimeError, match="of the caller"):
        trainer.run()
    opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
              if os.path.exists(f"/proc/self/fd/{fd}")]  # fmt: skip
    assert not [name for name in opened if str(tmp_path) in name]
    for path in ("vector", "token"):
        assert sorted(points_of(tmp_path / path)["loss"]) == [2, 4, 6]
    trainer.run()
    assert sorted(points_of(tmp_path / "token")["loss"]) == [2, 4, 6, 8, 10, 12]


def test_f47_a_history_is_of_bounded_size_and_its_means_stay_those_of_all_steps():
    history, rng = History.start(["a", "b"], ["a"]), np.random.default_rng(0)
    losses = []
    for _ in range(5000):
        size = int(rng.integers(1, 5))
        of_loop = rng.normal(size=size).astype(np.float32)
        losses += of_loop.tolist()
        rows = np.ones(size, np.int64)
        history.record(["a"] * size, Chunk(size, Outcome.STEPPED, of_loop, of_loop, rows))
        history.record_validation("a", float(history.step))
    points, counts = history.losses["a"], history.counts["a"]
    assert len(points) == len(counts) <= 2000 and len(history.validation["a"]) <= 2000
    ends = np.cumsum(counts)
    assert [step for step, _ in points] == ends.tolist() and ends[-1] == len(losses)
    parts = np.split(np.array(losses), ends[:-1])
    np.testing.assert_allclose(
        [loss for _, loss in points], [p.mean() for p in parts], rtol=1e-4, atol=1e-6
    )
    steps = [step for step, _ in history.validation["a"]]
    assert steps == sorted(set(steps)) and steps[-1] == len(losses)
    assert all(step == loss for step, loss in history.validation["a"])


def test_f47_a_short_history_keeps_every_loop():
    history = History.start(["a"], ["a"])
    for number in range(2000):
        loss = np.array([number], np.float32)
        history.record(["a"], Chunk(1, Outcome.STEPPED, loss, loss, np.ones(1, np.int64)))
        history.record_validation("a", number)
    assert history.losses["a"] == [(i + 1, float(i)) for i in range(2000)]
    assert len(history.validation["a"]) == 2000
