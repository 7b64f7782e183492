"""Says which features of which routes are preprocessed as one, and what the results are called.

A row takes one route, so features of different routes never meet in a row. Therefore features of
an equal kind share an output, one of each route at most: the same column first, and what is left
wherever there is room. There are as many outputs as the richest route has features, more or less,
however many routes there are.
"""

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass, field

from branchline.schemas import Feature, RoutingTable, Sequence


@dataclass(frozen=True)
class Member:
    """A feature of a route.

    Attributes:
        route: The route's place in the table.
        key: Of the field of the records.
        column: Of the routed examples.
    """

    route: int
    key: str
    column: str


@dataclass(frozen=True)
class Group:
    """Features that share an output.

    Attributes:
        name: Of the output.
        kind: What the routes declare them as.
        members: One of a route at most, in the table's order.
    """

    name: str
    kind: Feature
    members: tuple[Member, ...]

    @property
    def columns(self) -> list[str]:
        """The columns that the members are in, each once."""
        return list(dict.fromkeys(member.column for member in self.members))

    @property
    def width(self) -> int:
        """How many values of a row the output has room for."""
        return math.prod(size or 0 for size in self.kind.output_shape)

    @property
    def is_sequence(self) -> bool:
        """Whether the values of a row are places of a sequence."""
        return isinstance(self.kind, Sequence)

    @property
    def value_kind(self) -> Feature:
        """The kind, or that of each value of a sequence."""
        return self.kind.kind if isinstance(self.kind, Sequence) else self.kind

    @property
    def num_places(self) -> int:
        """How many places of a row have statistics of their own: a sequence's share one."""
        return 1 if self.is_sequence else self.width


@dataclass
class _Open:
    """A group that is being filled: route → its member, and the columns of all."""

    kind: Feature
    members: dict[int, Member] = field(default_factory=dict)
    columns: set[str] = field(default_factory=set)

    def add(self, member: Member) -> None:
        self.members[member.route] = member
        self.columns.add(member.column)


@functools.lru_cache(maxsize=8)
def groups_of(table: RoutingTable) -> tuple[Group, ...]:
    """Groups the features of all routes.

    >>> from branchline.schemas import Numeric, Route, Text, when
    >>> some = dict(label="y", task="binary")
    >>> a = Route("a", when.present("x"), features={"x": Numeric(), "z": Numeric()}, **some)
    >>> b = Route("b", when.present("t"), features={"w": Numeric(), "x": Numeric()}, **some)
    >>> c = Route("c", when.present("v"), features={"v": Text(), "x": Numeric()}, **some)
    >>> for group in groups_of(RoutingTable(a, b, c)):
    ...     print(group.name, "|", *(f"{member.route}.{member.key}" for member in group.members))
    Numeric/x | 0.x 1.x 2.x
    Numeric/z and 1 more | 0.z 1.w
    Text/v | 2.v
    """
    by_kind: dict[Feature, list[_Open]] = {}
    for place, route in enumerate(table.routes):
        left = []
        for key, kind in route.features.items():
            member = Member(place, key, table.column(route.name, key))
            there = by_kind.setdefault(kind, [])
            same = next((g for g in there if member.column in g.columns), None)
            if same is None or place in same.members:
                left.append((kind, member))
            else:
                same.add(member)
        for kind, member in left:
            free = next((g for g in by_kind[kind] if place not in g.members), None)
            if free is None:
                free = _Open(kind)
                by_kind[kind].append(free)
            free.add(member)
    # No output is called like a column: labels are passed through under their columns' names.
    taken = {"_route"} | {c for name in table.names for c in table.columns(name).values()}
    return tuple(_close(each, taken) for groups in by_kind.values() for each in groups)


def _close(group: _Open, taken: set[str]) -> Group:
    members = tuple(group.members.values())
    others = len(group.columns) - 1
    name = f"{type(group.kind).__name__}/{members[0].column}" + (
        f" and {others} more" * (others > 0)
    )
    while name in taken:
        name += "'"
    taken.add(name)
    return Group(name, group.kind, members)


def output_name(table: RoutingTable, route: str, key: str) -> str:
    """Names the output of the default preprocessing that holds the feature `key` of `route`.

    Features of several routes may share it. In a row it holds the feature of that row's own route,
    made with that route's own statistics, and nothing if the route has no feature there.

    Raises:
        KeyError: The route has no such feature.
    """
    return _names(table)[route, key]


@functools.lru_cache(maxsize=8)
def _names(table: RoutingTable) -> dict[tuple[str, str], str]:
    routes = table.names
    return {(routes[m.route], m.key): g.name for g in groups_of(table) for m in g.members}


def is_default(outputs: Collection[str], table: RoutingTable) -> bool:
    """Whether a Transform with these outputs ran the default preprocessing of the table."""
    return all(group.name in outputs for group in groups_of(table))


def input_columns(table: RoutingTable, *routes: str) -> set[str]:
    """The columns, `_route` among them, that the outputs of `routes` are made of.

    To a transform graph that is fed no others, the other routes' outputs do not exist.
    """
    names = table.names
    mine = {names.index(route) for route in routes}
    groups = [g for g in groups_of(table) if any(m.route in mine for m in g.members)]
    return {"_route"}.union(*(group.columns for group in groups))
