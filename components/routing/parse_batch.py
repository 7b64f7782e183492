"""Parses serialized examples whose values may be of any type.

`tf.io.parse_example` wants one type for a key and fails the whole batch otherwise; a stream of
mixed records has 3.0, 3 and "3" under one key, and each of many routes has keys of its own. So a
batch is taken apart into one flat list of entries, a key with its values, over all of its rows:
the number of operations does not depend on how many keys there are, and nothing is padded.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from branchline.components.routing.find import find
from branchline.schemas import RoutingTable
from branchline.schemas.errors import RESERVED_KEYS

ABSENT, STRING, FLOAT, INT = 0, 1, 2, 3
EMPTY_TEXT = b"\n\x02\n\x00"  # a serialized Feature of one empty text, which is no value
DTYPE_CODES = {"string": STRING, "float": FLOAT, "int": INT}
_LISTS = ("bytes_list", "float_list", "int64_list")  # in the order of the codes
_SPECS = {
    name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
    for name, dtype in zip(_LISTS, (tf.string, tf.float32, tf.int64), strict=True)
}


class Entries(NamedTuple):
    """The features of all examples of a batch, one after the other.

    Attributes:
        num_rows: int64 [], how many examples there are.
        row: int64 [n], the example that holds it, in order.
        key: string [n].
        name: int64 [n], the index of the key in `names(table)`, -1 for a key that is not there.
        entry: string [n], the serialized Features.FeatureEntry.
        feature: string [n], the serialized Feature in it.
        kind: int64 [n], STRING, FLOAT or INT, ABSENT for a feature of no kind or no `name`, and for
            one empty text, which is no value in any format.
        size: int64 [n], how many values; 0 where there is no `name`.
        strings: string [n, None], the values where the kind is STRING, else none.
        floats: float32 [n, None].
        ints: int64 [n, None].
    """

    num_rows: tf.Tensor
    row: tf.Tensor
    key: tf.Tensor
    name: tf.Tensor
    entry: tf.Tensor
    feature: tf.Tensor
    kind: tf.Tensor
    size: tf.Tensor
    strings: tf.RaggedTensor
    floats: tf.RaggedTensor
    ints: tf.RaggedTensor


def names(table: RoutingTable) -> list[str]:
    """Every key that means something: what conditions and routes read, columns, and our own."""
    columns = {name for route in table.names for name in table.columns(route).values()}
    return sorted({*table.keys, *columns, *RESERVED_KEYS})


def parse(serialized: tf.Tensor, table: RoutingTable) -> Entries:
    """Takes a batch apart.

    Args:
        serialized: string [batch], tf.train.Example protocol buffers.
        table: Names the keys whose values are read.

    Raises:
        tf.errors.InvalidArgumentError: Some bytes are not an Example.
    """
    (features,) = _decode_first(serialized, "Example", ["features"])
    sizes, (found,) = _decode(features, "Features", ["feature"])
    there = tf.where(tf.range(tf.shape(found)[1]) < sizes)
    entry = tf.gather_nd(found, there)
    key, feature = _decode_first(entry, "Features.FeatureEntry", ["key", "value"])
    name = find(key, names(table))
    there_is = (name >= 0) & tf.not_equal(feature, EMPTY_TEXT)
    kind = tf.where(there_is, _kind(feature), ABSENT)
    lists = _values(feature, kind)
    splits = tf.add_n([each.row_splits for each in lists])
    return Entries(
        num_rows=tf.size(serialized, tf.int64),
        row=there[:, 0],
        key=key,
        name=name,
        entry=entry,
        feature=feature,
        kind=kind,
        size=splits[1:] - splits[:-1],
        strings=lists[0],
        floats=lists[1],
        ints=lists[2],
    )


def _kind(feature: tf.Tensor) -> tf.Tensor:
    sizes, _ = _decode(feature, "Feature", list(_LISTS))
    codes = tf.minimum(sizes[:-1], 1) * tf.constant([[STRING, FLOAT, INT]])
    return tf.cast(tf.reduce_max(codes, axis=1), tf.int64)


def _values(feature: tf.Tensor, kind: tf.Tensor) -> list[Any]:
    """Reads features as if each were an example of its own, its key the name of its kind.

    Returns:
        RaggedTensors [n, None] of the strings, the floats and the ints.
    """
    name = tf.gather(tf.constant(["", *_LISTS]), kind)
    entry = _encode("Features.FeatureEntry", {"key": name, "value": feature})
    alone = _encode("Example", {"features": _encode("Features", {"feature": entry})})
    read = tf.io.parse_example(tf.where(tf.equal(kind, ABSENT), "", alone), _SPECS)
    return [read[each] for each in _LISTS]


def _decode(messages: tf.Tensor, name: str, fields: list[str]) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Reads fields of protocol buffers, texts or messages.

    Args:
        messages: string [n], serialized.
        name: What they are, in the package `tensorflow`.
        fields: What to read.

    Returns:
        How many values there are int32 [n + 1, fields], and the values of each field, string
        [n + 1, width], padded; the last row stands for no message and has none.
    """
    one_more = tf.concat([messages, [""]], axis=0)  # the operation refuses to decode none
    types = [tf.string] * len(fields)
    return tf.io.decode_proto(one_more, f"tensorflow.{name}", fields, types)


def _decode_first(messages: tf.Tensor, name: str, fields: list[str]) -> list[tf.Tensor]:
    """The first value of each field, string [n], empty where there is none; see `_decode`."""
    _, values = _decode(messages, name, fields)
    return [tf.pad(each, [[0, 0], [0, 1]])[:-1, 0] for each in values]


def _encode(name: str, fields: dict[str, tf.Tensor]) -> tf.Tensor:
    """Writes protocol buffers.

    Args:
        name: What they are, in the package `tensorflow`.
        fields: Field → its one value, string [n].

    Returns:
        string [n], serialized.
    """
    values = [tf.expand_dims(each, 1) for each in fields.values()]
    sizes = tf.ones_like(tf.concat(values, axis=1), tf.int32)
    return tf.io.encode_proto(sizes, values, list(fields), f"tensorflow.{name}")
