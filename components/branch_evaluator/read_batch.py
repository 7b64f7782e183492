"""Reads routes and labels out of a batch of mixed examples."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.components.branch_evaluator.labels import Label
from branchline.components.routing.class_names import class_index
from branchline.components.routing.has_label import has_label
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


def read_label(batch: pa.RecordBatch, label: Label, rows: np.ndarray) -> tuple[Any, Any]:
    """Returns the labels of the rows that have one, [kept, num_values], and which have, [rows].

    Names become the numbers of their classes.

    Raises:
        BranchlineError: A row lacks a required label, has too many or too few values, or one that
            is no name of a class.
    """
    target = label.target
    values, starts, lengths = _column(batch, label.column)
    starts, lengths = starts[rows], lengths[rows]
    wrong = lengths[(lengths != target.num_values) & ((lengths != 0) | (not target.optional))]
    if wrong.size:
        raise BranchlineError(
            f"route {label.route.name!r} could not be evaluated: a row has {wrong[0]} values in "
            f"{label.column!r}, expected {words_of(label)}"
        )
    there = lengths == target.num_values
    labels = np.asarray(values)[starts[there][:, None] + np.arange(target.num_values)]
    if target.classes:
        labels = _numbers_of(labels, label)
    kept = has_label(labels, target)
    there[there] = kept
    return labels[kept], there


def _numbers_of(names: np.ndarray, label: Label) -> np.ndarray:
    classes = label.target.classes or ()
    numbers = class_index(tf.constant(names.reshape(-1), tf.string), classes).numpy()
    if (numbers < 0).any():
        odd = names.reshape(-1)[numbers < 0][0].decode(errors="backslashreplace")
        raise BranchlineError(
            f"route {label.route.name!r} could not be evaluated: a row has {odd!r} in "
            f"{label.column!r}, expected {words_of(label)} among {', '.join(classes)}"
        )
    return numbers.reshape(names.shape)


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
