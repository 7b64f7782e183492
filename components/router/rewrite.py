"""Writes routed examples: what came, with the fields of its route in their declared types.

Everything is a TensorFlow operation over the whole mixed batch. A field nobody declared is passed
on in its bytes; only where it would stand in for a declared one of another type it gets the name
`key.type`. A declared field is passed on in its bytes too, unless it came in another type.
"""

import numpy as np
import tensorflow as tf

from branchline.components.routing.number_fields import Numbered
from branchline.components.routing.parse_batch import (
    ABSENT,
    DTYPE_CODES,
    EMPTY_TEXT,
    FLOAT,
    INT,
    STRING,
    Entries,
    encode,
    names,
)
from branchline.components.routing.read_cells import Cells, values_of
from branchline.schemas import RoutingTable
from branchline.schemas.errors import RESERVED_KEYS, ROUTE

_LISTS = {
    STRING: ("BytesList", "bytes_list"),
    FLOAT: ("FloatList", "float_list"),
    INT: ("Int64List", "int64_list"),
}


def rewrite(
    table: RoutingTable, numbered: Numbered, entries: Entries, index: tf.Tensor, cells: Cells
) -> tf.Tensor:
    """Encodes the examples of a batch that their routes can use.

    Args:
        table: Names the columns.
        numbered: The fields of its routes.
        entries: The batch.
        index: int32 [batch], the route of each row, -1 for none.
        cells: The declared fields in the batch.

    Returns:
        string [batch], examples with a `_route`, without where they came from; what stands in the
        rows without a route or with a problem means nothing.
    """
    tags = [_tag(""), *map(_tag, table.names)]
    parts = [
        _undeclared(table, entries, cells),
        _declared(table, numbered, entries, cells),
        (tf.range(entries.num_rows), tf.gather(tf.constant(tags), index + 1)),
    ]
    rows, entry = (tf.concat(each, axis=0) for each in zip(*parts, strict=True))
    # Features of one entry each, end to end, are Features of them all.
    features = tf.strings.unsorted_segment_join(
        encode("Features", {"feature": entry}), rows, entries.num_rows
    )
    return encode("Example", {"features": features})


def _tag(route: str) -> bytes:
    tag = tf.train.Feature(bytes_list=tf.train.BytesList(value=[route.encode()]))
    return tf.train.Features.FeatureEntry(key=ROUTE, value=tag).SerializeToString(
        deterministic=True
    )


def _undeclared(table: RoutingTable, entries: Entries, cells: Cells) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows and the entries that are no fields of their routes, in order."""
    all_names = names(table)
    is_ours = [name in RESERVED_KEYS for name in all_names]
    kept = ~(cells.declared | tf.gather(tf.constant([False, *is_ours]), entries.name + 1))
    row, name, kind, key, feature, entry = (
        tf.boolean_mask(each, kept)
        for each in (
            entries.row,
            entries.name,
            entries.kind,
            entries.key,
            entries.feature,
            entries.entry,
        )
    )
    dtypes = {
        column: DTYPE_CODES[table[route].dtypes[declared]]
        for route in table.names
        for declared, column in table.columns(route).items()
    }
    dtype = tf.constant([ABSENT, *(dtypes.get(each, ABSENT) for each in all_names)], tf.int64)
    dtype = tf.gather(dtype, name + 1)
    other = (dtype > 0) & (kind > 0) & tf.not_equal(kind, dtype)
    kind = tf.where(tf.equal(feature, EMPTY_TEXT), np.int64(STRING), kind)
    ending = tf.gather(tf.constant(["", *(f".{each}" for each in DTYPE_CODES)]), kind)
    renamed = {"key": tf.strings.join([key, ending]), "value": feature}
    return row, tf.where(other, encode("Features.FeatureEntry", renamed), entry)


def _declared(
    table: RoutingTable, numbered: Numbered, entries: Entries, cells: Cells
) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows and the entries that are fields of their routes, row by row."""
    feature = tf.gather(entries.feature, cells.entry)
    dtype = tf.gather(tf.constant(numbered.dtype), cells.field)
    other = tf.not_equal(dtype, tf.gather(entries.kind, cells.entry))
    # To be encoded, values are padded: together only where their numbers are about the same.
    group = np.ceil(np.log2(np.maximum(numbered.num_values, 1)) / 2) * (INT + 1) + numbered.dtype
    for each in np.unique(group):
        in_group = tf.gather(tf.constant(group == each), cells.field)
        mine = tf.where(other & in_group)
        code = int(each) % (INT + 1)
        values = values_of(entries, tf.gather(cells.entry, mine[:, 0]), code)
        message, field = _LISTS[code]
        encoded = encode(message, {"value": values.to_tensor()}, values.row_lengths())
        encoded = encode("Feature", {field: encoded})
        feature = tf.tensor_scatter_nd_update(feature, mine, encoded)
    column = tf.gather(tf.constant(names(table)), tf.gather(numbered.column, cells.field))
    return cells.row, encode("Features.FeatureEntry", {"key": column, "value": feature})
