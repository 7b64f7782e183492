"""Writes routed examples: what came, with the route's fields in their declared types.

Everything is a TensorFlow operation over the batch. A field nobody declared is passed on in its
bytes; only where it would stand in for a declared one of another type it gets the name `key.type`.
"""

import tensorflow as tf

from branchline.components.routing.parse_batch import Column, decode, entries
from branchline.components.routing.read_fields import Fields
from branchline.schemas import Route, RoutingTable
from branchline.schemas.errors import RESERVED_KEYS


def rewrite(table: RoutingTable, route: Route, serialized: tf.Tensor, fields: Fields) -> tf.Tensor:
    """Encodes the examples of one route.

    Args:
        table: Names the columns.
        route: The route of every one of the examples.
        serialized: string [batch], the examples as they came, at least one.
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

    found, keys, sizes = entries(serialized)
    replaced = tf.constant([*RESERVED_KEYS, *fields.columns])
    kept = ~tf.reduce_any(tf.equal(keys[:, :, None], replaced), axis=2)
    kept &= tf.sequence_mask(sizes, tf.shape(keys)[1])
    homonyms = _homonyms(table, route)
    if homonyms:
        found = _rename_other_types(found, keys, homonyms)
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


def _rename_other_types(found: tf.Tensor, keys: tf.Tensor, homonyms: dict[str, str]) -> tf.Tensor:
    """Calls an entry `key.type` where its key is a homonym and its type not the declared one."""
    _, features = decode(found, "Features.FeatureEntry", "value", tf.string)
    names = tf.fill(tf.shape(keys), "")
    for dtype, field in (("string", "bytes_list"), ("float", "float_list"), ("int", "int64_list")):
        here, _ = decode(features[..., 0], "Feature", field, tf.string)
        names = tf.where(here > 0, dtype, names)
    homonym = tf.equal(keys[:, :, None], tf.constant(list(homonyms)))
    declared = tf.equal(names[:, :, None], tf.constant(list(homonyms.values())))
    other = tf.reduce_any(homonym & tf.logical_not(declared), axis=2) & tf.not_equal(names, "")
    renamed = tf.where(other, tf.strings.join([keys, ".", names]), keys)
    flat = [tf.reshape(each, [-1, 1]) for each in (renamed, features[..., 0])]
    sizes = tf.ones_like(tf.concat(flat, axis=1), tf.int32)
    return tf.reshape(
        _encode_fields("Features.FeatureEntry", sizes, ["key", "value"], flat), tf.shape(keys)
    )


def _entry(name: str, column: Column, dtype: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Encodes one feature: Features.FeatureEntry string [batch], and where there is one."""
    values, message, field = {
        "string": (column.strings, "BytesList", "bytes_list"),
        "float": (column.floats, "FloatList", "float_list"),
        "int": (column.ints, "Int64List", "int64_list"),
    }[dtype]
    one = tf.ones_like(column.size)
    size = tf.minimum(column.size, tf.shape(values)[1])  # of a record with a problem
    feature = _encode("Feature", field, _encode(message, "value", values, size)[:, None], one)
    key = tf.fill([tf.shape(one)[0], 1], name)
    sizes = tf.stack([one, one], axis=1)
    fields = [key, feature[:, None]]
    entry = _encode_fields("Features.FeatureEntry", sizes, ["key", "value"], fields)
    return entry, column.size > 0


def _encode(message: str, field: str, values: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    return _encode_fields(message, sizes[:, None], [field], [values])


def _encode_fields(
    message: str, sizes: tf.Tensor, fields: list[str], values: list[tf.Tensor]
) -> tf.Tensor:
    """Encodes messages [batch] of fields [batch, width] and sizes [batch, number of fields]."""
    return tf.io.encode_proto(sizes, values, fields, f"tensorflow.{message}")
