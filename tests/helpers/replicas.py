"""Checks of training on several replicas, for processes of their own: devices are set at the start.

`python replicas.py RESULTS` runs the checks on two devices and writes a line of JSON for each as it
ends; `python replicas.py RESULTS DIRECTORY`, with TF_CONFIG, is one of two workers.
"""

import contextlib
import json
import os
import sys
import tempfile
import traceback
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from graphs import keeps_before_checking

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    Conditional,
    EarlyStop,
    Embedding,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.step.strategy_replicas import replicas_of

ROWS, BATCH = 12, 5  # batches of 5, 5 and 2 rows, in parts of 2 and 3, or 1 and 1
SGD, ADAM, ADAMW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW
layers = keras.layers


def make_model(*, paths=("vector", "token"), extra=()):
    """Paths over float `vector` and int `token`; two heads, the label of one may be missing."""
    keras.utils.set_random_seed(7)
    branches = {
        "vector": layers.Dense(6, activation="tanh"),
        "token": keras.Sequential([Embedding(6, 3), layers.Flatten()]),
        "third": layers.Dense(6),
    }
    feature = {"vector": "vector", "token": "token", "third": "vector"}
    trunk = layers.Dense(3, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))
    return BranchedModel(
        [Switch("encoder", **{p: branches[p] for p in paths}), *extra, trunk],
        heads=[
            Head("out", layers.Dense(1), loss="mse"),
            Head("rare", layers.Dense(1), loss="mse", missing=np.nan, loss_weight=0.5),
        ],
        paths={p: Path(encoder=p, features=feature[p]) for p in paths},
    )


def make_columns(seed=3):
    rng = np.random.default_rng(seed)
    features = {
        "vector": rng.normal(size=(ROWS, 4)).astype(np.float32),
        "token": rng.integers(0, 6, size=(ROWS, 2)),
    }
    rare = rng.normal(size=(ROWS, 1)).astype(np.float32)
    rare[rng.random(ROWS) < 0.6] = np.nan
    labels = {"out": rng.normal(size=(ROWS, 1)).astype(np.float32), "rare": rare}
    return features, labels, rng.random(ROWS).astype(np.float32)


def make_streams(paths=("vector", "token"), change_fn=lambda path, columns: columns):
    return {
        path: tf.data.Dataset.from_tensor_slices(change_fn(path, make_columns())).batch(BATCH)
        for path in paths
    }


def make_mixed_streams():
    features, labels, weight = make_columns()
    ids = np.arange(ROWS) % 3 // 2  # in a part of one row, one path has none
    columns = ((features, ids), labels, weight)
    return {"mixed": tf.data.Dataset.from_tensor_slices(columns).batch(BATCH)}


def make_settings(model):
    """All that changes an update, spread over the two paths."""
    mask = np.array([1, 0, 1])

    def mask_fn(variable):
        return mask if variable is model.stages[-1].bias else None

    return {
        "vector": PathSettings(
            ADAM(0.02), clip_norm=0.7, accumulate=2, mask_fn=mask_fn, leak={"token": 0.3}
        ),
        "token": PathSettings(SGD(0.05, momentum=0.9), clip_value=0.2, loss_weight=2.0),
    }


def train(strategy=None, *, settings_fn=make_settings, streams=None, model_fn=make_model, **more):
    """Makes all under the strategy's scope and trains; returns the trainer."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = model_fn()
        settings = settings_fn(model)
    arguments = {"streams": streams or make_streams(), "steps": 15, "steps_per_loop": 4}
    trainer = Trainer(model, settings=settings, strategy=strategy, **arguments | more)
    trainer.run()
    return trainer


def state_of(trainer):
    """Weights, slots and clocks, as arrays."""
    slots = [v for step in trainer.path_steps for v in step.state]
    return [np.array(v) for v in [*trainer.model.variables, *slots]]


def assert_close(ours, theirs):
    """To 1e-5: the order of sums differs."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def assert_same_training(ours, theirs):
    assert_close(state_of(ours), state_of(theirs))
    one, other = ours.history, theirs.history
    assert (one.steps, one.examples, one.stopped) == (other.steps, other.examples, other.stopped)
    for path in one.losses:
        assert_close(one.losses[path], other.losses[path])


def replicas_agree(trainer):
    for variable in trainer.model.trainable_variables:
        first, *others = [np.array(v) for v in variable.value.values]
        for other in others:
            np.testing.assert_array_equal(first, other)


