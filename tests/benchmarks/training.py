"""Measures training speed: the library against the same model trained in other ways.

    python tests/benchmarks/training.py [--output FILE.json] [--repeats 5]

The model: float vectors (10 → 16) and ids (100 → 16), a shared output layer, batch 256,
Adam. Every ratio is of medians from this run.
"""

import argparse
import json
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer import (
    BranchedModel,
    Embedding,
    Head,
    Path,
    Switch,
    Trainer,
)

BATCH = 256
STEPS = 1000
layers = keras.layers


def batches():
    """Path → (features, labels) of 40 batches."""
    rng = np.random.default_rng(0)
    rows = 40 * BATCH
    labels = rng.normal(size=(rows, 1)).astype(np.float32)
    return {
        "vector": (rng.normal(size=(rows, 10)).astype(np.float32), labels),
        "ids": (rng.integers(0, 100, size=(rows, 1)), labels),
    }


def stream(columns):
    """A dataset of batches, from memory."""
    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH, drop_remainder=True).cache()


def ids_branch(vocabulary=100):
    """An embedding branch."""
    return keras.Sequential([Embedding(vocabulary, 16), layers.Flatten()])


def library(num_branches=2, vocabulary=100):
    """Returns a function that trains STEPS steps with the library."""
    columns = batches()
    names = [f"{kind}{i}" for i in range(num_branches // 2) for kind in ("vector", "ids")]
    branches = {
        name: layers.Dense(16, "relu") if name.startswith("vector") else ids_branch(vocabulary)
        for name in names
    }
    model = BranchedModel(
        [Switch("type", **branches)],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={name: Path(type=name) for name in names},
    )
    streams = {name: stream(columns[name.rstrip("0123456789")]) for name in names}
    trainer = Trainer(model, streams=streams, steps=10**9)
    # Once through all streams and on, so that their caches are full: filling one costs as much
    # as a step, and 64 streams are not through in the steps that are measured.
    trainer.loop.run(np.arange(41 * len(names), dtype=np.int32) % len(names))
    routes = np.arange(STEPS, dtype=np.int32) % len(names)
    return lambda: [trainer.loop.run(part) for part in np.split(routes, 20)]


def by_hand():
    """The same in-graph loop written out without the library."""
    shared = layers.Dense(1)
    branches = {"vector": layers.Dense(16, "relu"), "ids": ids_branch()}
    steps = []
    for path, columns in batches().items():
        network = keras.Sequential([branches[path], shared])
        network(columns[0][:1])
        optimizer = keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        iterator = iter(stream(columns).repeat())
        steps.append(_hand_written_step(network, optimizer, iterator))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
    def loop(routes):
        losses = tf.TensorArray(tf.float32, tf.size(routes))
        return tf.while_loop(
            lambda i, _: i < tf.size(routes),
            lambda i, a: (i + 1, a.write(i, tf.switch_case(routes[i], steps))),
            (0, losses),
            parallel_iterations=1,
        )[1].stack()

    routes = np.arange(STEPS, dtype=np.int32) % 2
    loop(routes)
    return lambda: [loop(part) for part in np.split(routes, 20)]


def _hand_written_step(network, optimizer, iterator):
    variables = [v.value for v in network.trainable_variables]

    def step():
        x, y = next(iterator)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(x, training=True) - y))
        optimizer.apply(tape.gradient(loss, variables), network.trainable_variables)
        return loss

    return step


def two_fits():
    """Two separate Keras models, each with its own fit, 50 steps per execution."""
    models = []
    for path, columns in batches().items():
        branch = layers.Dense(16, "relu") if path == "vector" else ids_branch()
        model = keras.Sequential([branch, layers.Dense(1)])
        model.compile("adam", "mse", steps_per_execution=50)
        data = stream(columns).repeat()
        model.fit(data, steps_per_epoch=50, verbose=0)
        models.append((model, data))
    return lambda: [m.fit(d, steps_per_epoch=STEPS // 2, verbose=0) for m, d in models]


def where_fit():
    """One Keras model that computes both branches on every row and selects with where."""
    columns = batches()
    vector, ids, kind = keras.Input([10]), keras.Input([1], dtype="int64"), keras.Input([1])
    both = keras.ops.where(
        keras.ops.greater(kind, 0), layers.Dense(16, "relu")(vector), ids_branch()(ids)
    )
    model = keras.Model([vector, ids, kind], layers.Dense(1)(both))
    model.compile("adam", "mse", steps_per_execution=50)
    x, y = columns["vector"]
    of_row = (np.arange(len(x)) % 2).astype(np.float32)[:, None]
    data = stream(((x, columns["ids"][0], of_row), y)).repeat()
    model.fit(data, steps_per_epoch=50, verbose=0)
    return lambda: model.fit(data, steps_per_epoch=STEPS, verbose=0)


WAYS = {
    "library": library,
    "hand-written in-graph loop": by_hand,
    "two Keras fits": two_fits,
    "Keras fit with where": where_fit,
    "library, 64 branches": lambda: library(num_branches=64),
    "library, vocabulary 10 000": lambda: library(vocabulary=10_000),
    "library, vocabulary 1 000 000": lambda: library(vocabulary=1_000_000),
}
RATIOS = {
    "library / hand-written": ("library", "hand-written in-graph loop"),
    "library / two fits": ("library", "two Keras fits"),
    "library / where": ("library", "Keras fit with where"),
    "step time, 64 / 2 branches": ("library", "library, 64 branches"),
    "step time, vocabulary 1 000 000 / 10 000": (
        "library, vocabulary 10 000",
        "library, vocabulary 1 000 000",
    ),
}


def main():
    """Measures all ways in turn, so that a busy moment of the machine hits all alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="file for the figures, JSON")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    run_fns = {name: make() for name, make in WAYS.items()}
    rates = {name: [] for name in WAYS}
    for _ in range(arguments.repeats):
        for name, run_fn in run_fns.items():
            started = time.perf_counter()
            run_fn()
            rates[name].append(STEPS * BATCH / (time.perf_counter() - started))
    medians = {name: statistics.median(of_way) for name, of_way in rates.items()}
    ratios = {name: medians[a] / medians[b] for name, (a, b) in RATIOS.items()}
    for name, of_way in rates.items():
        spread = f"{min(of_way):,.0f} – {max(of_way):,.0f}"
        print(f"{name:42} {medians[name]:12,.0f} examples/s  ({spread})")
    for name, ratio in ratios.items():
        print(f"{name:42} {ratio:12.2f}")
    if arguments.output:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine()}
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        figures = {"examples_per_second": rates, "ratios": ratios}
        with open(arguments.output, "w") as file:
            json.dump({**figures, "machine": machine, "versions": versions}, file, indent=1)


if __name__ == "__main__":
    main()
