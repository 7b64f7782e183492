"""What routing promises, once more in plain Python; knows nothing of the TensorFlow functions."""

import math

import numpy as np

from branchline.schemas import when

KINDS = {str: "string", float: "float", int: "int"}


def kind_of(values):
    return KINDS[type(values[0])] if values else None


def matches(condition, record):
    """What `when` says of a record: the documentation once more, in plain Python.

    Args:
        condition: From `when`.
        record: Key → list of values of one type.
    """
    values = held(record, getattr(condition, "key", None))
    one = values[0] if len(values) == 1 else None
    match condition:
        case when.Present():
            return bool(values)
        case when.DType(_, dtype):
            return kind_of(values) == dtype
        case when.IsIn(_, wanted):
            return one is not None and any(equal(one, value) for value in wanted)
        case when.Greater(_, value):
            return is_number(one) and stored(one, like=one) > stored(value, like=one)
        case when.Less(_, value):
            return is_number(one) and stored(one, like=one) < stored(value, like=one)
        case when.All(conditions):
            return all(matches(each, record) for each in conditions)
        case when.Any(conditions):
            return any(matches(each, record) for each in conditions)
        case when.Not(inner):
            return not matches(inner, record)


def held(record, key):
    """The values of a key; one empty text is none."""
    values = record.get(key, [])
    return [] if values == [""] else values


def is_number(value):
    return isinstance(value, int | float)


def stored(value, like=0.0):
    """A record's float is a float32, and a number that it is compared with is rounded so too."""
    return float(np.float32(value)) if isinstance(like, float) else value


def equal(one, value):
    if isinstance(one, str) or isinstance(value, str):
        return type(one) is type(value) and one == value
    return stored(one, one) == stored(value, like=one)


def expected_route(table, record):
    names = [route.name for route in table.routes if matches(route.condition, record)]
    return names[0] if names else None


def problem_of(route, record, label=True):
    """Why a record cannot take its route, or None: the promises of `Route` and the kinds."""
    for key, kind in route.features.items():
        values = held(record, key)
        if not values:
            if kind.required:
                return "feature_missing"
            continue
        if kind.dtype != "string":
            if kind_of(values) == "string":
                return "wrong_type"
            if kind.dtype == "float" and not all(map(math.isfinite, values)):
                return "not_finite"
            if kind.dtype == "int" and not all(map(is_whole, values)):
                return "wrong_type"
        if kind.num_values is not None and len(values) != kind.num_values:
            return "wrong_shape"
        if kind.num_codes and not all(0 <= value < kind.num_codes for value in values):
            return "out_of_range"
    if not label:
        return None
    for key, target in route.labels.items():
        problem = label_problem(target, held(record, key))
        if problem:
            return problem
    if route.weight is not None:
        problem = weight_problem(held(record, route.weight))
        if problem:
            return problem
    return None if any(held(record, key) for key in route.labels) else "label_missing"


def weight_problem(values):
    if not values:
        return "weight_missing"
    if kind_of(values) == "string":
        return "wrong_type"
    if not all(map(math.isfinite, values)):
        return "bad_weight"
    if len(values) != 1:
        return "wrong_shape"
    return None if values[0] >= 0 else "bad_weight"


def label_problem(target, values):
    if not values:
        return None if target.optional else "label_missing"
    if kind_of(values) == "string":
        return "wrong_type"
    if target.dtype == "float" and not all(map(math.isfinite, values)):
        return "not_finite"
    if target.dtype != "float" and not all(map(is_whole, values)):
        return "wrong_type"
    if len(values) != math.prod(target.shape):
        return "wrong_shape"
    classes = target.num_classes or {"binary": 2}.get(target.task)
    if target.task == "count":
        classes = 2**53
    if classes and not all(0 <= value < classes for value in values):
        return "label_out_of_range"
    return None


def is_whole(value):
    return isinstance(value, int) or (value == math.floor(value) and abs(value) < 2**31)


def expected_values(values, dtype):
    """The values of a declared field, in the declared type."""
    if dtype == "float":
        return [float(np.float32(value)) for value in values]
    if dtype == "int":
        return [int(value) for value in values]
    return [value.encode() for value in values] if kind_of(values) == "string" else None


def fate(table, record):
    name = expected_route(table, record)
    problem = "no_route" if name is None else problem_of(table[name], record)
    return (None, problem) if problem else (name, None)
