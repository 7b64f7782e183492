"""Finds the features and labels of a mixed batch, each row's as the types its route declares.

Whole numbers stand for floats, numbers for texts, and floats without a fraction for whole numbers;
what cannot be read so is a problem of the record, found here for training and for serving alike.
A key is read under its own name, or, where an example does not hold it, under its column's, which
a routed example has.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.routing.class_names import class_names, find_names
from branchline.components.routing.find import find_code
from branchline.components.routing.number_fields import (
    CHECKS,
    MISSING,
    RANGE,
    SHAPE,
    TEXT,
    VALUE,
    WRITTEN,
    Numbered,
    Problem,
    problems_of,
)
from branchline.components.routing.parse_batch import FLOAT, INT, STRING, Entries, names
from branchline.components.routing.written.read_written import read_written
from branchline.schemas import RoutingTable

_FINE, _NONE = np.int64(-1), np.int64(2**63 - 1)  # _NONE is above every problem


class Cells(NamedTuple):
    """The fields that the rows of a batch hold for their own routes.

    Attributes:
        problem: int64 [batch], an index into `problems`, -1 where all is well.
        problems: What the indices mean.
        row: int64 [m], the row of a field with a value, in a row without a problem; in order.
        field: int64 [m], its number, see `number_fields`.
        entry: int64 [m], the place of its values in the entries.
        names: int64 [m, None], of a field whose classes have names the name that each value stands
            for, its place in `class_names(fields).names`; of others nothing. None if no field has.
        declared: bool [n], whether an entry is a field of its row's route.
    """

    problem: tf.Tensor
    problems: list[Problem]
    row: tf.Tensor
    field: tf.Tensor
    entry: tf.Tensor
    names: tf.RaggedTensor | None
    declared: tf.Tensor


def read_cells(
    table: RoutingTable, numbered: Numbered, entries: Entries, index: tf.Tensor
) -> Cells:
    """Finds every row's fields, and what is wrong with them.

    Args:
        table: The routes.
        numbered: Their fields, as `number_fields` gives them with or without labels.
        entries: The batch.
        index: int32 [batch], the route of each row, -1 for none.
    """
    index = tf.cast(index, tf.int64)
    place, declared = _places(table, numbered, entries, index)
    slots = tf.range(tf.shape(place, tf.int64)[1])[None, :]
    count = tf.gather(tf.constant([0, *numbered.size], tf.int64), index + 1)
    cells = tf.where(slots < count[:, None])
    row, entry = cells[:, 0], tf.gather_nd(place, cells)
    first = tf.gather(tf.constant([0, *numbered.first], tf.int64), index + 1)
    field = tf.gather(first, row) + cells[:, 1]
    size = tf.gather(tf.pad(entries.size, [[0, 1]]), entry)
    names = _names(numbered, entries, field, entry, size)
    problem = _problem(numbered, entries, field, entry, size, names)
    problem = tf.math.unsorted_segment_min(problem, row, entries.num_rows)
    problem = tf.minimum(problem, _without_label(numbered, index, row, field, size))
    problem = tf.where(tf.equal(problem, _NONE), _FINE, problem)
    good = (size > 0) & (tf.gather(problem, row) < 0)
    mine = tf.squeeze(tf.where(good), 1)
    row, field, entry = (tf.gather(each, mine) for each in (row, field, entry))
    names = None if names is None else tf.gather(names, mine)
    return Cells(problem, problems_of(table, numbered), row, field, entry, names, declared)


def _places(
    table: RoutingTable, numbered: Numbered, entries: Entries, index: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the entry of each field of each row.

    Returns:
        int64 [batch, slots], n where there is none; and which entries are fields, bool [n].
    """
    num, route = len(names(table)), tf.gather(index, entries.row)
    known = (route >= 0) & (entries.name >= 0)
    code = tf.where(known, route * num + entries.name, -1)
    shape = tf.stack([entries.num_rows, np.max(numbered.size)])
    declared = tf.zeros_like(known)
    places = []
    for name in (numbered.key, numbered.column):
        field = find_code(code, numbered.route * num + name)
        declared |= field >= 0
        mine = tf.squeeze(tf.where(field >= 0), 1)
        slot = tf.gather(tf.constant(numbered.slot, tf.int64), tf.gather(field, mine))
        cell = tf.stack([tf.gather(entries.row, mine), slot], axis=1)
        # Of entries with equal keys the last counts, as in any protocol buffer map.
        none = tf.fill(shape, tf.constant(-1, tf.int64))
        places.append(tf.tensor_scatter_nd_max(none, cell, mine))
    size = tf.pad(entries.size, [[1, 0]])
    place = tf.where(tf.gather(size, places[0] + 1) > 0, *places)
    return tf.where(place < 0, tf.size(entries.row, tf.int64), place), declared


def _names(
    numbered: Numbered, entries: Entries, field: tf.Tensor, entry: tf.Tensor, size: tf.Tensor
) -> tf.RaggedTensor | None:
    """Finds the names of classes: int64 [m, None], as in `Cells`, -1 for a text that is none."""
    known = class_names(numbered.fields)
    if not known.names:
        return None
    named = tf.gather(tf.constant(known.has_names), field) & (size > 0)
    mine = tf.squeeze(tf.where(named), 1)
    texts = values_of(entries, tf.gather(entry, mine), STRING)
    of = tf.gather(tf.gather(field, mine), rows_of(texts))
    found = find_names(known, of, texts.flat_values)
    ragged: Any = tf.RaggedTensor
    return ragged.from_row_lengths(found, tf.where(named, size, 0), validate=False)


