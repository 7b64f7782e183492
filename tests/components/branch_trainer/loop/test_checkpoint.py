import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    Conditional,
    EarlyStop,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
    Weighted,
)
from branchline.components.branch_trainer.loop.checkpoint import Checkpoints, described
from branchline.schemas.schedules import as_schedule

WEIGHTED = Weighted({"vector": 1.0, "token": 2.0})


def make_trainer(typed_model, batches, stream_of, directory, **changes):
    keras.utils.set_random_seed(0)  # also part of what shuffle(seed=…) draws
    streams = {
        path: stream_of(of_path)
        .unbatch()
        .shuffle(9, seed=4)
        .batch(3)
        .prefetch(2)  # see checkpoint.py
        for path, of_path in batches.items()
    }
    arguments = {
        "streams": streams,
        "schedule": WEIGHTED,
        "settings": {
            "vector": PathSettings(accumulate=3),
            "token": PathSettings(
                optimizer=keras.optimizers.SGD(0.1, momentum=0.9), early_stop=EarlyStop(patience=1)
            ),
        },
        "validation": {"token": stream_of([(x, -y) for x, y in batches["token"]])},
        "validate_every": 9,
        "steps": 30,
        "steps_per_loop": 4,
        "checkpoint_dir": directory,
        "checkpoint_every": 10,
    }
    dropout = keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.3)])
    return Trainer(typed_model(vector=dropout), **arguments | changes)


class Killed(Exception):
    pass


def kill_at(step):
    def on_progress(progress):
        if progress.step >= step:
            raise Killed

    return on_progress


@pytest.mark.parametrize("killed_at", [5, 10, 18, 27], ids=lambda step: f"step {step}")
def test_training_resumed_equals_training_never_interrupted(
    typed_model, typed_batches, stream_of, tmp_path, killed_at
):
    def trainer(directory, **changes):
        return make_trainer(typed_model, typed_batches(), stream_of, directory, **changes)

    whole = trainer(tmp_path / "whole")
    expected = whole.run()
    assert expected.stopped["token"].startswith("no improvement until step 18")
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", on_progress=kill_at(killed_at)).run()
    resumed = trainer(tmp_path / "cut")
    assert resumed.history.step == (killed_at - 1) // 10 * 10  # killed before the save at 10
    history = resumed.run()
    as_json = [json.dumps(vars(h)) for h in (history, expected)]
    assert as_json[0] == as_json[1]
    for now, never in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(now, never, err_msg=now.path)
    for now, never in zip(resumed.path_steps, whole.path_steps, strict=True):
        for one, other in zip(now.state, never.state, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_on_progress_sets_in_the_model_is_in_the_checkpoint_of_that_step(
    typed_batches, stream_of, tmp_path
):
    def train(directory, *, killed_at=None):
        keras.utils.set_random_seed(5)
        late = Conditional(keras.layers.Dense(3), on=False)
        late.layer.build([None, 3])
        model = BranchedModel(
            [keras.layers.Dense(3), late],
            heads=[Head("out", keras.layers.Dense(1), loss="mse")],
            paths={"vector": Path()},
        )

        def switch_on(progress):
            if progress.step == killed_at:
                raise Killed
            late.on.assign(int(progress.step >= 10))

        Trainer(
            model,
            streams={"vector": stream_of(typed_batches()["vector"])},
            steps=20,
            steps_per_loop=5,
            checkpoint_dir=directory,
            checkpoint_every=10,
            on_progress=switch_on,
        ).run()
        return model

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", killed_at=15)
    resumed = train(tmp_path / "cut")
    for now, never in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(now, never, err_msg=now.path)


def test_a_finished_training_is_not_trained_again(typed_model, typed_batches, stream_of, tmp_path):
    first = make_trainer(typed_model, typed_batches(), stream_of, tmp_path)
    first.run()
    seen = []
    again = make_trainer(typed_model, typed_batches(), stream_of, tmp_path, on_progress=seen.append)
    again.run()
    assert seen == []
    for now, then in zip(again.model.variables, first.model.variables, strict=True):
        np.testing.assert_array_equal(now, then)


def test_without_resume_training_starts_anew(typed_model, typed_batches, stream_of, tmp_path):
    make_trainer(typed_model, typed_batches(), stream_of, tmp_path).run()
    anew = make_trainer(typed_model, typed_batches(), stream_of, tmp_path, resume=False)
    assert anew.history.step == 0
    assert list(tmp_path.glob("step-*")) == []


def test_f40_a_batch_that_failed_can_be_had_after_resuming(
    typed_model, typed_batches, stream_of, tmp_path
):
    batches = typed_batches()
    batches["token"][1][1][:] = np.inf
    trainer = make_trainer(typed_model, batches, stream_of, tmp_path)
    trainer.run()
    resumed = make_trainer(typed_model, batches, stream_of, tmp_path)
    again = resumed.failed_batch("token")
    for part, was in zip(again, trainer.failed_batch("token"), strict=True):
        np.testing.assert_array_equal(part, was)
    assert np.any(np.isinf(again[1])) and resumed.failed_batch("vector") is None
    for part, was in zip(resumed.failed_batch("token"), again, strict=True):  # F40: asked twice
        np.testing.assert_array_equal(part, was)


def test_the_last_two_checkpoints_are_kept(typed_model, typed_batches, stream_of, tmp_path):
    make_trainer(typed_model, typed_batches(), stream_of, tmp_path).run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000000020", "step-000000000030"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {}}, "optimizers are"),
        ({"schedule": Alternate("b"), "streams": None}, "streams are"),
    ],
    ids=["optimizers", "streams"],
)
def test_a_checkpoint_of_another_training_is_refused(
    typed_model, typed_batches, stream_of, tmp_path, changes, message
):
    batches = typed_batches()
    make_trainer(typed_model, batches, stream_of, tmp_path).run()
    if "streams" in changes:
        changes["streams"] = {
            p: stream_of(b).map(lambda x, y: (x, y, y[:, 0])) for p, b in batches.items()
        }
    with pytest.raises(ValueError, match=f"is of another training: its {message}"):
        make_trainer(typed_model, batches, stream_of, tmp_path, **changes)


