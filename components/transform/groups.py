"""Says which routes' features are preprocessed together, and what the results are called."""

import functools
from collections.abc import Collection
from dataclasses import dataclass

from branchline.schemas import Feature, RoutingTable


@dataclass(frozen=True)
class Group:
    """The routes that declare one column with an equal kind; they share one output.

    Attributes:
        name: Of the output.
        column: Of the routed examples.
        key: The field of the records that the column holds.
        kind: What the routes declare it as.
        routes: Their places in the table, ascending.
    """

    name: str
    column: str
    key: str
    kind: Feature
    routes: tuple[int, ...]


@functools.lru_cache(maxsize=8)
def groups_of(table: RoutingTable) -> tuple[Group, ...]:
    """Groups the features of all routes, in the order in which the table first names them.

    >>> from branchline.schemas import Numeric, Route, Text, when
    >>> some = dict(label="y", task="binary")
    >>> a = Route("a", when.present("x"), features={"x": Numeric(), "t": Text()}, **some)
    >>> b = Route("b", when.present("t"), features={"t": Text(length=9), "x": Numeric()}, **some)
    >>> [(group.name, group.routes) for group in groups_of(RoutingTable(a, b))]
    [('Numeric/x', (0, 1)), ('Text/t', (0,)), ('Text/t (2)', (1,))]
    """
    found: dict[tuple[str, Feature], list[int]] = {}
    keys: dict[str, str] = {}
    for place, route in enumerate(table.routes):
        for key, kind in route.features.items():
            column = table.column(route.name, key)
            keys[column] = key
            found.setdefault((column, kind), []).append(place)
    # An output may be called like its kind and column only where no column is called so.
    taken = {"_route"} | {c for route in table.names for c in table.columns(route).values()}
    groups = []
    for (column, kind), routes in found.items():
        name = first = f"{type(kind).__name__}/{column}"
        count = 1
        while name in taken:
            count += 1
            name = f"{first} ({count})"
        taken.add(name)
        groups.append(Group(name, column, keys[column], kind, tuple(routes)))
    return tuple(groups)


def output_name(table: RoutingTable, route: str, key: str) -> str:
    """Names the output of the default preprocessing that holds the feature `key` of `route`.

    Routes that declare a column with an equal kind share an output. In a row it holds what is made
    with the statistics of that row's own route, and nothing if its route does not declare it.

    Raises:
        KeyError: The route has no such feature.
    """
    return _names(table)[route, key]


@functools.lru_cache(maxsize=8)
def _names(table: RoutingTable) -> dict[tuple[str, str], str]:
    names = table.names
    return {(names[place], g.key): g.name for g in groups_of(table) for place in g.routes}


def is_default(outputs: Collection[str], table: RoutingTable) -> bool:
    """Whether a Transform with these outputs ran the default preprocessing of the table."""
    return all(group.name in outputs for group in groups_of(table))
