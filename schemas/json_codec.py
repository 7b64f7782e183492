"""Turns the typed objects of this package into JSON and back.

The JSON is byte-stable (sorted keys, no spaces) because it is part of TFX's cache key. Order that
means something, a table's routes and a route's features and targets, is kept in lists. Functions
do not travel: a recipe's `data` or schedule, when it is one, is left out.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from branchline.schemas import (
    conditions,
    errors,
    features,
    metrics,
    recipe,
    resources,
    routes,
    schedules,
    splits,
    targets,
    training,
    validation,
)

_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for module in (
        conditions,
        features,
        metrics,
        recipe,
        resources,
        routes,
        schedules,
        splits,
        targets,
        training,
        validation,
    )
    for cls in vars(module).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
}

# Dicts that are written as pairs: sort_keys would lose the order of the first two, and a dict of a
# name such as "type" to a text would be taken for an object.
_IN_PAIRS = {
    routes.Route: ("features", "targets"),
    recipe.Recipe: ("scarce",),
    splits.SplitByTime: ("before",),
    splits.SplitByField: ("values",),
}


def to_json(value: Any) -> str:
    """Writes a recipe, or a part of one, as JSON; objects made alike give equal bytes."""
    return json.dumps(_encode(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Any:
    """Reads what `to_json` wrote.

    Raises:
        RecipeError: The text is not such JSON, or a field in it is wrong.
    """
    try:
        return decode(json.loads(text))
    except (json.JSONDecodeError, TypeError, KeyError, RecursionError) as error:
        raise errors.RecipeError(f"not the JSON of a recipe: {error}") from error


def _encode(value: Any) -> Any:
    if isinstance(value, routes.RoutingTable):
        return {"type": "RoutingTable", "routes": [_encode(route) for route in value.routes]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        pairs = {name: _encode(v) for name, v in fields.items() if not callable(v)}
        for name in _IN_PAIRS.get(type(value), ()):
            pairs[name] = [[key, _encode(each)] for key, each in fields[name].items()]
        return {"type": type(value).__name__} | pairs
    if isinstance(value, Mapping):
        return {str(key): _encode(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(v) for v in value]
    return value


def decode(value: Any) -> Any:
    """Builds the object that a parsed piece of JSON describes; other JSON passes through."""
    if isinstance(value, list):
        return tuple(decode(v) for v in value)
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("type"), str):  # a route may be named "type" too
        return {key: decode(v) for key, v in value.items()}
    pairs = {key: decode(v) for key, v in value.items() if key != "type"}
    cls = _CLASSES.get(value["type"])
    if cls is None:
        raise errors.RecipeError(f"type: got {value['type']!r}, expected {', '.join(_CLASSES)}")
    if cls is routes.RoutingTable:
        return cls(*pairs["routes"])
    for name in _IN_PAIRS.get(cls, ()):
        pairs[name] = dict(pairs.get(name, ()))
    return cls(**pairs)