def _problem(
    numbered: Numbered,
    entries: Entries,
    field: tf.Tensor,
    entry: tf.Tensor,
    size: tf.Tensor,
    names: Any,
) -> tf.Tensor:
    """Finds the first problem of each cell: int64 [m], _NONE where all is well."""
    num = tf.size(entries.row, tf.int64) + 1  # the last stands for a field that is not there
    floats, of_float = entries.floats.values, rows_of(entries.floats)
    finite = tf.math.is_finite(floats)
    whole = tf.equal(tf.floor(floats), floats) & (tf.abs(floats) < 2.0**31)
    odd = [
        tf.math.unsorted_segment_max(tf.cast(tf.logical_not(good), tf.int32), of_float, num) > 0
        for good in (finite, whole)
    ]
    ints = tf.concat([entries.ints.values, tf.cast(floats, tf.int64)], axis=0)
    of_int = tf.concat([rows_of(entries.ints), of_float], axis=0)
    low = tf.gather(tf.math.unsorted_segment_min(ints, of_int, num), entry)
    high = tf.gather(tf.math.unsorted_segment_max(ints, of_int, num), entry)
    not_finite, fraction = (tf.gather(each, entry) for each in odd)
    kind = tf.gather(tf.pad(entries.kind, [[0, 1]]), entry)
    want, num_values, num_codes = (
        tf.gather(tf.constant(each, tf.int64), field)
        for each in (numbered.dtype, numbered.num_values, numbered.num_codes)
    )
    out_of_range = (num_codes >= 0) & ((low < 0) | (high >= num_codes))
    if numbered.is_weight.any():
        below = tf.math.unsorted_segment_max(tf.cast(floats < 0, tf.int32), of_float, num) > 0
        is_weight = tf.gather(tf.constant(numbered.is_weight), field)
        out_of_range |= is_weight & ((low < 0) | tf.gather(below, entry))
    if names is not None:
        out_of_range |= tf.reduce_any(names < 0, axis=1)
    required = tf.gather(tf.constant(numbered.required), field)
    there = size > 0
    is_text = tf.equal(kind, STRING) & tf.not_equal(want, STRING)
    bad_value = (tf.equal(want, FLOAT) & not_finite) | (tf.equal(want, INT) & fraction)
    bad = {
        TEXT: is_text & there,
        VALUE: bad_value & there,
        MISSING: required & tf.logical_not(there),
        SHAPE: there & (num_values >= 0) & tf.not_equal(size, num_values),
        RANGE: there & out_of_range,
        WRITTEN: _unreadable(numbered, entries, field, entry, size),
    }
    problem = tf.fill(tf.shape(field), _NONE)
    for check in reversed(CHECKS):
        problem = tf.where(bad[check], field * len(CHECKS) + check, problem)
    return problem


def _unreadable(
    numbered: Numbered, entries: Entries, field: tf.Tensor, entry: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Finds the cells whose text is not of their kind: bool [m]; kind by kind, not by route."""
    written = tf.gather(tf.constant(numbered.written, tf.int64), field)
    unreadable = tf.zeros_like(written, tf.bool)
    for number, kind in enumerate(numbered.kinds):
        mine = tf.where(tf.equal(written, number) & tf.equal(size, 1))
        texts = values_of(entries, tf.gather(entry, mine[:, 0]), STRING).flat_values
        readable = read_written(kind, texts).readable
        unreadable = tf.tensor_scatter_nd_update(unreadable, mine, tf.logical_not(readable))
    return unreadable


def _without_label(
    numbered: Numbered, index: tf.Tensor, row: tf.Tensor, field: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Finds the rows that lack all of their labels, which would teach nothing: int64 [batch]."""
    is_label = tf.gather(tf.constant(numbered.is_label), field) & (size > 0)
    num_rows = tf.size(index, tf.int64)
    labels = tf.math.unsorted_segment_sum(tf.cast(is_label, tf.int32), row, num_rows)
    wanted = tf.gather(tf.constant([False, *numbered.some_label]), index + 1)
    problem = len(numbered.fields) * len(CHECKS) + index
    return tf.where(wanted & tf.equal(labels, 0), problem, _NONE)


def rows_of(values: tf.RaggedTensor) -> tf.Tensor:
    """The row of each of the values, int64; `value_rowids` would need rows × the longest row."""
    return values.to_sparse().indices[:, 0]


def values_of(entries: Entries, entry: tf.Tensor, dtype: int) -> Any:
    """The values of some entries in a declared type, given that they can be read so.

    Args:
        entries: The batch.
        entry: int64 [m], which entries.
        dtype: STRING, FLOAT or INT.

    Returns:
        RaggedTensor [m, None].
    """
    strings, floats, ints = (
        tf.gather(each, entry) for each in (entries.strings, entries.floats, entries.ints)
    )
    if dtype == STRING:
        floats = floats.with_flat_values(tf.strings.as_string(floats.flat_values, shortest=True))
        ints = ints.with_flat_values(tf.strings.as_string(ints.flat_values))
        return tf.concat([strings, floats, ints], axis=1)  # each row has values in one of them
    if dtype == FLOAT:
        return tf.concat([floats, tf.cast(ints, tf.float32)], axis=1)
    return tf.concat([tf.cast(floats, tf.int64), ints], axis=1)
