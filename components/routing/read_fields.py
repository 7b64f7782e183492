"""Reads the features and labels of a mixed batch into the columns of routed examples."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.routing.class_names import class_names
from branchline.components.routing.number_fields import Numbered, Problem, number_fields
from branchline.components.routing.parse_batch import FLOAT, INT, STRING, Entries
from branchline.components.routing.read_cells import Cells, read_cells, rows_of, values_of
from branchline.schemas import RoutingTable


class TableFields(NamedTuple):
    """What the rows of a mixed batch hold.

    Attributes:
        columns: Column of routed examples → its values in its declared type, sparse [batch, width];
            none in a row whose route does not declare the column, that lacks it, or that has a
            problem.
        problem: int32 [batch], an index into `problems`, -1 where all is well or no route is.
        problems: What the indices mean.
    """

    columns: dict[str, tf.SparseTensor]
    problem: tf.Tensor
    problems: list[Problem]


def read_table_fields(
    table: RoutingTable, entries: Entries, index: tf.Tensor, *, label: bool
) -> TableFields:
    """Reads the features of all routes, and with `label` the labels too, each in its own rows.

    Args:
        table: The routes.
        entries: What `parse` gives.
        index: int32 [batch], the route of each row, -1 for none.
        label: Whether to read and check the labels.
    """
    numbered = number_fields(table, label=label)
    cells = read_cells(table, numbered, entries, index)
    columns: dict[str, tf.SparseTensor] = {}
    for dtype in (STRING, FLOAT, INT):
        columns |= _columns(numbered, entries, cells, dtype)
    return TableFields(columns, tf.cast(cells.problem, tf.int32), cells.problems)


def _columns(
    numbered: Numbered, entries: Entries, cells: Cells, dtype: int
) -> dict[str, tf.SparseTensor]:
    """Gives each column of one type its cells: no operation of its own for any."""
    mine = np.flatnonzero(numbered.dtype == dtype)
    names = sorted({numbered.fields[field].column for field in mine})
    if not names:
        return {}
    number = np.full(len(numbered.fields), -1)
    place = {name: each for each, name in enumerate(names)}
    number[mine] = [place[numbered.fields[field].column] for field in mine]
    column = tf.gather(tf.constant(number, tf.int64), cells.field)
    # Column by column, so that one split gives each its own.
    last = tf.constant(len(names), tf.int64)
    order = tf.argsort(tf.where(column < 0, last, column), stable=True)
    order = order[: tf.math.count_nonzero(column >= 0, dtype=tf.int32)]
    row, column = tf.gather(cells.row, order), tf.gather(column, order)
    values = values_of(entries, tf.gather(cells.entry, order), dtype)
    if dtype == STRING and cells.names is not None:
        known = class_names(numbered.fields)
        named = tf.gather(known.has_names, tf.gather(cells.field, order))
        own = tf.gather(cells.names, order)
        own = own.with_flat_values(tf.gather(known.names, own.flat_values))
        others = tf.logical_not(tf.gather(named, rows_of(values)))
        flat = tf.boolean_mask(values.flat_values, others)
        sizes = tf.where(named, tf.zeros_like(values.row_lengths()), values.row_lengths())
        ragged: Any = tf.RaggedTensor
        values = ragged.from_row_lengths(flat, sizes, validate=False)
        values: Any = tf.concat([values, own], axis=1)
    sizes = values.row_lengths()
    per_column = tf.math.unsorted_segment_sum(sizes, column, len(names))
    width = tf.maximum(tf.math.unsorted_segment_max(sizes, column, len(names)), 1)
    shapes = tf.unstack(
        tf.stack([tf.fill([len(names)], entries.num_rows), width], 1), num=len(names)
    )
    of = rows_of(values)
    position = tf.range(tf.size(of, tf.int64)) - tf.gather(values.row_starts(), of)
    places = tf.split(tf.stack([tf.gather(row, of), position], 1), per_column, num=len(names))
    flat = tf.split(values.flat_values, per_column, num=len(names))
    return {
        name: tf.SparseTensor(*sparse)
        for name, *sparse in zip(names, places, flat, shapes, strict=True)
    }
