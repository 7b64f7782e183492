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
        serialized: string [batch], tf.train.Example protocol buffers, at least one.

    Returns:
        Entries (serialized Features.FeatureEntry) string [batch, num], their keys string
        [batch, num], and how many of the num are real int32 [batch].
    """
    _, features = decode(serialized, "Example", "features", tf.string)
    sizes, found = decode(features[:, 0], "Features", "feature", tf.string)
    _, keys = decode(found, "Features.FeatureEntry", "key", tf.string)
    return found, keys[..., 0], sizes


def parse(serialized: tf.Tensor, keys: Iterable[str]) -> dict[str, Column]:
    """Reads the values of `keys`, whatever their types.

    Args:
        serialized: string [batch], tf.train.Example protocol buffers, at least one.
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
    _, features = decode(wanted, "Features.FeatureEntry", "value", tf.string)
    lists = [
        tf.unstack(decode(features[..., 0], "Feature", field, tf.string)[1][..., 0], axis=1)
        for field in ("bytes_list", "float_list", "int64_list")
    ]
    return dict(zip(names, map(_column, *lists), strict=True))


def decode(messages: tf.Tensor, name: str, field: str, dtype: tf.DType) -> tuple:
    """Reads one field of protocol buffers.

    Args:
        messages: string [...], serialized, at least one.
        name: What they are, in the package `tensorflow`.
        field: What to read.
        dtype: Its type; string for a message.

    Returns:
        How many values there are int32 [...], and these, padded by at least one, [..., width].
    """
    sizes, (values,) = tf.io.decode_proto(messages, f"tensorflow.{name}", [field], [dtype])
    one_wider = [[0, 0]] * messages.shape.rank + [[0, 1]]
    return sizes[..., 0], tf.pad(values, one_wider)


def _column(strings: tf.Tensor, floats: tf.Tensor, ints: tf.Tensor) -> Column:
    num_strings, strings = decode(strings, "BytesList", "value", tf.string)
    num_floats, floats = decode(floats, "FloatList", "value", tf.float32)
    num_ints, ints = decode(ints, "Int64List", "value", tf.int64)
    one = tf.constant(1)
    dtype = tf.minimum(num_strings, one) * STRING
    dtype += tf.minimum(num_floats, one) * FLOAT + tf.minimum(num_ints, one) * INT
    return Column(dtype, num_strings + num_floats + num_ints, strings, floats, ints)
