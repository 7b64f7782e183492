"""What happens when a route gets too few examples in a split."""

from collections.abc import Iterable, Mapping
from typing import Any

from branchline.schemas.errors import reject
from branchline.schemas.splits import TEST

FAIL, SKIP = "fail", "skip"
EVERY_ROUTE = "*"


def read_scarce(where: str, value: Any, routes: Iterable[str]) -> dict[str, str]:
    """Checks a recipe's or a component's `scarce`: route, or "*" for all → "fail" or "skip".

    Raises:
        RecipeError: There is no such route or policy.
    """
    if not isinstance(value, Mapping):
        reject(where, value, 'a dict of route to "fail" or "skip"')
    known = (*routes, EVERY_ROUTE)
    for route, policy in value.items():
        if route not in known:
            reject(where, route, f"one of the routes {', '.join(known[:-1])}, or '*' for all")
        if policy not in (FAIL, SKIP):
            reject(f"{where}[{route!r}]", policy, '"fail" or "skip"')
    return dict(sorted(value.items()))


def may_be_scarce(scarce: Mapping[str, str], route: str) -> bool:
    """Whether a run goes on where a route has too few examples.

    >>> may_be_scarce({}, "text"), may_be_scarce({"*": "skip", "text": "fail"}, "scan")
    (False, True)
    """
    return scarce.get(route, scarce.get(EVERY_ROUTE, FAIL)) == SKIP


def scarce_routes(
    out: Mapping[str, Mapping[str, int]], least_rows: int
) -> dict[str, dict[str, int]]:
    """Finds the routes with too few examples in a split; the split "test" decides on nothing.

    Args:
        out: Split → route → how many examples it has, as the Router's counts tell under "out".
        least_rows: How many it should have.

    Returns:
        Split → route → how many it has; only splits and routes with too few.

    >>> scarce_routes({"train": {"text": 5, "scan": 0}, "test": {"text": 1, "scan": 0}}, 1)
    {'train': {'scan': 0}}
    """
    found = {
        split: {route: number for route, number in routes.items() if number < least_rows}
        for split, routes in out.items()
        if split != TEST
    }
    return {split: routes for split, routes in found.items() if routes}
