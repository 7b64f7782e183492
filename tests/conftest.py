import os
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import run_on_two_devices

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch

_STATUS = pytest.StashKey[int]()


def make_typed_model(**parts):
    """Two paths: `vector` (float [batch, 4]) and `token` (int [batch, 1]) → trunk → one output."""
    keras.utils.set_random_seed(7)
    token = keras.Sequential([keras.layers.Embedding(6, 3), keras.layers.Flatten()])
    branches = {"vector": keras.layers.Dense(3, activation="relu"), "token": token}
    model = BranchedModel(
        [
            Switch("encoder", **branches | parts),
            keras.layers.Dense(3, activation="tanh", name="trunk"),
        ],
        heads=[Head("out", keras.layers.Dense(1), loss="mse")],
        paths={"vector": Path(encoder="vector"), "token": Path(encoder="token")},
    )
    model.build_path("vector", tf.TensorSpec([None, 4]))
    model.build_path("token", tf.TensorSpec([None, 1], tf.int64))
    return model


def make_typed_batches(num_batches=4, rows=5):
    """path → list of (features, labels) batches of `make_typed_model`."""
    rng = np.random.default_rng(3)

    def labels():
        return rng.normal(size=(rows, 1)).astype(np.float32)

    return {
        "vector": [
            (rng.normal(size=(rows, 4)).astype(np.float32), labels()) for _ in range(num_batches)
        ],
        "token": [(rng.integers(0, 6, size=(rows, 1)), labels()) for _ in range(num_batches)],
    }


def as_stream(batches):
    """A dataset of these batches."""
    columns = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    rows = len(tf.nest.flatten(batches[0])[0])
    options = tf.data.Options()
    options.autotune.enabled = False  # its threads take long to end
    return tf.data.Dataset.from_tensor_slices(columns).batch(rows).with_options(options)


@pytest.fixture
def typed_model():
    return make_typed_model


@pytest.fixture
def typed_batches():
    return make_typed_batches


@pytest.fixture
def stream_of():
    return as_stream


@pytest.fixture
def values_of():
    """Function variables → list of arrays, to compare bit for bit."""
    return lambda variables: [np.array(v) for v in variables]


@pytest.fixture
def train_by_hand():
    """The oracle: a plain tape loop, one step per route, an optimizer per path, no library."""

    def mean_square(output, labels):
        return tf.reduce_mean(tf.square(output["out"] - labels))

    def make_step(model, path, optimizer, loss_fn):
        variables = model.variables_of(path)
        optimizer.build(variables)

        @tf.function(reduce_retracing=True)
        def step(features, labels):
            with tf.GradientTape() as tape:
                loss = loss_fn(model(features, path=path, training=True), labels)
            gradients = tape.gradient(loss, [v.value for v in variables])
            gradients = [tf.convert_to_tensor(g) for g in gradients]  # not by sparse rows
            optimizer.apply(gradients, variables)
            return loss

        return step

    def train(model, routes, batches, optimizers, loss_fn=mean_square):
        steps = {path: make_step(model, path, optimizers[path], loss_fn) for path in batches}
        taken = dict.fromkeys(batches, 0)
        losses = []
        for path in routes:
            batch = batches[path][taken[path] % len(batches[path])]
            taken[path] += 1
            losses.append(float(steps[path](*tf.nest.map_structure(tf.constant, batch))))
        return losses

    return train


@pytest.fixture(scope="session")
def outcome_on_two_devices(tmp_path_factory):
    """Name of a check of replicas.py → "passed", or what went wrong."""
    return run_on_two_devices(tmp_path_factory.mktemp("devices"))


@pytest.fixture(autouse=True)
def _beam_at_rest():
    """Waits until no worker of Beam is at work any more.

    A pipeline that fails leaves its other workers running for a while. They draw from Python's
    `random`, from which Keras draws the initial weights of the next test.
    """
    yield
    beam = sys.modules.get("apache_beam.utils.thread_pool_executor")
    workers = list(beam.shared_unbounded_instance()._workers) if beam else []
    end = time.monotonic() + 30
    while any(worker._work_item for worker in workers) and time.monotonic() < end:
        time.sleep(0.01)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Ends the process where it is: TensorFlow 2.16 can wait for ever for an iterator's threads.

    Seen after the last line of a run, in ~LogicalThreadWrapper, when iterators that a failed test's
    traceback holds are destroyed with the interpreter.
    """
    if _STATUS in config.stash:
        config.get_terminal_writer().flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_STATUS])
