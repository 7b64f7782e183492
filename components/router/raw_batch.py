"""Parses serialized examples whose values may be of any type.

`tf.io.parse_example` wants one type for a key and fails the whole batch otherwise; a stream of
mixed records has 3.0, 3 and "3" under one key. Here the protocol buffer is decoded by TensorFlow's
`decode_proto`, in the graph, so that a Beam batch and a served model run the same operations.
"""

from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf

ABSENT, STRING, FLOAT, INT = 0, 1, 2, 3
DTYPE_CODES = {"string": STRING, "float": FLOAT, "int": INT}


class Column(NamedTuple):
    """The values of one key over a batch, in the type that each example holds them.

    Attributes:
        dtype: int32 [batch], ABSENT, STRING, FLOAT or INT; a key without a value is ABSENT.
        size: int32 [batch], how many values.
        strings: string [batch, width], padded; filled where dtype is STRING.
        floats: float32 [batch, width].
        ints: int64 [batch, width].
    """

    dtype: tf.Tensor
    size: tf.Tensor
    strings: tf.Tensor
    floats: tf.Tensor
    ints: tf.Tensor


def entries(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Splits serialized examples into their features, without looking into these.

    Args:
        serialized: string [batch], tf.train.Example protocol buffers.

    Returns:
        Entries (serialized Features.FeatureEntry) string [batch, num], their keys string
        [batch, num], and how many of the num are real int32 [batch].
    """
    _, features = _decode(serialized, "Example", "features", tf.string)
    sizes, found = _decode(features[:, 0], "Features", "feature", tf.string)
    _, keys = _decode(found, "Features.FeatureEntry", "key", tf.string)
    return found, keys[..., 0], sizes


def parse(serialized: tf.Tensor, keys: Iterable[str]) -> dict[str, Column]:
    """Reads the values of `keys`, whatever their types.

    Args:
        serialized: string [batch], tf.train.Example protocol buffers.
        keys: What to read; a key that an example lacks is ABSENT there.

    Returns:
        Key → Column.

    Raises:
        tf.errors.InvalidArgumentError: Some bytes are not an Example.
    """
    names = list(keys)
    found, found_keys, _ = entries(serialized)
    # Of entries with equal keys the last counts, as in any protocol buffer map.
    hits = tf.cast(tf.equal(found_keys[:, :, None], tf.constant(names)[None, None, :]), tf.int32)
    last = tf.reduce_max(hits * tf.range(1, tf.shape(found)[1] + 1)[None, :, None], axis=1)
    wanted = tf.gather(tf.pad(found, [[0, 0], [1, 0]]), last, axis=1, batch_dims=1)
    _, features = _decode(wanted, "Features.FeatureEntry", "value", tf.string)
    lists = [
        tf.transpose(_decode(features[..., 0], "Feature", field, tf.string)[1][..., 0])
        for field in ("bytes_list", "float_list", "int64_list")
    ]
    return {name: _column(*(each[i] for each in lists)) for i, name in enumerate(names)}


def _decode(messages: tf.Tensor, name: str, field: str, dtype: tf.DType) -> tuple:
    """Reads one field: how many values int32 [...], and these, padded, dtype [..., at least 1]."""
    flat = tf.concat([tf.reshape(messages, [-1]), [""]], axis=0)  # decode_proto wants at least one
    sizes, (values,) = tf.io.decode_proto(flat, f"tensorflow.{name}", [field], [dtype])
    values = tf.pad(values, [[0, 0], [0, tf.maximum(0, 1 - tf.shape(values)[1])]])
    shape = tf.shape(messages)
    values = tf.reshape(values[:-1], tf.concat([shape, [tf.shape(values)[1]]], axis=0))
    values.set_shape(messages.shape.concatenate([None]))
    return tf.reshape(sizes[:-1, 0], shape), values


def _column(strings: tf.Tensor, floats: tf.Tensor, ints: tf.Tensor) -> Column:
    num_strings, strings = _decode(strings, "BytesList", "value", tf.string)
    num_floats, floats = _decode(floats, "FloatList", "value", tf.float32)
    num_ints, ints = _decode(ints, "Int64List", "value", tf.int64)
    dtype = tf.where(
        num_strings > 0,
        STRING,
        tf.where(num_floats > 0, FLOAT, tf.where(num_ints > 0, INT, ABSENT)),
    )
    return Column(dtype, num_strings + num_floats + num_ints, strings, floats, ints)
