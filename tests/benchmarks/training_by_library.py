"""The ways of training.py that train by the library: each returns a function that trains on."""

import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
from training_data import BATCH, NUM_BATCHES, STEPS, batches, ids_branch, stream

from branchline.components.branch_trainer import (
    BranchedModel,
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

layers = keras.layers
WHOLE = 20 * STEPS  # of Trainer.run
WIDE_STEPS = 50


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
            labels_fn=lambda labels: (labels["y"],),
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


def wide(share=None):
    """The library on one wide path, all examples or the share of them that a gate lets through."""
    model = BranchedModel(
        [keras.Sequential([layers.Dense(1024, "relu"), layers.Dense(1024, "relu")])],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={"vector": Path()},
    )
    gate = hardest(share) if share else None
    settings = {"vector": PathSettings(keras.optimizers.SGD(1e-3), gate=gate)}
    streams = {"vector": stream(batches()["vector"])}
    trainer = Trainer(model, streams=streams, settings=settings, steps=10**9)
    trainer.loop.run(np.zeros(NUM_BATCHES + 1, np.int32))
    return lambda: trainer.loop.run(np.zeros(WIDE_STEPS, np.int32))