def test_streams_that_could_not_be_resumed_are_refused(typed_model, tmp_path):
    shuffled = tf.data.Dataset.from_tensors((tf.ones([4]), tf.ones([1]))).shuffle(3)
    streams = {
        "vector": shuffled.batch(2),
        "token": shuffled.map(lambda x, y: (tf.cast(x[:1], tf.int64), y)).batch(2),
    }
    with pytest.raises(ValueError, match="'vector' and 'token' read one shuffled dataset"):
        Trainer(typed_model(), streams=streams, steps=1, checkpoint_dir=tmp_path)
    Trainer(typed_model(), streams=streams, steps=1)


def test_f38_the_last_step_is_saved_once_and_a_finished_training_not_again(
    typed_model, typed_batches, stream_of, tmp_path, monkeypatch
):
    def saved():
        return {file: file.stat().st_mtime_ns for file in tmp_path.glob("step-*/*")}

    seen = []
    trainer = make_trainer(typed_model, typed_batches(), stream_of, tmp_path)
    save = trainer.saver.checkpoints.save

    def watched(step, progress):
        seen.append(step)
        save(step, progress)

    monkeypatch.setattr(trainer.saver.checkpoints, "save", watched)
    trainer.run()
    assert seen == [10, 20, 30]
    before = saved()
    make_trainer(typed_model, typed_batches(), stream_of, tmp_path).run()
    assert saved() == before


def checkpoints_of(value, directory):
    variable = tf.Variable(tf.fill([1000], value))
    return variable, Checkpoints(directory, {"weights": [variable]}, {})


def test_a_checkpoint_that_tensorflow_wrote_is_read_as_our_own(tmp_path):
    """So they were written once, and TensorFlow's tools read ours."""
    _, checkpoints = checkpoints_of(1.0, tmp_path)
    checkpoints.save(7, {"step": 7})
    prefix = str(tmp_path / "step-000000000007" / "tensors")
    theirs = tf.train.Checkpoint(weights=[tf.Variable(tf.fill([1000], 2.0))])
    ours = tf.train.load_checkpoint(prefix)
    (name,) = ours.get_variable_to_shape_map()
    np.testing.assert_array_equal(ours.get_tensor(name), np.ones(1000))
    theirs.write(prefix)
    assert name in tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    variable, again = checkpoints_of(0.0, tmp_path)
    assert again.restore() == {"step": 7}
    np.testing.assert_array_equal(variable, np.full(1000, 2.0))


