"""Builds the encoders of the default model, one for each kind of feature."""

from typing import Any

import keras

from branchline.components.branch_trainer.model.embedding import Embedding
from branchline.components.branch_trainer.recipe.saved_encoder import SavedEncoder
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.schemas import (
    BranchlineError,
    Categorical,
    Feature,
    Hashed,
    Ids,
    Image,
    Numeric,
    Route,
    Sequence,
    Tags,
    Text,
)
from branchline.schemas import Embedding as Vector

EMBEDDING = 32
_HIDDEN = 64  # what a picture or a vector is brought to
_STATE = 32  # of a sequence
_SMALL = 32  # pixels; a picture of more than twice as many is halved by convolutions until it has


def encode(route: Route, key: str, spec: Input, values: keras.KerasTensor) -> keras.KerasTensor:
    """Encodes what a feature's preprocessing gives to float32 [batch, width].

    Args:
        route: Declares the feature's kind.
        key: Of the feature; one of a preprocessing of the recipe's own is taken as it is.
        spec: Of what the preprocessing gives.
        values: That.
    """
    kind = route.features.get(key)
    if isinstance(kind, Text) and kind.encoder:
        return SavedEncoder(kind.encoder, trainable=kind.trainable)(values)
    if isinstance(kind, Text | Tags):
        return _bag_of_words(spec, values)
    if isinstance(kind, Categorical | Ids | Hashed):
        return keras.layers.Flatten()(_embedding(kind, spec)(values))
    if isinstance(kind, Sequence):
        return _read_in_order(kind.kind, spec, values)
    if isinstance(kind, Image):
        return _small_cnn(values)
    if isinstance(kind, Vector):
        return keras.layers.Dense(_HIDDEN, "relu")(values)
    return keras.layers.Flatten()(values) if len(spec.shape) > 1 else values


def _embedding(kind: Feature, spec: Input) -> keras.Layer:
    size = spec.vocabulary_size  # unknown after a preprocessing of the recipe's own
    if isinstance(kind, Hashed):  # may have many rows
        return Embedding(size or kind.buckets + 1, 16)
    if isinstance(kind, Ids):
        return keras.layers.Embedding(size or kind.num_ids, 16)
    return keras.layers.Embedding(_rows(spec), 8)


def _rows(spec: Input) -> int:
    """How many rows an embedding gets: a few numbers only, so that branches are often alike."""
    size = spec.vocabulary_size
    if size is None:
        raise BranchlineError(
            f"the output {spec.output!r} of the preprocessing holds indices into a vocabulary of "
            "unknown size: give a recipe file with a build_model of its own, or use the default "
            "preprocessing"
        )
    step = max(8, 1 << max(0, size.bit_length() - 3))  # at most a quarter more than needed
    return -(-size // step) * step


def _bag_of_words(spec: Input, words: keras.KerasTensor) -> keras.KerasTensor:
    """Averages the words' embeddings; 0 is no word. Source: Joulin et al. 2017 (fastText)."""
    embedded: Any = Embedding(_rows(spec), EMBEDDING)(words)
    there = keras.ops.cast(keras.ops.not_equal(words, 0), "float32")[..., None]
    total: Any = keras.ops.sum(embedded * there, axis=1)
    return total / keras.ops.maximum(keras.ops.sum(there, axis=1), 1.0)


def _read_in_order(kind: Feature, spec: Input, values: keras.KerasTensor) -> keras.KerasTensor:
    """Reads a sequence from its first value to its last by a GRU; 0 is no value.

    Convolutions and a mean took a third of the time, for 32 values a row, but hardly tell early
    values from late ones. Never cuDNN's: what is trained on a GPU is served without one too.
    """
    there: Any
    one_before: Any = (1, 0)
    no_cudnn: Any = False
    if isinstance(kind, Numeric):  # numbers, each followed by a 1
        steps: Any = keras.layers.Reshape((-1, 2))(values)
        there = steps[..., 1]
    else:
        steps = _embedding(kind, spec)(values)
        there = keras.ops.cast(keras.ops.not_equal(values, 0), "float32")
    # A step before the first one, as a batch may hold nothing but empty sequences.
    steps = keras.layers.ZeroPadding1D(one_before)(steps)
    there = keras.ops.pad(there, [[0, 0], one_before], constant_values=1.0)
    return keras.layers.GRU(_STATE, use_cudnn=no_cudnn)(steps, mask=keras.ops.greater(there, 0.0))


def _small_cnn(pixels: keras.KerasTensor) -> keras.KerasTensor:
    small = max(size or 0 for size in pixels.shape[1:3]) <= _SMALL
    hidden = pixels
    while max(size or 0 for size in hidden.shape[1:3]) > 2 * _SMALL:
        hidden = keras.layers.Conv2D(32, 3, 2, padding="same", activation="relu")(hidden)
    hidden = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(hidden)
    hidden = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(hidden)
    pool = (
        keras.layers.MaxPooling2D(padding="same")  # a picture may be one pixel high
        if small
        else keras.layers.GlobalAveragePooling2D()
    )
    return keras.layers.Dense(_HIDDEN, "relu")(keras.layers.Flatten()(pool(hidden)))