def check_equals_one_replica(strategy):
    ours = train(strategy)
    replicas_agree(ours)
    assert_same_training(ours, train())


def check_mixed_batches_equal_one_replica(strategy):
    for rule, optimizer_fn in {"sum": ADAM, "pcgrad": ADAMW}.items():  # Adam updates by rows

        def settings_fn(model, rule=rule, optimizer_fn=optimizer_fn):
            return {"mixed": PathSettings(optimizer_fn(0.02), clip_norm=0.7, conflicts=rule)}

        def run(strategy=None, settings_fn=settings_fn):
            return train(strategy, settings_fn=settings_fn, streams=make_mixed_streams())

        ours = run(strategy)
        replicas_agree(ours)
        assert_same_training(ours, run())


def check_shared_owners_equal_one_replica(strategy):
    """With a learning rate for each path, on its own clock."""

    def settings_fn(_):
        rates = {"vector": (0.02, 0.01), "token": (0.05, 0.001)}
        decay = keras.optimizers.schedules.PiecewiseConstantDecay
        return {path: PathSettings(ADAM(decay([2], values))) for path, values in rates.items()}

    ours = train(strategy, settings_fn=settings_fn, optimizer_state="shared")
    replicas_agree(ours)
    assert_same_training(ours, train(settings_fn=settings_fn, optimizer_state="shared"))


def check_a_group_without_rows_is_left_alone(strategy):
    """Its clock stands; it goes where only one replica has rows of the group."""

    def clocks(ids):
        features, labels, _ = make_columns()
        columns = ((features, np.array(ids)), labels)
        streams = {"mixed": tf.data.Dataset.from_tensor_slices(columns).batch(BATCH)}
        step: Any = train(strategy, settings_fn=lambda _: {}, streams=streams, steps=3).path_steps[
            0
        ]
        return {
            tuple(sorted(source.path for source in owner.sources)): int(
                owner.optimizer.iterations.numpy()
            )
            for owner in step.update.owners
        }

    one, other, both = ("vector",), ("token",), ("token", "vector")
    assert clocks([0] * ROWS) == {one: 3, other: 0, both: 3}
    assert clocks([0, 0, 1, 1, 1] * 2 + [0, 1]) == {one: 3, other: 3, both: 3}


def check_f10_conditions_around_updates(strategy):
    """Accumulator full or not, layer on or off, and momentum that stays where it is off."""
    layer = {}

    def model_fn():
        keras.utils.set_random_seed(7)
        dense = layers.Dense(6)
        dense.build([None, 6])
        layer["on"] = Conditional(dense, on=False)
        return make_model(extra=[layer["on"]])

    def settings_fn(model):
        return {
            "vector": PathSettings(ADAMW(0.02, weight_decay=0.1), accumulate=2),
            "token": PathSettings(SGD(0.05, momentum=0.9)),
        }

    def run(strategy=None):
        def switch(progress):
            layer["on"].on.assign(int(progress.step == 4))

        arguments = {"model_fn": model_fn, "settings_fn": settings_fn, "on_progress": switch}
        return train(strategy, **arguments)

    ours = run(strategy)
    replicas_agree(ours)
    assert_same_training(ours, run())


def check_f11_every_step_another_path(strategy):
    """More paths than `tf.switch_case` is used for on one device, 60 steps in one call."""
    paths = ("vector", "token", "third")
    streams = make_streams(paths)
    ours = train(
        strategy,
        model_fn=lambda: make_model(paths=paths),
        settings_fn=lambda model: {},
        streams=streams,
        schedule=lambda step: paths[step % 3],
        steps=60,
        steps_per_loop=60,
    )
    assert ours.history.steps == dict.fromkeys(paths, 20)
    assert ours.loop.num_traces == 1
    replicas_agree(ours)


