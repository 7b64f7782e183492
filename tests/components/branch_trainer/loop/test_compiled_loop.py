"""Windows of steps that XLA compiles: the same training as step by step."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from branchline.components.branch_trainer import (
    BranchedModel,
    Embedding,
    Head,
    Path,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.loop import faster_loop
from branchline.components.branch_trainer.loop.compiled_loop import CompiledLoop
from branchline.components.branch_trainer.loop.history import COMPILED, OPERATIONS
from branchline.components.branch_trainer.loop.loop import Outcome

layers = keras.layers
ROWS = 4
VOCABULARY = 7


def make_model(*names):
    """A path per name: `ids…` look ids up, `many…` of a large table; `norm…` have statistics."""
    keras.utils.set_random_seed(1)

    def branch(name):
        if name.startswith("ids"):
            return keras.Sequential([Embedding(VOCABULARY, 3), layers.Flatten()])
        if name.startswith("many"):
            return keras.Sequential([Embedding(50 * VOCABULARY, 3), layers.Flatten()])
        if name.startswith("norm"):
            return keras.Sequential([layers.Dense(3, use_bias=False), layers.BatchNormalization()])
        return layers.Dense(3, "tanh")

    return BranchedModel(
        [Switch("kind", **{name: branch(name) for name in names})],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={name: Path(kind=name) for name in names},
    )


def make_batches(name, count=6, seed=0):
    rng = np.random.default_rng([seed, len(name)])
    rows = count * ROWS
    x = rng.normal(size=(rows, 2)).astype(np.float32)
    if name.startswith(("ids", "many")):
        x = rng.integers(0, VOCABULARY, size=(rows, 1))
    return x, rng.normal(size=(rows, 1)).astype(np.float32)


def stream_of(columns):
    options = tf.data.Options()
    options.autotune.enabled = False  # its threads take long to end
    stream = tf.data.Dataset.from_tensor_slices(columns).batch(ROWS, drop_remainder=True)
    return stream.with_options(options)


def streams_of(*names):
    return {name: stream_of(make_batches(name)) for name in names}


def state_of(trainer):
    """All weights, statistics, slots and clocks."""
    slots = [v for step in trainer.path_steps for v in step.state]
    return [np.array(v) for v in [*trainer.model.variables, *slots]]


def train(names, streams=None, **options):
    streams = streams or streams_of(*names)
    trainer = Trainer(make_model(*names), streams=streams, **{"steps": 24, **options})
    trainer.run()
    return trainer


@pytest.mark.parametrize("names", [["dense"], ["many", "ids", "norm"]], ids=len)
def test_windows_train_as_single_steps_do(names):
    options = {"steps_per_loop": 7, "validate_every": 5, "validation": streams_of(names[0])}
    plain = train(names, **options)
    compiled = train(names, **options, jit_compile=True)
    assert isinstance(compiled.loop, CompiledLoop) and compiled.loop.num_traces == 1
    assert compiled.history.loop == COMPILED and plain.history.loop == OPERATIONS
    assert compiled.history.steps == plain.history.steps
    assert compiled.history.examples == plain.history.examples
    for path, losses in plain.history.losses.items():
        np.testing.assert_allclose(compiled.history.losses[path], losses, rtol=1e-4)
    for mine, other in zip(state_of(compiled), state_of(plain), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_windows_of_whatever_routes_and_places_are_compiled_once():
    """Were a place a constant of the program, each of these windows would be compiled anew."""
    names = ["many", "ids"]
    steps = Trainer(make_model(*names), streams=streams_of(*names), steps=1).path_steps
    loop = CompiledLoop(steps, [stream.repeat() for stream in streams_of(*names).values()], 8)
    started = time.monotonic()
    loop.compile()
    compiling = time.monotonic() - started
    rng = np.random.default_rng(0)
    started = time.monotonic()
    for count in (8, 8, 5, 8, 1, 8, 8):
        assert loop.run(rng.integers(0, 2, count).astype(np.int32)).taken == count
    assert time.monotonic() - started < compiling  # about a hundredth of it; one by one, five times


def test_an_inactive_branch_keeps_its_bits():
    model = make_model("dense", "norm")
    trainer = Trainer(model, streams=streams_of("dense", "norm"), steps=20, jit_compile=True)
    own = [
        v for v in model.state_of("norm") if v.path not in {s.path for s in model.state_of("dense")}
    ]
    before = [np.array(v) for v in own]
    assert len(before) > 4
    trainer.loop.run(np.zeros(13, np.int32))
    for was, variable in zip(before, own, strict=True):
        np.testing.assert_array_equal(was, variable)
    trainer.loop.run(np.ones(1, np.int32))
    assert any(np.any(was != np.array(v)) for was, v in zip(before, own, strict=True))


def test_resumed_windows_give_the_same_bits(tmp_path):
    names = ["ids", "norm"]
    options = {"jit_compile": True, "steps_per_loop": 4, "checkpoint_every": 4}
    whole = train(names, **options, checkpoint_dir=tmp_path / "whole")
    train(names, **options, checkpoint_dir=tmp_path / "parts", steps=10)
    rest = train(names, **options, checkpoint_dir=tmp_path / "parts")
    assert rest.history.steps == whole.history.steps
    for mine, other in zip(state_of(rest), state_of(whole), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_paths_go_on_from_their_next_batch_behind_a_step_that_is_not_finite(tmp_path):
    names = ["dense", "ids"]
    streams = streams_of("dense")
    x, y = make_batches("ids")
    y[2 * ROWS] = np.nan
    streams["ids"] = stream_of((x, y))
    plain = train(names, streams, steps_per_loop=20)
    options = {"steps_per_loop": 20, "jit_compile": True, "checkpoint_dir": tmp_path}
    compiled = train(names, streams, **options)
    assert compiled.history.stopped == plain.history.stopped
    assert compiled.history.stopped["ids"] == "loss or gradient not finite at step 5"
    assert compiled.history.steps == plain.history.steps
    np.testing.assert_array_equal(compiled.failed_batch("ids")[0], x[2 * ROWS : 3 * ROWS])
    assert compiled.failed_batch("dense") is None
    resumed = Trainer(make_model(*names), streams=streams, steps=24, **options)
    np.testing.assert_array_equal(resumed.failed_batch("ids")[0], x[2 * ROWS : 3 * ROWS])
    for mine, other in zip(state_of(compiled), state_of(plain), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrong", [VOCABULARY, -1])
def test_an_id_without_a_row_ends_its_path_and_changes_nothing(wrong):
    x, y = make_batches("ids")
    x[0, 0] = wrong
    model = make_model("ids")
    trainer = Trainer(model, streams={"ids": stream_of((x, y))}, steps=3, jit_compile=True)
    before = state_of(trainer)
    history = trainer.run()
    assert history.stopped["ids"].startswith("loss or gradient not finite at step 0")
    np.testing.assert_array_equal(trainer.failed_batch("ids")[0], x[:ROWS])
    for was, now in zip(before, state_of(trainer), strict=True):
        np.testing.assert_array_equal(was, now)


class Adding:
    """A step that adds up what it is given, times ten each time: it tells the order of batches."""

    def __init__(self):
        self.seen = tf.Variable(tf.zeros([], tf.float64))

    def masked(self, batch):
        number = batch[0][0]
        good = tf.math.is_finite(number)
        new = tf.where(good, self.seen * 10 + tf.cast(number, tf.float64), self.seen)
        self.seen.assign(new)
        return tf.stack([number, 0.0, 1.0])


@st.composite
def _plans(draw):
    count = draw(st.integers(1, 3))
    numbers = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, np.nan]), min_size=1, max_size=9)
    streams = [draw(numbers) for _ in range(count)]
    asked = st.lists(st.integers(0, count - 1), min_size=1, max_size=9)
    return streams, draw(st.lists(asked, min_size=1, max_size=4)), draw(st.integers(1, 5))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_plans())
def test_no_batch_is_lost_or_taken_twice(plan):
    """Against a plain loop over lists, whatever the streams, the windows and the routes."""
    numbers, calls, size = plan
    steps = [Adding() for _ in numbers]
    streams = [
        tf.data.Dataset.from_tensor_slices((np.float32(of_one)[:, None], np.float32(of_one)))
        for of_one in numbers
    ]
    loop = CompiledLoop(steps, streams, size)
    rest = [list(of_one) for of_one in numbers]
    seen = [0.0] * len(numbers)
    for routes in calls:
        status, losses = Outcome.STEPPED, []
        for route in routes:
            if not rest[route]:
                status = Outcome.STREAM_ENDED
                break
            number = rest[route].pop(0)
            if np.isnan(number):
                status = Outcome.NOT_FINITE
                break
            seen[route] = seen[route] * 10 + number
            losses.append(number)
        chunk = loop.run(np.array(routes, np.int32))
        assert (chunk.outcome, chunk.taken) == (status, len(losses))
        np.testing.assert_array_equal(chunk.losses, np.float32(losses))
    assert [float(step.seen) for step in steps] == seen


def test_a_stream_that_cannot_be_read_on_ends_training_by_an_error():
    def checked(x, y):
        with tf.control_dependencies([tf.debugging.assert_less(x[0, 0], 50.0, "broken")]):
            return tf.identity(x), y

    x, y = make_batches("dense")
    x[4 * ROWS, 0] = 99
    streams = {"dense": stream_of((x, y)).map(checked), "norm": streams_of("norm")["norm"]}
    trainer = Trainer(
        make_model("dense", "norm"), streams=streams, steps=24, steps_per_loop=4, jit_compile=True
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="path 'dense' could not be read on"):
        trainer.run()
    # The block of four batches before the broken one was taken, and norm's turns between.
    assert trainer.history.steps == {"dense": 4, "norm": 4}


def test_auto_takes_the_faster_loop_and_says_which(monkeypatch):
    names = ["dense", "ids"]
    plain = train(names, steps=60, steps_per_loop=5)
    short = train(names, steps=60, steps_per_loop=5, jit_compile="auto")
    assert short.history.loop == OPERATIONS  # too short to compile anything
    for mine, other in zip(state_of(short), state_of(plain), strict=True):
        np.testing.assert_array_equal(mine, other)
    monkeypatch.setattr(faster_loop, "_WORTH", 0)
    tried = train(names, steps=60, steps_per_loop=5, jit_compile="auto")
    assert tried.history.loop in (OPERATIONS, COMPILED)
    assert tried.history.steps == plain.history.steps
    for mine, other in zip(state_of(tried), state_of(plain), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("seconds", "tries"), [(1.0, None), (4.0, 3), (20.0, 1)])
def test_auto_goes_on_in_the_loop_that_took_less_time(monkeypatch, tmp_path, seconds, tries):
    """As operations a call takes 2 s by this clock. A resumed training does not ask again."""
    faster = OPERATIONS if tries else COMPILED
    monkeypatch.setattr(faster_loop, "_WORTH", 0)
    now, calls = [0.0], []

    class Clock:
        @staticmethod
        def monotonic():
            return now[0]

    monkeypatch.setattr(faster_loop, "time", Clock)
    model = make_model("dense", "ids")

    options = {"steps": 60, "steps_per_loop": 5, "jit_compile": "auto"}
    trainer = Trainer(model, streams=streams_of("dense", "ids"), checkpoint_dir=tmp_path, **options)
    for name, kind in ((OPERATIONS, faster_loop.Loop), (COMPILED, CompiledLoop)):
        run = kind.run

        def timed(self, routes, run=run, name=name):
            now[0] += seconds if name == COMPILED else 2.0
            calls.append(name)
            return run(self, routes)

        monkeypatch.setattr(kind, "run", timed)
    trainer.run()
    assert trainer.history.loop == faster
    assert tries in (None, calls.count(COMPILED))
    assert trainer.history.steps == {"dense": 30, "ids": 30}
    again = Trainer(
        make_model("dense", "ids"),
        streams=streams_of("dense", "ids"),
        checkpoint_dir=tmp_path,
        **{**options, "steps": 70},
    )
    assert again.history.loop == faster
    assert isinstance(vars(again.loop)["_loop"], CompiledLoop) == (faster == COMPILED)


class InPython(layers.Layer):
    """Runs Python code, which XLA cannot compile."""

    def call(self, inputs):
        outputs = tf.py_function(lambda x: x * 2.0, [inputs], tf.float32)
        return tf.ensure_shape(outputs, inputs.shape)


def test_what_xla_cannot_compile_is_said_or_runs_as_operations(monkeypatch):
    def model():
        return BranchedModel(
            [InPython()], heads=[Head("y", layers.Dense(1), loss="mse")], paths={"dense": Path()}
        )

    with pytest.raises(ValueError, match="XLA cannot compile the steps; train without jit_compile"):
        Trainer(model(), streams=streams_of("dense"), steps=3, jit_compile=True)
    monkeypatch.setattr(faster_loop, "_WORTH", 0)
    trainer = Trainer(
        model(), streams=streams_of("dense"), steps=30, steps_per_loop=3, jit_compile="auto"
    )
    assert trainer.run().loop == OPERATIONS and trainer.history.steps == {"dense": 30}


def test_auto_leaves_a_stream_alone_that_is_being_cached_in_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(faster_loop, "_WORTH", 0)
    # More batches than are read ahead: the file is not complete when the other loop is tried.
    stream = stream_of(make_batches("dense", count=1000)).cache(str(tmp_path / "rows"))
    trainer = train(["dense"], {"dense": stream}, steps=50, steps_per_loop=5, jit_compile="auto")
    assert trainer.history.loop == OPERATIONS and trainer.history.steps["dense"] == 50


def test_batches_of_several_shapes_run_as_operations():
    stream = tf.data.Dataset.from_tensor_slices(make_batches("dense")).batch(ROWS + 1)
    trainer = train(["dense"], {"dense": stream}, jit_compile="auto")
    assert trainer.history.loop == OPERATIONS and trainer.history.steps["dense"] == 24


def test_windows_hold_few_bytes_of_large_batches():
    loop = CompiledLoop(
        [None], [tf.data.Dataset.from_tensors((tf.zeros([8, 1 << 20]), tf.zeros([8]))).repeat()], 50
    )
    assert loop._size == 1


def test_another_word_is_refused():
    with pytest.raises(
        ValueError, match="jit_compile='always', expected one of False, True, 'auto'"
    ):
        Trainer(make_model("dense"), streams=streams_of("dense"), steps=1, jit_compile="always")
