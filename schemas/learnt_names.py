"""A routing table with the names of classes that were learnt for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from branchline.schemas.route import Route
from branchline.schemas.routes import RoutingTable


def learning_outputs(table: RoutingTable) -> dict[str, tuple[str, str]]:
    """Names the model's outputs whose classes are learnt: output → (route, label)."""
    return {
        route.output(key): (route.name, key)
        for route in table.routes
        for key, target in route.labels.items()
        if target.learns
    }


def with_names(table: RoutingTable, names: Mapping[str, Sequence[str]]) -> RoutingTable:
    """Gives a table the names that were learnt; all other targets stay as they are.

    Args:
        table: Any.
        names: Output → the names of its classes, in order, for each of `learning_outputs`.

    Raises:
        KeyError: Those of an output are missing.
        RecipeError: They are none that may be given.
    """
    return RoutingTable(*(_named(route, names) for route in table.routes))


def _named(route: Route, names: Mapping[str, Sequence[str]]) -> Route:
    learnt = {
        key: target.with_names(names[route.output(key)])
        for key, target in route.labels.items()
        if target.learns
    }
    if not learnt:
        return route
    if route.label is None:
        return replace(route, targets={**route.targets, **learnt})
    target = learnt[route.label]
    new = {name: getattr(target, name) for name in ("classes", "num_classes", "top_k")}
    return replace(route, **new)