def check_the_inactive_path_keeps_values_and_slots(strategy):
    seen = []

    def trainer_of(steps):
        def settings_fn(model):
            return {p: PathSettings(ADAMW(0.1, weight_decay=0.5)) for p in model.paths}

        trainer = train(
            strategy,
            settings_fn=settings_fn,
            schedule=lambda step: "token" if step < 3 else "vector",
            steps=steps,
            steps_per_loop=3,
        )
        state = [*trainer.model.own_state_of("token"), *trainer.optimizers["token"].variables]
        return [np.array(v) for variable in state for v in variable.value.values]

    seen = [trainer_of(3), trainer_of(9)]
    assert len(seen[0]) > 10
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def check_a_part_not_finite_stops_the_path_on_all(strategy, rows_here=slice(5, 10)):
    """Row 8 is in the second batch, and of the second replica alone."""

    def change_fn(path, columns):
        features, labels, weight = columns
        if path == "vector":
            features["vector"][8, 0] = np.inf
        return features, labels, weight

    def settings_fn(model):
        return {"vector": PathSettings(ADAMW(0.02, weight_decay=0.1))}

    streams = make_streams(change_fn=change_fn)
    trainer = train(strategy, settings_fn=settings_fn, streams=streams, steps_per_loop=15)
    assert trainer.history.stopped["vector"] == "loss or gradient not finite at step 2"
    assert trainer.history.steps == {"vector": 1, "token": 14}
    assert trainer.optimizers["vector"].iterations.numpy() == 1
    assert all(np.all(np.isfinite(v)) for v in state_of(trainer))
    failed = trainer.failed_batch("vector")[0]["vector"]
    expected = change_fn("vector", make_columns())[0]["vector"][rows_here]
    np.testing.assert_array_equal(failed, expected)
    assert keeps_before_checking(trainer)


def check_a_part_not_finite_leaves_the_statistics_of_all(strategy):
    """F28: the batch is refused, though only the second replica's rows are bad."""

    def change_fn(path, columns):
        columns[0]["vector"][8, 0] = np.inf
        return columns

    trainers = [
        train(
            strategy,
            model_fn=lambda: make_model(extra=[layers.BatchNormalization(), layers.Dropout(0.3)]),
            settings_fn=lambda model: {},
            streams=make_streams(("vector",), change_fn),
            steps=steps,
        )
        for steps in (1, 5)
    ]
    assert [t.history.steps["vector"] for t in trainers] == [1, 1]
    after_one, refused = ([*t.model.variables] for t in trainers)
    for one, other in zip(after_one, refused, strict=True):
        for mine, theirs in zip(one.value.values, other.value.values, strict=True):
            np.testing.assert_array_equal(np.array(mine), np.array(theirs), err_msg=one.path)


def check_an_update_waits_for_what_it_depends_on(strategy):
    """What of it needs no gradient too, such as the clock."""
    with strategy.scope():
        clock = tf.Variable(0.0)

    @tf.function(autograph=False)
    def update(loss):
        pairs = [(tf.constant(1.0), clock)]
        with tf.control_dependencies([tf.debugging.check_numerics(loss, "not finite")]):
            replicas_of(strategy).update(lambda pairs: clock.assign_add(1.0), pairs)

    update(tf.constant(0.0))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        update(tf.constant(np.nan))
    assert clock.numpy() == 1.0


def check_streams_end(strategy):
    def run(strategy=None):
        streams = make_streams()
        streams["vector"] = streams["vector"].repeat(2)
        schedule = Alternate(on_end="drop")
        return train(strategy, streams=streams, schedule=schedule, steps=30)

    ours = run(strategy)
    assert ours.history.steps == {"vector": 6, "token": 3}
    assert_same_training(ours, run())


