"""Reads thresholds out of JSON, as `to_json` writes them or as a person does, and writes those."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from branchline.schemas import Bound, RecipeError, RoutingTable
from branchline.schemas.errors import reject
from branchline.schemas.metrics import bound, higher_is_better

_WHERE = "the pipeline parameter thresholds"
_EXAMPLE = '{"route": {"auc": 0.9}}'


def read_thresholds(text: str, routing: RoutingTable) -> dict[str, dict[str, Bound]]:
    """Reads the parameter `thresholds`: route → metric → bound.

    Args:
        text: JSON; a bound is a number, on the side on which its metric is bad, or an object with
            "least" or "greatest" or both. `{}` is for none.
        routing: Has the routes.

    Raises:
        RecipeError: It is no such JSON, there is no such route, or a bound is no bound.

    >>> from branchline.schemas import Numeric, Route, when
    >>> route = Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
    >>> read_thresholds('{"r": {"auc": 0.9, "loss": {"greatest": 2}}}', RoutingTable(route))
    {'r': {'auc': Bound(least=0.9, greatest=None), 'loss': Bound(least=None, greatest=2)}}
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        expected = f"JSON such as {_EXAMPLE}, or {{}} for none"
        raise RecipeError(f"{_WHERE}: got {text!r}, expected {expected}: {error}") from None
    if not isinstance(found, Mapping):
        reject(_WHERE, found, f"an object such as {_EXAMPLE}")
    return {route: _of_route(route, bounds, routing) for route, bounds in found.items()}


def plain_thresholds(thresholds: Mapping[str, Mapping[str, float | Bound]]) -> str:
    """Writes thresholds as a person would, for `read_thresholds`.

    >>> plain_thresholds({"r": {"auc": Bound(least=0.9), "loss": Bound(0.1, 2)}})
    '{"r": {"auc": 0.9, "loss": {"least": 0.1, "greatest": 2}}}'
    """
    return json.dumps(
        {
            route: {metric: _plain(metric, value) for metric, value in bounds.items()}
            for route, bounds in thresholds.items()
        }
    )


def _plain(metric: str, value: float | Bound) -> Any:
    if not isinstance(value, Bound):
        return value
    sides = {side: n for side, n in dataclasses.asdict(value).items() if n is not None}
    (number, *others) = sides.values()
    known = higher_is_better(metric) is not None
    return number if known and not others and bound("", metric, number) == value else sides


def _of_route(route: str, bounds: Any, routing: RoutingTable) -> dict[str, Bound]:
    if route not in routing.names:
        reject(_WHERE, route, f"one of the routes {', '.join(routing.names)}")
    where = f"{_WHERE}[{route!r}]"
    if not isinstance(bounds, Mapping):
        reject(where, bounds, 'an object of metric to number, such as {"auc": 0.9}')
    return {name: _bound(f"{where}[{name!r}]", name, value) for name, value in bounds.items()}


def _bound(where: str, metric: str, value: Any) -> Bound:
    if not isinstance(value, Mapping):
        return bound(where, metric, value)
    sides = {side: number for side, number in value.items() if side != "type"}
    if not sides or not set(sides) <= {"least", "greatest"}:
        reject(where, value, 'a number, or an object with "least" or "greatest" or both')
    try:
        return Bound(**sides)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
