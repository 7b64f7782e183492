"""The rows of loops.py: branches as Keras layers, whatever backend Keras has, and their data."""

import keras
import numpy as np

BATCH = 256
NUM_BATCHES = 40
WINDOW = 50
layers = keras.layers


def vectors(width):
    """Normal values, float32 [rows, width]."""
    return lambda rng, rows: rng.normal(size=(rows, width)).astype(np.float32)


def ids(vocabulary, length=1):
    """Ids below `vocabulary`, int64 [rows, length]."""
    return lambda rng, rows: rng.integers(0, vocabulary, size=(rows, length))


def dense(*units, between=lambda: []):
    """A branch of dense layers, with what `between` makes behind each."""

    def make(_):
        stack = [[layers.Dense(n, "relu"), *between()] for n in units]
        return keras.Sequential([layer for part in stack for layer in part])

    return make


def embedded(vocabulary, width):
    """A branch of an embedding table: the mean of a row's ids."""

    def make(embedding):
        table = embedding(vocabulary, width)
        return keras.Sequential([table, layers.GlobalAveragePooling1D()])

    return make


def convolutions(_):
    """Two convolutions of 8 × 8 pictures."""
    return keras.Sequential(
        [
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.Conv2D(64, 3, activation="relu", padding="same"),
            layers.GlobalAveragePooling2D(),
        ]
    )


def pictures(rng, rows):
    """Normal values, float32 [rows, 8, 8, 3]."""
    return rng.normal(size=(rows, 8, 8, 3)).astype(np.float32)


# name: (steps that are timed, [(features, branch), (features, branch)])
ROWS = {
    "seed: 10 → 16, ids 100 → 16": (
        2000,
        [(vectors(10), dense(16)), (ids(100), embedded(100, 16))],
    ),
    "dense 64 × 2": (2000, [(vectors(64), dense(64, 64))] * 2),
    "dense 64 × 2, dropout": (
        1000,
        [(vectors(64), dense(64, 64, between=lambda: [layers.Dropout(0.2)]))] * 2,
    ),
    "dense 64 × 2, BatchNorm": (
        1000,
        [(vectors(64), dense(64, 64, between=lambda: [layers.BatchNormalization()]))] * 2,
    ),
    "dense 256 × 3": (300, [(vectors(256), dense(256, 256, 256))] * 2),
    "CNN 8×8×32×64": (50, [(pictures, convolutions)] * 2),
    "one id of 10 000": (1000, [(ids(10_000), embedded(10_000, 16))] * 2),
    "one id of 1 000 000": (100, [(ids(1_000_000), embedded(1_000_000, 16))] * 2),
    "256 tokens × 32 of 20 000": (50, [(ids(20_000, 256), embedded(20_000, 32))] * 2),
}


def data_of(features):
    """(features, labels) of NUM_BATCHES batches for each branch."""
    rng = np.random.default_rng(0)
    rows = NUM_BATCHES * BATCH
    return [
        (make(rng, rows), rng.normal(size=(rows, 1)).astype(np.float32)) for make, _ in features
    ]