def check_resuming_is_exact(strategy):
    def model_fn():
        return make_model(extra=[layers.BatchNormalization(), layers.Dropout(0.3)])

    def run(steps, directory=None):
        return train(strategy, model_fn=model_fn, steps=steps, checkpoint_dir=directory)

    with tempfile.TemporaryDirectory() as directory:
        run(7, directory)
        resumed = run(15, directory)
    whole = run(15)
    for one, other in zip(state_of(resumed), state_of(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [h.steps for h in (resumed.history, whole.history)] == [{"vector": 8, "token": 7}] * 2
    replicas_agree(resumed)


def check_early_stop_and_best_weights(strategy):
    def settings_fn(model):
        return {"token": PathSettings(SGD(0.3), early_stop=EarlyStop(patience=1))}

    def against(path, columns):
        features, labels, weight = columns
        return features, {name: -label for name, label in labels.items()}, weight

    def run(strategy=None):
        return train(
            strategy,
            settings_fn=settings_fn,
            validation={"token": make_streams(change_fn=against)["token"]},
            validate_every=3,
            tensorboard_dir=directory,
        )

    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = run(strategy), run()
        assert sorted(os.listdir(directory)) == ["token", "vector"]
    assert ours.history.stopped["token"].startswith("no improvement")
    assert_same_training(ours, theirs)
    assert_close(ours.history.validation["token"], theirs.history.validation["token"])


def check_what_cannot_be_is_refused(strategy):
    def expect(match, **arguments):
        with pytest.raises(ValueError, match=match):
            train(strategy, **arguments)

    def settings(**of_vector):
        return {"settings_fn": lambda model: {"vector": PathSettings(**of_vector)}}

    outside = make_model()
    Trainer(outside, streams=make_streams(), steps=1)
    expect("'.*kernel' was made outside of strategy.scope", model_fn=lambda: outside)
    alone = ADAM()
    expect("optimizer of path 'vector' was made outside", **settings(optimizer=alone))
    expect("gate of path 'vector' compares", **settings(gate=lambda losses: losses > 0))
    expect("jit_compile is not there under a strategy", jit_compile=True)
    scaled = keras.optimizers.LossScaleOptimizer
    expect(
        "has ema_overwrite_frequency",
        **settings(optimizer=ADAM(use_ema=True, ema_overwrite_frequency=2)),
    )
    expect("scales the loss", settings_fn=lambda model: {"vector": PathSettings(scaled(ADAM()))})
    mixed = {"streams": make_mixed_streams()}
    famo = {"settings_fn": lambda model: {"mixed": PathSettings(conflicts="famo")}}
    expect("conflicts='famo' of 'mixed'", **mixed, **famo)
    few = {p: s.unbatch().batch(1) for p, s in make_streams().items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer rows than .* replicas, 2"):
        train(strategy, streams=few)

    def model_fn():
        model = make_model()
        model.heads[0].loss = lambda label, output: tf.reduce_mean(label - output)
        return model

    expect("head 'out' is one number for the batch", model_fn=model_fn)
    with strategy.scope():
        model = make_model()
        model.build_path("vector", make_streams()["vector"].element_spec[0])
    with pytest.raises(ValueError, match=r"give it to Trainer\(strategy=…\)"):
        Trainer(model, streams=make_streams(), steps=1)
    with pytest.raises(ValueError, match="expected a tf.distribute.MirroredStrategy"):
        Trainer(model, streams=make_streams(), steps=1, strategy=tf.distribute.get_strategy())


def worker_check_equal_one_process(strategy, directory):
    ours = train(strategy)
    assert_same_training(ours, train())
    worker = strategy.cluster_resolver.task_id
    np.savez(f"{directory}/worker-{worker}.npz", *state_of(ours))


def worker_check_streams_end(strategy, directory):
    check_streams_end(strategy)


def worker_check_resume(strategy, directory):
    """The first alone writes and reports; a directory that is not shared is found out."""
    worker = strategy.cluster_resolver.task_id
    shared, seen = f"{directory}/checkpoints", []
    board = f"{directory}/board-{worker}"
    train(strategy, steps=7, checkpoint_dir=shared, on_progress=seen.append, tensorboard_dir=board)
    assert bool(seen) == os.path.exists(board) == (worker == 0)
    resumed, whole = train(strategy, checkpoint_dir=shared), train(strategy)
    for one, other in zip(state_of(resumed), state_of(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="one directory that all share"):
        train(strategy, checkpoint_dir=shared if worker == 0 else f"{directory}/own")


def worker_check_stop_together(strategy, directory):
    """The statistics of the two differ, and so do their validation losses."""

    def run(strategy, patience):
        def settings_fn(model):
            return {"token": PathSettings(SGD(0.3), early_stop=EarlyStop(patience=patience))}

        return train(
            strategy,
            model_fn=lambda: make_model(extra=[layers.BatchNormalization(momentum=0.5)]),
            settings_fn=settings_fn,
            validation={"token": make_streams()["token"]},
            validate_every=2,
            steps=20,
        )

    history = run(strategy, 1).history
    np.save(
        f"{directory}/validation-{strategy.cluster_resolver.task_id}.npy",
        history.validation["token"],
    )


def worker_check_stop_at_what_is_not_finite(strategy, directory):
    rows_here = slice(7, 10) if strategy.cluster_resolver.task_id else slice(5, 7)
    check_a_part_not_finite_stops_the_path_on_all(strategy, rows_here)


def run_checks(kind, results, *args):
    """Runs the checks whose name begins so; a line of results each."""
    for name, check in list(globals().items()):
        if name.startswith(kind):
            try:
                check(*args)
                outcome = "passed"
            except Exception:
                outcome = traceback.format_exc()
            with open(results, "a") as file:
                file.write(json.dumps([name, outcome]) + "\n")


def main():
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        run_checks("worker_check_", sys.argv[1], strategy, sys.argv[2])
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    run_checks("check_", sys.argv[1], tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))


if __name__ == "__main__":
    main()
    os._exit(0)  # as conftest.py says
