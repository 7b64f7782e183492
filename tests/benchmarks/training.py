"""Measures training speed: the library against the same model trained in other ways.

    python tests/benchmarks/training.py [--output FILE.json] [--repeats 5]

The model: float vectors (10 → 16) and ids (100 → 16), a shared output layer, batch 256, Adam.
Every ratio is of medians from this run, in which the ways take turns. Other models, and other
libraries, are in loops.py.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
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
    PathSettings,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.step.gate import hardest
from branchline.components.branch_trainer.streams.read_files import serialized_rows
from branchline.components.branch_trainer.streams.read_rows import Rows
from branchline.components.branch_trainer.streams.route_streams import shuffled_batches

BATCH = 256
STEPS = 1000
NUM_BATCHES = 40
layers = keras.layers


def batches():
    """Path → (features, labels) of NUM_BATCHES batches."""
    rng = np.random.default_rng(0)
    rows = NUM_BATCHES * BATCH
    labels = rng.normal(size=(rows, 1)).astype(np.float32)
    return {
        "vector": (rng.normal(size=(rows, 10)).astype(np.float32), labels),
        "ids": (rng.integers(0, 100, size=(rows, 1)), labels),
    }


def stream(columns, count=NUM_BATCHES):
    """A dataset of batches, from memory."""
    columns = tf.nest.map_structure(lambda column: column[: count * BATCH], columns)
    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH, drop_remainder=True).cache()


def ids_branch(vocabulary=100):
    """An embedding branch."""
    return keras.Sequential([Embedding(vocabulary, 16), layers.Flatten()])


def make_model(names, vocabulary=100, **path_options):
    """Returns a model with a path per name, of the kind that the name begins with."""
    branches = {
        name: layers.Dense(16, "relu") if name.startswith("vector") else ids_branch(vocabulary)
        for name in names
    }
    return BranchedModel(
        [Switch("type", **branches)],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={name: Path(type=name, **path_options.get(name, {})) for name in names},
    )


def run_trainer(model, streams, **options):
    """Returns a function that trains STEPS steps with the library, the paths in turn."""
    trainer = Trainer(model, streams=streams, steps=10**9, **options)
    # Once through all streams and on, so that their caches are full: filling one costs as much
    # as a step, and 64 streams are not through in the steps that are measured.
    count = len(streams)
    trainer.loop.run(np.arange((NUM_BATCHES + 1) * count, dtype=np.int32) % count)
    routes = np.arange(STEPS, dtype=np.int32) % count
    return lambda: [trainer.loop.run(part) for part in np.split(routes, 20)]


def library(num_branches=2, vocabulary=100, used=None, count=NUM_BATCHES, **options):
    """The library, `count` batches a branch from memory; `used` of the branches are trained."""
    columns = batches()
    names = [f"{kind}{i}" for i in range(num_branches // 2) for kind in ("vector", "ids")]
    streams = {name: stream(columns[name.rstrip("0123456789")], count) for name in names[:used]}
    return run_trainer(make_model(names, vocabulary), streams, **options)


def whole_training(is_watched=False):
    """The library by `Trainer.run`, with TensorBoard, validation and checkpoints, or without."""
    options = {}
    columns = batches()
    if is_watched:
        folder = tempfile.mkdtemp()
        options = {
            "tensorboard_dir": os.path.join(folder, "tensorboard"),
            "checkpoint_dir": os.path.join(folder, "checkpoints"),
            "validation": {name: stream(of, 4) for name, of in columns.items()},
            "validate_every": STEPS,
        }
    streams = {name: stream(of) for name, of in columns.items()}
    trainer = Trainer(make_model(columns), streams=streams, steps=10**9, **options)

    def run(steps):
        trainer.steps = trainer.history.step + steps
        trainer.history.stopped.clear()
        trainer.run()

    run(STEPS)
    return lambda: run(WHOLE)


WHOLE = 20 * STEPS


def rows_of_files():
    """The library, fed as BranchTrainer is where rows fit in memory: shuffled in every epoch.

    The files are read before the clock starts: what is measured is the gathering of rows.
    """
    directory = tempfile.mkdtemp()
    streams = {}
    for path, (features, labels) in batches().items():
        file = os.path.join(directory, f"{path}.gz")
        with tf.io.TFRecordWriter(file, options="GZIP") as writer:
            for row, label in zip(features, labels, strict=True):
                writer.write(_example(row, label))
        specs = {"x": tf.io.FixedLenFeature([features.shape[1]], features.dtype)}
        specs["y"] = tf.io.FixedLenFeature([1], tf.float32)
        (serialized,) = serialized_rows([file]).batch(NUM_BATCHES * BATCH)
        parsed = tf.io.parse_example(serialized, specs)
        rows = Rows(len(parsed["y"]), {"y": parsed["y"]}, {"x": parsed["x"]}, [file], None)
        streams[path] = shuffled_batches(
            rows,
            skip=0,
            batch_size=BATCH,
            seed=0,
            labels_fn=lambda labels: labels["y"],
            cache_file="",
        )
    model = make_model(streams, **{path: {"features": "x"} for path in streams})
    return run_trainer(model, streams)


def _example(row, label):
    is_float = row.dtype == np.float32
    values = (
        tf.train.Feature(float_list=tf.train.FloatList(value=row))
        if is_float
        else tf.train.Feature(int64_list=tf.train.Int64List(value=row))
    )
    y = tf.train.Feature(float_list=tf.train.FloatList(value=label))
    feature = {"x": values, "y": y}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def mixed_batches():
    """The library on batches of half vectors, half ids, partitioned."""
    columns = batches()
    rows = NUM_BATCHES * BATCH
    ids = np.arange(rows) % 2
    features = {"vector": columns["vector"][0], "ids": columns["ids"][0]}
    model = make_model(["vector", "ids"], vector={"features": "vector"}, ids={"features": "ids"})
    return run_trainer(model, {"all": stream(((features, ids), columns["vector"][1]))})


def wide(gate=None):
    """The library on one wide path, all examples or those that a gate lets through."""
    model = BranchedModel(
        [keras.Sequential([layers.Dense(1024, "relu"), layers.Dense(1024, "relu")])],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={"vector": Path()},
    )
    settings = {"vector": PathSettings(keras.optimizers.SGD(1e-3), gate=gate)}
    streams = {"vector": stream(batches()["vector"])}
    trainer = Trainer(model, streams=streams, settings=settings, steps=10**9)
    trainer.loop.run(np.zeros(NUM_BATCHES + 1, np.int32))
    return lambda: trainer.loop.run(np.zeros(WIDE_STEPS, np.int32))


WIDE_STEPS = 50


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


def per_example():
    """A tape loop in Python, example by example, as the published sketches have it."""
    shared = layers.Dense(1)
    branches = {"vector": layers.Dense(16, "relu"), "ids": ids_branch()}
    columns = batches()
    networks = {path: keras.Sequential([branches[path], shared]) for path in columns}
    for path, network in networks.items():
        network(columns[path][0][:1])
    every = [*branches["vector"].variables, *branches["ids"].variables, *shared.variables]
    optimizer = keras.optimizers.Adam()
    optimizer.build(every)

    def run():
        for i in range(PER_EXAMPLE):
            path = ("vector", "ids")[i % 2]
            x, y = (column[i : i + 1] for column in columns[path])
            variables = networks[path].trainable_variables
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(networks[path](x, training=True) - y))
            gradients = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(gradients, variables)

    run()
    return run


PER_EXAMPLE = 200


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


def where_fit(**compile_options):
    """One Keras model that computes both branches on every row and selects with where."""
    columns = batches()
    vector, ids, kind = keras.Input([10]), keras.Input([1], dtype="int64"), keras.Input([1])
    both = keras.ops.where(
        keras.ops.greater(kind, 0), layers.Dense(16, "relu")(vector), ids_branch()(ids)
    )
    model = keras.Model([vector, ids, kind], layers.Dense(1)(both))
    model.compile("adam", "mse", **compile_options)
    x, y = columns["vector"]
    of_row = (np.arange(len(x)) % 2).astype(np.float32)[:, None]
    data = stream(((x, columns["ids"][0], of_row), y)).repeat()
    model.fit(data, steps_per_epoch=50, verbose=0)
    return lambda: model.fit(data, steps_per_epoch=STEPS, verbose=0)


COMPILED = "library, compiled"
WHERE = "Keras fit with where, 50 steps per execution"
WAYS = {
    "library": library,
    COMPILED: lambda: library(jit_compile=True),
    "library, whole training": whole_training,
    "library, whole training, watched": lambda: whole_training(is_watched=True),
    "hand-written in-graph loop": by_hand,
    "two Keras fits": two_fits,
    "Keras fit with where": where_fit,
    WHERE: lambda: where_fit(steps_per_execution=50),
    "loop over examples": per_example,
    # Of few batches: where those of 64 branches lie in memory is not what is measured.
    "library, 2 branches": lambda: library(count=8),
    "library, 64 branches": lambda: library(num_branches=64, count=8),
    "library, 64 branches, 2 of them trained": lambda: library(num_branches=64, used=2, count=8),
    "library, vocabulary 10 000": lambda: library(vocabulary=10_000),
    "library, vocabulary 1 000 000": lambda: library(vocabulary=1_000_000),
    "library, rows of files, shuffled": rows_of_files,
    "library, mixed batches": mixed_batches,
    "library, wide": wide,
    "library, wide, gate for a quarter": lambda: wide(hardest(0.25)),
}
EXAMPLES = {
    "loop over examples": PER_EXAMPLE,
    "library, wide": WIDE_STEPS * BATCH,
    "library, wide, gate for a quarter": WIDE_STEPS * BATCH,
    "library, whole training": WHOLE * BATCH,
    "library, whole training, watched": WHOLE * BATCH,
}
RATIOS = {  # name: (examples/s of …, over examples/s of …, the least or greatest aimed at)
    "speed, library / loop over examples": ("library", "loop over examples", "≥ 300"),
    "speed, library / Keras fit with where": ("library", "Keras fit with where", ""),
    "speed, compiled / two Keras fits": (COMPILED, "two Keras fits", "≥ 2"),
    "speed, compiled / Keras fit with where, 50 steps": (COMPILED, WHERE, "≥ 3"),
    "speed, library / hand-written loop": ("library", "hand-written in-graph loop", ""),
    "speed, watched / not": (
        "library, whole training, watched",
        "library, whole training",
        "≥ 0.9",
    ),
    "speed, shuffled rows / cached batches": (
        "library, rows of files, shuffled",
        "library",
        "≥ 0.9",
    ),
    "speed, mixed / uniform batches": ("library, mixed batches", "library", "≥ 0.8"),
    "step time, gate for a quarter / no gate": (
        "library, wide",
        "library, wide, gate for a quarter",
        "",
    ),
    "step time, 64 / 2 branches": ("library, 2 branches", "library, 64 branches", "≤ 1.1"),
    "step time, 2 of 64 / 2 of 2 branches": (
        "library, 2 branches",
        "library, 64 branches, 2 of them trained",
        "≤ 1.1",
    ),
    "step time, vocabulary 1 000 000 / 10 000": (
        "library, vocabulary 10 000",
        "library, vocabulary 1 000 000",
        "≤ 1.2",
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
            examples = EXAMPLES.get(name, STEPS * BATCH)
            rates[name].append(examples / (time.perf_counter() - started))
    medians = {name: statistics.median(of_way) for name, of_way in rates.items()}
    ratios = {
        name: {"ratio": medians[a] / medians[b], "aim": aim}
        for name, (a, b, aim) in RATIOS.items()
        if a in medians and b in medians
    }
    for name, of_way in rates.items():
        spread = f"{min(of_way):,.0f} – {max(of_way):,.0f}"
        print(f"{name:46} {medians[name]:12,.0f} examples/s  ({spread})")
    for name, found in ratios.items():
        print(f"{name:46} {found['ratio']:12.2f}  {found['aim']}")
    if arguments.output:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine()}
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        figures = {"examples_per_second": rates, "ratios": ratios}
        with open(arguments.output, "w") as file:
            json.dump({**figures, "machine": machine, "versions": versions}, file, indent=1)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written. Left to end by itself, TensorFlow waits for a thread of every stream, which
    # has taken minutes.
    os._exit(0)