def test_f38_a_second_checkpoint_of_one_step_is_written_beside_the_first(tmp_path):
    """Not over it, which a process that is killed meanwhile would leave in pieces."""
    _, checkpoints = checkpoints_of(1.0, tmp_path)
    for attempt in range(4):
        checkpoints.save(7, {"attempt": attempt})
    assert checkpoints_of(0.0, tmp_path)[1].restore() == {"attempt": 3}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("removed", range(1, 5))
def test_f38_a_removal_cut_off_leaves_nothing_that_counts(tmp_path, removed):
    """Or it would be taken for the newest."""
    _, checkpoints = checkpoints_of(1.0, tmp_path)
    checkpoints.save(3, {"step": 3})
    order = []

    def cut_off(operation):
        def run(path):
            if len(order) == removed:
                raise Killed
            order.append(path)
            operation(path)

        return run

    remove, rmtree = tf.io.gfile.remove, tf.io.gfile.rmtree
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.io.gfile, "remove", cut_off(remove))
        patch.setattr(tf.io.gfile, "rmtree", lambda folder: [
            patched(str(file)) for patched in [cut_off(os.remove)]
            for file in sorted(pathlib.Path(folder).iterdir(), reverse=True)
        ] and rmtree(folder))  # fmt: skip
        try:
            checkpoints.clear()
        except Killed:
            pass
    assert order
    assert checkpoints_of(0.0, tmp_path)[1].restore() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 100], ids="{} bytes left".format)
@pytest.mark.parametrize("file", ["facts.json", "tensors.index", "tensors.data-00000-of-00001"])
def test_f38_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    tmp_path, caplog, file, size
):
    variable, checkpoints = checkpoints_of(1.0, tmp_path)
    checkpoints.save(1, {"step": 1})
    variable.assign(tf.fill([1000], 2.0))
    checkpoints.save(2, {"step": 2})
    newest = tmp_path / "step-000000000002"
    os.truncate(newest / file, size)
    fresh, again = checkpoints_of(0.0, tmp_path)
    assert again.restore() == {"step": 1}
    np.testing.assert_array_equal(fresh, np.ones(1000))
    assert f"{newest} cannot be read" in caplog.text
    again.save(2, {"step": 2})
    again.save(3, {"step": 3})
    assert checkpoints_of(0.0, tmp_path)[1].restore() == {"step": 3}
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == ["step-000000000002-0001", "step-000000000003"]


def test_f38_damaged_checkpoints_alone_are_an_error(tmp_path):
    _, checkpoints = checkpoints_of(1.0, tmp_path)
    checkpoints.save(1, {})
    os.truncate(tmp_path / "step-000000000001" / "facts.json", 5)
    with pytest.raises(ValueError, match=r"None of .*'step-000000000001'.* can be read"):
        checkpoints_of(0.0, tmp_path)[1].restore()


def test_f38_checkpoints_lie_where_their_url_says(
    typed_model, typed_batches, stream_of, tmp_path, monkeypatch
):
    """A file system in memory stands for a bucket."""
    monkeypatch.chdir(tmp_path)
    whole = make_trainer(typed_model, typed_batches(), stream_of, "ram://f38/whole")
    whole.run()
    with pytest.raises(Killed):
        make_trainer(
            typed_model, typed_batches(), stream_of, "ram://f38/cut", on_progress=kill_at(18)
        ).run()
    resumed = make_trainer(typed_model, typed_batches(), stream_of, "ram://f38/cut")
    assert resumed.history.step == 10
    assert json.dumps(vars(resumed.run())) == json.dumps(vars(whole.history))
    anew = make_trainer(typed_model, typed_batches(), stream_of, "ram://f38/cut", resume=False)
    assert anew.history.step == 0 and tf.io.gfile.listdir("ram://f38/cut") == []
    assert list(tmp_path.iterdir()) == []


