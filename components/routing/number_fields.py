"""Numbers the fields of all routes, so that a batch's rows gather what holds for their own route.

What is done with a field depends on numbers alone, its type, its size, its bounds; with these in
arrays, a row of any route goes through the same operations.
"""

from typing import NamedTuple

import numpy as np

from branchline.components.routing.parse_batch import DTYPE_CODES, names
from branchline.schemas import Route, RoutingTable
from branchline.schemas.features import Image, Written
from branchline.schemas.fields import Field

# What can be wrong with a field, in the order in which it is told.
TEXT, VALUE, MISSING, SHAPE, RANGE, WRITTEN = CHECKS = range(6)
_NAMES_TOLD = 20


class Problem(NamedTuple):
    """Why a record cannot be used: a word to count by, and a sentence for people."""

    reason: str
    detail: str


class Numbered(NamedTuple):
    """The fields [f] of all routes [k], route by route in the table's order.

    Attributes:
        fields: What they are.
        route: int64 [f].
        slot: int64 [f], a field's place among those of its route.
        key: int64 [f], in `names(table)`.
        column: int64 [f], in `names(table)`.
        dtype: int64 [f], its code.
        num_values: int64 [f], -1 for any number.
        required: bool [f].
        is_label: bool [f].
        is_weight: bool [f].
        num_codes: int64 [f], -1 for no bound.
        written: int64 [f], as which of the `kinds` its text is read, -1 for none.
        kinds: They, each once.
        first: int64 [k], a route's first field.
        size: int64 [k], how many it has.
        some_label: bool [k], whether a record may lack each label, but not all of them.
    """

    fields: list[Field]
    route: np.ndarray
    slot: np.ndarray
    key: np.ndarray
    column: np.ndarray
    dtype: np.ndarray
    num_values: np.ndarray
    required: np.ndarray
    is_label: np.ndarray
    is_weight: np.ndarray
    num_codes: np.ndarray
    written: np.ndarray
    kinds: list[Written | Image]
    first: np.ndarray
    size: np.ndarray
    some_label: np.ndarray


def number_fields(table: RoutingTable, *, label: bool) -> Numbered:
    """Numbers the features of all routes, and with `label` their labels and weights."""
    place = {name: number for number, name in enumerate(names(table))}
    of_route = [
        [field for field in table.fields(name).values() if label or field.is_feature]
        for name in table.names
    ]
    fields = [field for some in of_route for field in some]
    size = np.array([len(some) for some in of_route], np.int64)
    first = np.cumsum(size) - size
    route = np.repeat(np.arange(len(size)), size)
    bounds = [(_or_none(field.num_values), _or_none(field.num_codes)) for field in fields]
    optional = [all(not field.required for field in some if field.is_label) for some in of_route]
    kinds = list(dict.fromkeys(field.written for field in fields if field.written))
    return Numbered(
        fields=fields,
        route=route,
        slot=np.arange(len(fields)) - first[route],
        key=np.array([place[field.key] for field in fields], np.int64),
        column=np.array([place[field.column] for field in fields], np.int64),
        dtype=np.array([DTYPE_CODES[field.dtype] for field in fields], np.int64),
        num_values=np.array([num for num, _ in bounds], np.int64),
        required=np.array([field.required for field in fields]),
        is_label=np.array([field.is_label for field in fields]),
        is_weight=np.array([field.is_weight for field in fields]),
        num_codes=np.array([codes for _, codes in bounds], np.int64),
        written=np.array([kinds.index(f.written) if f.written else -1 for f in fields], np.int64),
        kinds=kinds,
        first=first,
        size=size,
        some_label=np.array([label and each for each in optional]),
    )


def _or_none(number: int | None) -> int:
    return -1 if number is None else number


def problems_of(table: RoutingTable, numbered: Numbered) -> list[Problem]:
    """Words every problem: of field f and check c at `f * len(CHECKS) + c`, then one a route."""
    routes = [table.routes[number] for number in numbered.route]
    words = [
        problem
        for field, route in zip(numbered.fields, routes, strict=True)
        for problem in _problems(field, route)
    ]
    none = [f"{', '.join(route.labels)}: all labels are missing" for route in table.routes]
    return words + [Problem("label_missing", detail) for detail in none]


def _problems(field: Field, route: Route) -> list[Problem]:
    """Words the checks of a field, in the order of CHECKS."""
    key, what = field.key, "a number" if field.dtype == "float" else "a whole number"
    value = Problem("wrong_type", f"{key}: got a fraction, expected a whole number")
    if field.dtype == "float":
        value = Problem("not_finite", f"{key}: got NaN or infinity")
    text = Problem("wrong_type", f"{key}: got a text, expected {what}")
    if field.is_weight:
        bad = Problem("bad_weight", f"{key}: got a weight below 0, NaN or infinity")
        missing = Problem("weight_missing", f"{key}: the weight is missing")
        several = Problem("wrong_shape", f"{key}: expected one weight, got several")
        return [text, bad, missing, several, bad, _unreadable(field)]
    if field.is_feature:
        kind = route.features[key]
        size = f"{key}: expected {field.num_values} value(s), got another number"
        return [
            text,
            value,
            Problem("feature_missing", f"{key}: is missing, expected {kind}"),
            Problem("wrong_shape", size),
            Problem("out_of_range", f"{key}: expected ids in [0, {field.num_codes})"),
            _unreadable(field),
        ]
    num, shape = field.num_values, route.labels[key].shape
    size = f"{num} labels, got another number" if shape else "one label, got several"
    return [
        text,
        value,
        Problem("label_missing", f"{key}: the label is missing"),
        Problem("wrong_shape", f"{key}: expected {size}"),
        Problem("unknown_class", f"{key}: expected {_listed(field.classes)}")
        if field.classes
        else Problem("label_out_of_range", f"{key}: expected {_in_range(route, field)}"),
        _unreadable(field),
    ]


def _in_range(route: Route, field: Field) -> str:
    is_count = route.labels[field.key].task == "count"
    return "a number from 0 on" if is_count else f"a label in [0, {field.num_codes})"


def _listed(classes: tuple[str, ...]) -> str:
    """Names classes, not hundreds of them.

    >>> _listed(("ham", "spam"))
    "one of 'ham', 'spam'"
    """
    more = f" … ({len(classes)} in all)" if len(classes) > _NAMES_TOLD else ""
    return f"one of {', '.join(map(repr, classes[:_NAMES_TOLD]))}{more}"


def _unreadable(field: Field) -> Problem:
    if field.written is None:
        return Problem("wrong_type", f"{field.key}: cannot be read")  # never found
    return Problem(
        field.written.reason, f"{field.key}: got another text, expected {field.written.expected}"
    )
