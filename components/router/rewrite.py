"""Writes routed examples: what came, with the route's fields in their declared types.

Everything is a TensorFlow operation over the batch. A field nobody declared is passed on in its
bytes; only where it would stand in for a declared one of another type it gets the name `key.type`.
"""

import tensorflow as tf

from branchline.components.router.raw_batch import DTYPE_CODES, Column, entries, parse
from branchline.components.router.read_fields import Fields
from branchline.schemas import Route, RoutingTable
from branchline.schemas.errors import RESERVED_KEYS


def rewrite(table: RoutingTable, route: Route, serialized: tf.Tensor, fields: Fields) -> tf.Tensor:
    """Encodes the examples of one route.

    Args:
        table: Names the columns.
        route: The route of every one of the examples.
        serialized: string [batch], the examples as they came.
        fields: What was read from them.

    Returns:
        string [batch], examples with a `_route`, without where they came from.
    """
    added = [
        _entry(table.column(route.name, key), column, route.dtypes[key])
        for key, column in fields.columns.items()
    ]
    tag = tf.fill([tf.shape(serialized)[0], 1], route.name)
    ones = tf.ones_like(tag[:, 0], tf.int32)
    added.append(_entry("_route", Column(ones, ones, tag, tag, tag), "string"))
    homonyms = _homonyms(table, route)
    raw = parse(serialized, homonyms) if homonyms else {}
    for key, declared in homonyms.items():
        for dtype in DTYPE_CODES:
            name = key if dtype == declared else f"{key}.{dtype}"
            added.append(_entry(name, _only(raw[key], dtype), dtype))

    found, keys, sizes = entries(serialized)
    replaced = tf.constant([*RESERVED_KEYS, *fields.columns, *homonyms])
    kept = ~tf.reduce_any(tf.equal(keys[:, :, None], replaced), axis=2)
    kept &= tf.sequence_mask(sizes, tf.shape(keys)[1])
    new, is_new = (tf.stack(each, axis=1) for each in zip(*added, strict=True))
    chosen = tf.ragged.boolean_mask(tf.concat([found, new], 1), tf.concat([kept, is_new], 1))
    features = _encode(
        "Features", "feature", chosen.to_tensor(), tf.cast(chosen.row_lengths(), tf.int32)
    )
    return _encode("Example", "features", features[:, None], tf.ones_like(ones))


def _homonyms(table: RoutingTable, route: Route) -> dict[str, str]:
    """Keys under which other routes, but not this one, hold a column, with that column's type."""
    return {
        table.column(other.name, key): other.dtypes[key]
        for other in table.routes
        for key in other.dtypes
        if table.column(other.name, key) not in route.dtypes
    }


def _only(column: Column, dtype: str) -> Column:
    right = tf.equal(column.dtype, DTYPE_CODES[dtype])
    return column._replace(size=tf.where(right, column.size, 0))


def _entry(name: str, column: Column, dtype: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Encodes one feature: Features.FeatureEntry string [batch], and where there is one."""
    values, message, field = {
        "string": (column.strings, "BytesList", "bytes_list"),
        "float": (column.floats, "FloatList", "float_list"),
        "int": (column.ints, "Int64List", "int64_list"),
    }[dtype]
    one = tf.ones_like(column.size)
    feature = _encode(
        "Feature", field, _encode(message, "value", values, column.size)[:, None], one
    )
    key = tf.fill([tf.shape(one)[0], 1], name)
    sizes = tf.stack([one, one], axis=1)
    entry = tf.io.encode_proto(
        _one_more(sizes),
        [_one_more(key), _one_more(feature[:, None])],
        ["key", "value"],
        "tensorflow.Features.FeatureEntry",
    )
    return entry[:-1], column.size > 0


def _encode(message: str, field: str, values: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    encoded = tf.io.encode_proto(
        _one_more(sizes[:, None]), [_one_more(values)], [field], f"tensorflow.{message}"
    )
    return encoded[:-1]


def _one_more(rows: tf.Tensor) -> tf.Tensor:
    """Adds a row, because encode_proto wants at least one."""
    return tf.pad(rows, [[0, 1], [0, 0]])
