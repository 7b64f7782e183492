"""Reads routes and labels out of a batch of mixed examples."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.components.branch_evaluator.labels import Label
from branchline.components.routing.class_names import class_index
from branchline.components.routing.has_label import has_label
from branchline.components.routing.label_sets import label_sets
from branchline.components.routing.read_lists import Texts
from branchline.schemas import BranchlineError

ROUTE = "_route"
_TYPES = {"float": schema_pb2.FLOAT, "int": schema_pb2.INT, "string": schema_pb2.BYTES}


def batch_schema(dtypes: Mapping[str, str]) -> schema_pb2.Schema:
    """Describes what is read of an example: its route and these columns; the rest is not decoded.

    Args:
        dtypes: Column → "float", "int" or "string".
    """
    schema = schema_pb2.Schema()
    for name, dtype in {ROUTE: "string", **dtypes}.items():
        schema.feature.add(name=name, type=_TYPES[dtype])  # pyright: ignore[reportArgumentType]
    return schema


def rows_of_routes(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Returns route → the numbers of its rows, int64 [rows].

    Raises:
        BranchlineError: An example does not name one route.
    """
    values, _, lengths = _column(batch, ROUTE)
    if (lengths != 1).any():
        raise BranchlineError(
            f"an example has {lengths[lengths != 1][0]} values of {ROUTE!r}, expected the name of "
            "one route, as Router writes it"
        )
    names, inverse = np.unique(np.asarray(values), return_inverse=True)
    return {
        name.decode(): np.flatnonzero(inverse == number)
        for number, name in enumerate(names.tolist())
    }


class ReadLabel(NamedTuple):
    """A label of some rows.

    Attributes:
        values: [kept, num_values], of the rows that have one that can be judged.
        there: bool [rows], which have.
        unlearnt: How many rows have a name that the model has not learnt. Such a name in a list
            counts for nothing; a row that has no other is not kept.
    """

    values: np.ndarray
    there: np.ndarray
    unlearnt: int


def read_label(batch: pa.RecordBatch, label: Label, rows: np.ndarray) -> ReadLabel:
    """Reads the labels of the rows that have one.

    Names become the numbers of their classes; a list of names an entry 0 or 1 for each class.

    Raises:
        BranchlineError: A row lacks a required label, has too many or too few values, or one that
            is no name of a class.
    """
    target = label.target
    values, starts, lengths = _column(batch, label.column)
    starts, lengths = starts[rows], lengths[rows]
    wanted = target.num_held or lengths
    wrong = lengths[
        ((lengths != wanted) | (lengths == 0)) & ((lengths != 0) | (not target.optional))
    ]
    if wrong.size:
        raise BranchlineError(
            f"route {label.route.name!r} could not be evaluated: a row has {wrong[0]} values in "
            f"{label.column!r}, expected {words_of(label)}"
        )
    if target.is_set:
        return _entries_of(np.asarray(values), starts, lengths, label)
    there, unlearnt = lengths == target.num_values, np.zeros(1)
    labels = np.asarray(values)[starts[there][:, None] + np.arange(target.num_values)]
    if target.names:
        labels = _numbers_of(labels, label)
        unlearnt = (labels < 0).any(axis=1)
        there[there], labels = ~unlearnt, labels[~unlearnt]
    kept = has_label(labels, target)
    there[there] = kept
    return ReadLabel(labels[kept], there, int(unlearnt.sum()))


def _entries_of(
    values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, label: Label
) -> ReadLabel:
    rows = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]
    mine = values[starts[rows] + place]
    texts = Texts(tf.constant(rows, tf.int64), tf.constant(mine, tf.string))
    read = label_sets(texts, label.target, tf.constant(len(lengths), tf.int64))
    _refuse_odd(read.odd.numpy(), label)
    there = lengths > 0
    unlearnt = int((read.unknown.numpy() > 0).sum())
    return ReadLabel(read.entries.numpy()[there].astype(np.int64), there, unlearnt)


def _numbers_of(names: np.ndarray, label: Label) -> np.ndarray:
    texts = tf.strings.strip(tf.constant(names.reshape(-1), tf.string))
    numbers = class_index(texts, label.target.names or ()).numpy()
    _refuse_odd(names.reshape(-1)[numbers < 0], label)
    return numbers.reshape(names.shape)


def _refuse_odd(odd: np.ndarray, label: Label) -> None:
    if len(odd) and not label.learnt:
        text = odd[0].decode(errors="backslashreplace")
        names = ", ".join(label.target.names or ())
        raise BranchlineError(
            f"route {label.route.name!r} could not be evaluated: a row has {text!r} in "
            f"{label.column!r}, expected {words_of(label)} among {names}"
        )


def read_weight(batch: pa.RecordBatch, label: Label, rows: np.ndarray) -> np.ndarray:
    """Returns how much the rows count, float64 [rows].

    Raises:
        BranchlineError: A row has no weight or several, or one that is negative or not finite.
    """
    values, starts, lengths = _column(batch, label.weight or "")
    where = f"route {label.route.name!r} could not be evaluated: a row has"
    expected = f"in {label.weight!r}, expected one weight, a finite number from 0 on"
    wrong = lengths[rows][lengths[rows] != 1]
    if wrong.size:
        raise BranchlineError(f"{where} {wrong[0]} values {expected}")
    weights = np.asarray(values)[starts[rows]].astype(np.float64)
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if bad.size:
        raise BranchlineError(f"{where} {bad[0]} {expected}")
    return weights


def read_features(
    batch: pa.RecordBatch, names: Iterable[str], rows: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """Returns for each row the values of these columns that it has; nothing if there are none."""
    columns = {name: _column(batch, name) for name in names}
    return [
        {
            name: np.asarray(values)[starts[row] : starts[row] + lengths[row]]
            for name, (values, starts, lengths) in columns.items()
            if lengths[row]
        }
        for row in rows
        if columns
    ]


def words_of(label: Label) -> str:
    """Words what a row has to hold.

    >>> from branchline.schemas import Numeric, Route, Target, when
    >>> targets = {"y": Target("binary", shape=(5,), optional=True)}
    >>> route = Route("r", when.present("x"), features={"x": Numeric()}, targets=targets)
    >>> words_of(Label(route, "y", "y", (), {}))
    "5 ints or none in 'y'"
    """
    target = label.target
    what = "class name" if target.classes else target.dtype
    if target.is_set:
        return "class names" + " or none" * target.optional + f" in {label.column!r}"
    number = f"{target.num_values} {what}s" if target.shape else f"one {what}"
    return number + " or none" * target.optional + f" in {label.column!r}"


def _column(batch: pa.RecordBatch, name: str) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Returns all values of a feature, and where each row's begin and how many they are."""
    column = batch.column(batch.schema.get_field_index(name))
    if pa.types.is_null(column.type):
        return pa.array([], pa.int64()), *np.zeros((2, len(column)), np.int64)
    lengths = (
        pc.call_function("list_value_length", [column]).fill_null(0).to_numpy().astype(np.int64)
    )
    return column.flatten(), np.cumsum(lengths) - lengths, lengths
