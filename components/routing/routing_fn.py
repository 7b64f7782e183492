"""Compiles a routing table to TensorFlow operations; the one definition of routing.

The Router runs it on batches of records, the exported model on what it is asked. All conditions
are evaluated at once, as `plan_conditions` lays them out: the number of operations grows with how
deep they are nested, not with how many routes, keys or values there are.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import tensorflow as tf

from branchline.components.routing.find import find
from branchline.components.routing.parse_batch import (
    ABSENT,
    DTYPE_CODES,
    FLOAT,
    INT,
    STRING,
    Entries,
    names,
)
from branchline.components.routing.plan_conditions import Atom, Plan, plan
from branchline.schemas import RoutingTable

_NO_CLASS = -1
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def route_index(table: RoutingTable, entries: Entries) -> tf.Tensor:
    """Finds the first route that takes each example.

    Args:
        table: The routes, in order.
        entries: What `parse` gives.

    Returns:
        int32 [batch], an index into `table.routes`, -1 where no route matches.
    """
    planned = plan([route.condition for route in table.routes])
    nodes = _atoms(table, planned, entries)
    for level in planned.levels:
        literals = _literals(nodes, [each for literals in level for each in literals])
        node = np.repeat(np.arange(len(level)), [len(literals) for literals in level])
        all_of = tf.math.segment_min(tf.cast(literals, tf.int32), node)
        nodes = tf.concat([nodes, all_of > 0], axis=0)
    held = _literals(nodes, planned.roots)
    first = tf.argmax(tf.cast(held, tf.int32), axis=0, output_type=tf.int32)
    return tf.where(tf.reduce_any(held, axis=0), first, -1)


def _literals(nodes: tf.Tensor, literals: list[tuple[int, bool]]) -> tf.Tensor:
    negated = tf.constant([negated for _, negated in literals])
    values = tf.gather(nodes, tf.constant([number for number, _ in literals]))
    return tf.not_equal(values, negated[:, None])


class _Keys(NamedTuple):
    """What the rows hold under the keys that conditions read, each [keys, batch].

    Attributes:
        dtype: int64, a code.
        single: The code where there is exactly one value, else ABSENT.
        number: The one float.
        whole: The one int.
        value: The class of the one value.
    """

    dtype: tf.Tensor
    single: tf.Tensor
    number: tf.Tensor
    whole: tf.Tensor
    value: tf.Tensor


def _atoms(table: RoutingTable, planned: Plan, entries: Entries) -> tf.Tensor:
    """Evaluates the atoms: bool [atoms, batch]."""
    keys = sorted({atom.key for atom in planned.atoms})
    held = _read_keys(table, planned, keys, entries)
    parts, order = [], []
    for kind, evaluate in _EVALUATE.items():
        chosen = [number for number, atom in enumerate(planned.atoms) if atom.kind == kind]
        if not chosen:
            continue
        atoms = [planned.atoms[number] for number in chosen]
        rows = tf.constant([keys.index(atom.key) for atom in atoms])
        parts.append(evaluate(_Keys(*(tf.gather(part, rows) for part in held)), atoms))
        order += chosen
    return tf.gather(tf.concat(parts, axis=0), tf.constant(np.argsort(order)))


def _read_keys(table: RoutingTable, planned: Plan, keys: list[str], entries: Entries) -> _Keys:
    read = _reading(table, keys)
    mine = tf.squeeze(tf.where(tf.reduce_any(tf.gather(read >= 0, entries.name + 1), axis=1)), 1)
    row, name, kind, size, *values = (
        tf.gather(each, mine)
        for each in (
            entries.row,
            entries.name,
            entries.kind,
            entries.size,
            entries.strings,
            entries.floats,
            entries.ints,
        )
    )
    dtype = tf.where(size > 0, kind, ABSENT)
    single = tf.where(tf.equal(size, 1), kind, ABSENT)
    is_text, is_float, is_int = (tf.equal(single, code) for code in (STRING, FLOAT, INT))
    text, number, whole = map(_one, values, (is_text, is_float, is_int))
    # The tokens of `plan_conditions`; the bits of -0.0 are those of 0.0, which equals it.
    bits = tf.bitcast(tf.where(tf.equal(number, 0), 0.0, number), tf.int32)
    token = tf.where(is_text, tf.strings.join(["s", text]), "")
    token = tf.where(is_float, tf.strings.join(["f", tf.strings.as_string(bits)]), token)
    token = tf.where(is_int, tf.strings.join(["i", tf.strings.as_string(whole)]), token)
    classes = tf.constant([_NO_CLASS, *planned.classes.values()], tf.int64)
    value = tf.gather(classes, find(token, list(planned.classes)) + 1)
    place = 1 + _places(tf.gather(read, name + 1), row, dtype, len(keys), entries.num_rows)
    absent = [ABSENT, ABSENT, 0, 0, _NO_CLASS]
    return _Keys(
        *(
            tf.gather(tf.pad(part, [[1, 0]], constant_values=none), place)
            for part, none in zip([dtype, single, number, whole, value], absent, strict=True)
        )
    )


def _reading(table: RoutingTable, keys: list[str]) -> tf.Tensor:
    """Which of `keys` an entry stands for, by its own name and as a column of a routed example.

    Returns:
        int64 [names + 1, 2], by the entry's `name` + 1; -1 for none.
    """
    columns = {column: key for route in table.names for key, column in table.columns(route).items()}
    place = {key: number for number, key in enumerate(keys)}
    found = [[-1, -1]]
    for name in names(table):
        key = columns.get(name, name)
        found.append([place.get(name, -1), -1 if key == name else place.get(key, -1)])
    return tf.constant(found, tf.int64)


def _places(
    key: tf.Tensor, row: tf.Tensor, dtype: tf.Tensor, num_keys: int, num_rows: tf.Tensor
) -> tf.Tensor:
    """Finds where each row holds each key, given which `key` [n, 2] an entry stands for.

    Returns:
        int64 [keys, batch], -1 where it does not.
    """
    none = tf.fill(tf.stack([num_keys, num_rows]), tf.constant(-1, tf.int64))
    places = []
    for each in tf.unstack(key, axis=1):  # under its own name, and as a column
        mine = tf.squeeze(tf.where(each >= 0), 1)
        cell = tf.stack([tf.gather(each, mine), tf.gather(row, mine)], axis=1)
        # Of entries with equal keys the last counts, as in any protocol buffer map.
        places.append(tf.tensor_scatter_nd_max(none, cell, mine))
    there = tf.gather(tf.pad(dtype, [[1, 0]]), places[0] + 1) > 0
    return tf.where(there, *places)


def _one(values: tf.RaggedTensor, there: tf.Tensor) -> tf.Tensor:
    """The first value of each row that has one, else nothing."""
    flat = tf.concat([values.flat_values, tf.zeros([1], values.dtype)], axis=0)
    last = tf.size(values.flat_values, tf.int64)
    return tf.gather(flat, tf.where(there, values.row_starts(), last))


def _compared(operation: Callable, held: _Keys, atoms: list[Atom]) -> tf.Tensor:
    """Compares whole numbers with whole numbers exactly, floats as the float32 they are stored as.

    0.1 in a recipe and 0.1 in a record are then the same number.
    """
    values = [cast(float, atom.value) for atom in atoms]
    with np.errstate(over="ignore"):
        single = np.array(values, np.float64).astype(np.float32)[:, None]
    # A whole number is greater than 2.5 if it is greater than 2, and less if it is less than 3.
    if operation is tf.greater:
        nearest = [math.floor(value) for value in values]
        always = np.array([[value < _INT_MIN] for value in nearest])
    else:
        nearest = [math.ceil(value) for value in values]
        always = np.array([[value > _INT_MAX] for value in nearest])
    bound = np.array([[min(max(value, _INT_MIN), _INT_MAX)] for value in nearest], np.int64)
    of_floats, of_ints = operation(held.number, single), operation(held.whole, bound) | always
    floats, ints = tf.equal(held.single, FLOAT), tf.equal(held.single, INT)
    return (floats & of_floats) | (ints & of_ints)


def _of_dtype(held: _Keys, atoms: list[Atom]) -> tf.Tensor:
    codes = np.array([[DTYPE_CODES[str(atom.value)]] for atom in atoms], np.int64)
    return tf.equal(held.dtype, codes)


def _of_class(held: _Keys, atoms: list[Atom]) -> tf.Tensor:
    classes = np.array([[atom.value] for atom in atoms], np.int64)
    return tf.equal(held.value, classes)


_EVALUATE: dict[str, Callable[[_Keys, list[Atom]], tf.Tensor]] = {
    "present": lambda held, _: tf.not_equal(held.dtype, ABSENT),
    "dtype": _of_dtype,
    "class": _of_class,
    "greater": functools.partial(_compared, tf.greater),
    "less": functools.partial(_compared, tf.less),
}