def test_f41_equal_branches_in_another_order_are_not_taken_for_each_other(
    typed_batches, stream_of, tmp_path
):
    x, y = typed_batches()["vector"][0]

    def train(names):
        model = BranchedModel(
            [Switch("s", **{name: keras.layers.Dense(3) for name in names})],
            heads=[Head("y", keras.layers.Dense(1), loss="mse")],
            paths={name: Path(s=name) for name in "ab"},
        )
        streams = {name: stream_of([(x, y)]) for name in "ab"}
        return Trainer(model, streams=streams, steps=4, checkpoint_dir=tmp_path)

    train("ab").run()
    assert train("ab").history.step == 4
    with pytest.raises(ValueError, match="its parts and their variables are"):
        train("ba")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": Weighted({"vector": 1.0, "token": 3.0})}, "schedule settings are"),
        ({"schedule": Alternate("ab")}, "schedule settings are"),
        ({"seed": 1}, "seeds are"),
        ({"size": 4}, "stream lengths are"),
        ({"optimizer": keras.optimizers.Lion}, "optimizers are"),
    ],
    ids=["weights", "kind of schedule", "seed", "batch size", "optimizer"],
)
def test_f41_a_training_that_goes_otherwise_is_not_resumed(
    typed_model, typed_batches, stream_of, tmp_path, changes, message
):
    def trainer(schedule=WEIGHTED, size=5, seed=0, optimizer=keras.optimizers.Adagrad, steps=4):
        streams = {
            path: stream_of(b).unbatch().apply(tf.data.experimental.assert_cardinality(20))
            for path, b in typed_batches().items()
        }
        return Trainer(
            typed_model(),
            streams={path: stream.batch(size) for path, stream in streams.items()},
            schedule=schedule,
            settings={path: PathSettings(optimizer()) for path in streams},
            seed=seed,
            steps=steps,
            checkpoint_dir=tmp_path,
        )

    trainer().run()
    assert trainer(steps=9).history.step == 4
    with pytest.raises(ValueError, match=f"is of another training: its {message}"):
        trainer(**changes)


def test_f41_schedules_are_told_apart_by_what_they_are_made_of():
    def every_other(step):
        return "ab"[step % 2]

    plain = described(as_schedule(every_other))
    assert json.loads(json.dumps(plain)) == plain == described(as_schedule(every_other))
    assert "every_other" in json.dumps(plain)
    assert described(Weighted({"a": 1, "b": 2})) == described(Weighted({"b": 2, "a": 1}))
    assert described(Alternate("ab")) != described(Alternate("ab", on_end="drop"))


PROGRAM = """
import sys, time, keras, numpy as np, tensorflow as tf
from branchline.components.branch_trainer import *
keras.utils.set_random_seed(1)
layer = keras.layers
model = BranchedModel(
    [Switch("s", a=layer.Dense(4), b=layer.Dense(4)), layer.Dropout(0.2)],
    heads=[Head("y", layer.Dense(1), loss="mse")], paths={"a": Path(s="a"), "b": Path(s="b")})
x = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
def stream(seed):
    return tf.data.Dataset.from_tensor_slices((x, x[:, :1])).shuffle(40, seed=seed).batch(8)
trainer = Trainer(model, streams={"a": stream(1), "b": stream(2)},
    schedule=Weighted({"a": 1, "b": 2}), steps=120, steps_per_loop=3,
    checkpoint_dir=sys.argv[1], checkpoint_every=1,
    on_progress=lambda p: print(p.step, flush=True))
print("ready", flush=True)
trainer.run()
np.savez(sys.argv[2], *[np.array(v) for v in model.variables],
    *[np.array(v) for step in trainer.path_steps for v in step.state])
"""


def start(directory, result):
    root = str(pathlib.Path(__file__).parents[4])
    environment = os.environ | {"PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), str(result)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_training_killed_at_any_moment_ends_as_if_it_had_not_been(tmp_path):
    """SIGKILL while a step or, mostly, a save is under way; more kills: BRANCHLINE_KILLS=20."""
    expected = tmp_path / "expected.npz"
    whole = start(tmp_path / "whole", expected)
    whole.communicate()
    assert whole.returncode == 0
    rng = random.Random(0)
    kills = int(os.environ.get("BRANCHLINE_KILLS", "2"))
    for _ in range(kills):
        process = start(tmp_path / "cut", tmp_path / "never.npz")
        process.stdout.readline()
        for _ in range(rng.randrange(1, 100 // kills)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    last = start(tmp_path / "cut", tmp_path / "resumed.npz")
    steps = last.communicate()[0].split()[1:]
    assert int(steps[0]) > 1  # it did resume
    with np.load(expected) as one, np.load(tmp_path / "resumed.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
