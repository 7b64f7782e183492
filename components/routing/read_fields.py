"""Reads a route's features and labels out of parsed examples, as the types the route declares.

Whole numbers stand for floats, numbers for texts, and floats without a fraction for whole numbers;
what cannot be read so is a problem of the record, found here for training and for serving alike.
"""

from typing import NamedTuple

import tensorflow as tf

from branchline.components.routing.parse_batch import ABSENT, FLOAT, INT, STRING, Column
from branchline.schemas import Ids, Route, Target


class Problem(NamedTuple):
    """Why a record cannot be used: a word to count by, and a sentence for people."""

    reason: str
    detail: str


class Fields(NamedTuple):
    """What the examples of one route hold.

    Attributes:
        columns: Key → Column whose `dtype` is the declared type, or ABSENT.
        problem: int32 [batch], an index into `problems`, -1 where all is well.
        problems: What the indices mean.
    """

    columns: dict[str, Column]
    problem: tf.Tensor
    problems: list[Problem]


def read_fields(route: Route, columns: dict[str, Column], *, label: bool) -> Fields:
    """Reads the features of `route`, and with `label` its labels too.

    Args:
        route: What to read, and as what.
        columns: Parsed values of at least the keys that the route declares.
        label: Whether to read and check the labels.
    """
    labels = route.labels if label else {}
    checks: list[tuple[tf.Tensor, Problem]] = []
    read: dict[str, Column] = {}
    for key in (*route.features, *labels):
        read[key], found = _coerce(key, columns[key], route.dtypes[key])
        checks += found
        if key in labels:
            checks += _check_label(key, labels[key], read[key])
        else:
            checks += _check(route, key, read)
    checks += _check_any_label(labels, read)
    problem = tf.fill(tf.shape(checks[0][0]), -1)
    for index, (bad, _) in reversed(list(enumerate(checks))):
        problem = tf.where(bad, index, problem)
    return Fields(read, problem, [why for _, why in checks])


def _coerce(key: str, column: Column, dtype: str) -> tuple[Column, list]:
    is_float, is_int = tf.equal(column.dtype, FLOAT), tf.equal(column.dtype, INT)
    is_string = tf.equal(column.dtype, STRING)
    positions = tf.range(tf.reduce_max(column.size))[None, :] < column.size[:, None]
    if dtype == "string":
        floats = tf.strings.as_string(column.floats[:, :1], shortest=True)
        numbers = tf.where(is_float[:, None], floats, tf.strings.as_string(column.ints[:, :1]))
        strings = tf.where((is_float | is_int)[:, None], numbers, column.strings[:, :1])
        return _as(column, STRING, strings=strings), []
    wrong = [(is_string, Problem("wrong_type", f"{key}: got a text, expected {_NAMES[dtype]}"))]
    if dtype == "float":
        width = tf.maximum(tf.shape(column.floats)[1], tf.shape(column.ints)[1])
        ints = tf.cast(widen(column.ints, width), tf.float32)
        floats = tf.where(is_int[:, None], ints, widen(column.floats, width))
        finite = tf.math.is_finite(floats[:, : tf.shape(positions)[1]])
        odd = tf.logical_not(finite) & positions
        bad = is_float & tf.reduce_any(odd, axis=1)
        wrong.append((bad, Problem("not_finite", f"{key}: got NaN or infinity")))
        return _as(column, FLOAT, floats=floats), wrong
    width = tf.maximum(tf.shape(column.floats)[1], tf.shape(column.ints)[1])
    floats = widen(column.floats, width)
    whole = tf.equal(tf.floor(floats), floats) & (tf.abs(floats) < 2.0**31)
    broken = tf.logical_not(whole[:, : tf.shape(positions)[1]])
    bad = is_float & tf.reduce_any(broken & positions, axis=1)
    wrong.append((bad, Problem("wrong_type", f"{key}: got a fraction, expected a whole number")))
    ints = tf.where(
        (is_float & ~bad)[:, None], tf.cast(floats, tf.int64), widen(column.ints, width)
    )
    return _as(column, INT, ints=ints), wrong


_NAMES = {"float": "a number", "int": "a whole number"}


def _as(column: Column, dtype: int, **values: tf.Tensor) -> Column:
    present = tf.where(tf.equal(column.dtype, ABSENT), ABSENT, dtype)
    return column._replace(dtype=present, **values)


def widen(values: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Pads values [batch, n] to [batch, width]."""
    return tf.pad(values, tf.stack([[0, 0], [0, width - tf.shape(values)[1]]]))


def _check(route: Route, key: str, read: dict[str, Column]) -> list:
    kind, column = route.features[key], read[key]
    present = column.size > 0
    checks = []
    if kind.required:
        checks.append(
            (
                tf.logical_not(present),
                Problem("feature_missing", f"{key}: is missing, expected {kind}"),
            )
        )
    if kind.num_values is not None:
        bad = present & tf.not_equal(column.size, kind.num_values)
        checks.append(
            (
                bad,
                Problem(
                    "wrong_shape", f"{key}: expected {kind.num_values} value(s), got another number"
                ),
            )
        )
    if isinstance(kind, Ids):
        ids = column.ints[:, : kind.length]
        bad = tf.reduce_any((ids < 0) | (ids >= kind.num_ids), axis=1)
        checks.append((bad, Problem("out_of_range", f"{key}: expected ids in [0, {kind.num_ids})")))
    return checks


def _check_label(key: str, target: Target, column: Column) -> list:
    num = target.num_values
    missing = tf.equal(column.size, 0)
    wanted = f"{num} labels, got another number" if target.shape else "one label, got several"
    bad = tf.not_equal(column.size, num) & tf.logical_not(missing)
    checks = [(bad, Problem("wrong_shape", f"{key}: expected {wanted}"))]
    if not target.optional:
        checks.insert(0, (missing, Problem("label_missing", f"{key}: the label is missing")))
    if target.classes is not None:
        ints = column.ints[:, :num]
        bad = tf.reduce_any((ints < 0) | (ints >= target.classes), axis=1)
        why = f"{key}: expected a label in [0, {target.classes})"
        checks.append((bad, Problem("label_out_of_range", why)))
    return checks


def _check_any_label(labels: dict[str, Target], read: dict[str, Column]) -> list:
    """A record may lack each of its labels, but not all: it would teach nothing."""
    if not labels or not all(target.optional for target in labels.values()):
        return []
    none = tf.reduce_all(tf.stack([tf.equal(read[key].size, 0) for key in labels]), axis=0)
    return [(none, Problem("label_missing", f"{', '.join(labels)}: all labels are missing"))]
