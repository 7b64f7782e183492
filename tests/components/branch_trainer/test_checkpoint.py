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
    Trainer,
    Weighted,
)

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


def test_a_batch_that_failed_can_be_had_after_resuming(
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


def test_the_last_two_checkpoints_are_kept(typed_model, typed_batches, stream_of, tmp_path):
    make_trainer(typed_model, typed_batches(), stream_of, tmp_path).run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000000020", "step-000000000030"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {}}, "optimizer slots are"),
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
    root = str(pathlib.Path(__file__).parents[3])
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
