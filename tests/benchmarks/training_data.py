"""The batches, and the branch of ids, that training.py trains in all its ways."""

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer import Embedding

BATCH = 256
STEPS = 1000
NUM_BATCHES = 40


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
    return keras.Sequential([Embedding(vocabulary, 16), keras.layers.Flatten()])
