"""The ordered table of routes, which sends every record down the first one that takes it."""

import itertools
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from branchline.schemas.check_conditions import EarlierRoutes, why_never
from branchline.schemas.conditions import DType, Greater, IsIn, Less
from branchline.schemas.errors import RecipeError, reject
from branchline.schemas.features import Image, Written
from branchline.schemas.fields import Field
from branchline.schemas.route import Route

MOST_ROUTES = 1000  # a table of more is refused: each is a branch of one model, traced and exported


@dataclass(frozen=True, init=False)
class RoutingTable:
    """The ordered routes: a record takes the first that matches; one that matches none is
    quarantined.

    Raises:
        RecipeError: No route or more than MOST_ROUTES, two of one name or two columns of one name,
            or a condition that reads a label or a weight: when the model
            serves there are none, and it would route otherwise than in training.
    """  # noqa: D205

    routes: tuple[Route, ...]

    def __init__(self, *routes: Route) -> None:
        for route in routes:
            if not isinstance(route, Route):
                reject("RoutingTable", route, "routes")
        if not routes:
            reject("RoutingTable", routes, "at least one Route")
        if len(routes) > MOST_ROUTES:
            reject("RoutingTable", f"{len(routes)} routes", f"at most {MOST_ROUTES}")
        names = [route.name for route in routes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RecipeError(f"RoutingTable: more than one route is named {', '.join(twice)}")
        object.__setattr__(self, "routes", tuple(routes))
        self._check_columns()
        self._check_paths()
        self._check_conditions()

    def _check_conditions(self) -> None:
        last = {k: r for r in self.routes for k in (*r.labels, r.weight) if k is not None}
        place = {name: number for number, name in enumerate(self.names)}
        for number, route in enumerate(self.routes):
            for key in route.condition.keys:
                if key in last and place[last[key].name] >= number:
                    what = "weight" if last[key].weight == key else "label"
                    other = f"a {what} of {last[key].name!r}"
                    whose = f"its own {what}" if last[key] is route else other
                    raise RecipeError(
                        f"Route({route.name!r}).condition: reads {key!r}, {whose}; records have no "
                        f"{what}s when the model serves, so it has to decide by other keys"
                    )

    def check_reachable(self) -> None:
        """Rejects a table with a route that no record can take, as far as conditions tell.

        Raises:
            RecipeError: There is one; names it and says why.
        """
        earlier = EarlierRoutes()
        for route in self.routes:
            why = why_never(route.condition, earlier.like(route.condition))
            earlier.add(route.name, route.condition)
            if why:
                raise RecipeError(
                    f"Route({route.name!r}): no record can take it: {why}; change its condition "
                    "or the order of the routes"
                )

    def _check_columns(self) -> None:
        held: dict[str, str] = {}
        for route in self.routes:
            for key in route.dtypes:
                column = self._plain_column(route.name, key)
                if held.setdefault(column, key) != key:
                    raise RecipeError(
                        f"RoutingTable: the key {column!r} is also the name of the column for "
                        f"{column.rpartition('.')[0]!r}, which routes read as several types; "
                        "rename one of them"
                    )

    def _check_paths(self) -> None:
        for key in self.path_keys:
            for route in self.routes:
                weight = {route.weight: "the weight"}
                kind = {**route.features, **route.labels, **weight}.get(key)
                if kind is not None and not (isinstance(kind, Image) and kind.stored == "path"):
                    raise RecipeError(
                        f"Route({route.name!r}): {key!r} is {kind}, and in another route the path "
                        "of a picture; what is in the picture's file takes its place in all "
                        "records, so give one of them another key"
                    )

    def __getitem__(self, name: str) -> Route:
        if name not in self._by_name:
            raise KeyError(f"no route {name!r}; the routes are {', '.join(self.names)}")
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Route]:
        return {route.name: route for route in self.routes}

    @cached_property
    def _dtypes(self) -> dict[str, set[str]]:
        """Key → the types that routes store it as."""
        dtypes: dict[str, set[str]] = {}
        for route in self.routes:
            for key, dtype in route.dtypes.items():
                dtypes.setdefault(key, set()).add(dtype)
        return dtypes

    @property
    def names(self) -> tuple[str, ...]:
        """The routes' names in order."""
        return tuple(route.name for route in self.routes)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that a condition, a feature, a label or a weight reads, sorted."""
        read = {key for route in self.routes for key in (*route.condition.keys, *route.dtypes)}
        return tuple(sorted(read))

    @property
    def text_keys(self) -> tuple[str, ...]:
        """Keys that are texts to all who read them, sorted."""
        return self._keys_of({"string"}, str)

    @property
    def written_keys(self) -> tuple[str, ...]:
        """Those of the `text_keys` that every route which stores them declares as `Written`."""
        others = {
            key
            for route in self.routes
            for key, kind in {**route.features, **route.labels}.items()
            if not isinstance(kind, Written)
        }
        return tuple(key for key in self.text_keys if key in self._dtypes and key not in others)

    @property
    def number_keys(self) -> tuple[str, ...]:
        """Keys that are numbers to all who read them, sorted."""
        return self._keys_of({"int", "float"}, int | float)

    @property
    def whole_keys(self) -> tuple[str, ...]:
        """Keys that some route stores as whole numbers, and of whose type no condition asks."""
        parts = [part for route in self.routes for part in route.condition.parts]
        asked = {part.key for part in parts if isinstance(part, DType)}
        return tuple(sorted(k for k, of in self._dtypes.items() if "int" in of and k not in asked))

    @property
    def path_keys(self) -> tuple[str, ...]:
        """Keys that hold where a picture's file is, sorted."""
        kinds = [item for route in self.routes for item in route.features.items()]
        return tuple(
            sorted({k for k, kind in kinds if isinstance(kind, Image) and kind.stored == "path"})
        )

    def _keys_of(self, dtypes: set[str], kind: Any) -> tuple[str, ...]:
        """Keys that routes store as these types alone, and conditions compare with this kind alone.

        A condition that asks whether a key is there reads it as nothing; one that asks for the type
        reads it as any.
        """
        read, otherwise = {key for key, of in self._dtypes.items() if of <= dtypes}, set()
        otherwise |= self._dtypes.keys() - read
        for part in (part for route in self.routes for part in route.condition.parts):
            match part:
                case DType(key, _):
                    otherwise.add(key)
                case IsIn(key, values):
                    same = all(isinstance(value, kind) for value in values)
                    (read if same else otherwise).add(key)
                case Greater(key, _) | Less(key, _):
                    (otherwise if kind is str else read).add(key)
        return tuple(sorted(read - otherwise))

    def column(self, route: str, key: str) -> str:
        """The name under which a routed example of `route` holds its `key`.

        One schema describes all routes and gives a name one type, so a key that routes store as
        different types is held as `key.type`; any other key keeps its name, unless TensorFlow would
        take two for one, as `price/usd` and `price_usd`: the second then ends in a number.
        """
        return self._told_apart[self._plain_column(route, key)]

    def _plain_column(self, route: str, key: str) -> str:
        return key if len(self._dtypes[key]) == 1 else f"{key}.{self[route].dtypes[key]}"

    @cached_property
    def _told_apart(self) -> dict[str, str]:
        """Plain name of a column → one that differs from all others in letters and digits."""
        plain = {
            self._plain_column(route.name, key) for route in self.routes for key in route.dtypes
        }
        names, taken = {}, set()
        for name in sorted(plain):
            endings = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
            names[name] = next(
                name + end for end in endings if _as_argument(name + end) not in taken
            )
            taken.add(_as_argument(names[name]))
        return names

    def columns(self, route: str) -> dict[str, str]:
        """Key → `column(route, key)` for every feature and label of `route`, and its weight."""
        return {key: self.column(route, key) for key in self[route].dtypes}

    def fields(self, route: str) -> dict[str, Field]:
        """Key → what is known of it: every feature of `route`, then every label, then the weight.

        >>> from branchline.schemas import Numeric, when
        >>> r = Route("r", when.present("x"), features={"x": Numeric(3)}, label="y", task="binary")
        >>> field = RoutingTable(r).fields("r")["y"]
        >>> field.column, field.dtype, field.num_values, field.is_label, field.num_codes
        ('y', 'int', 1, True, 2)
        """
        found = {}
        for key, kind in self[route].features.items():
            name, num = self.column(route, key), kind.num_values
            written = kind if isinstance(kind, Written | Image) else None
            written = None if isinstance(kind, Image) and not kind.is_file else written
            codes = kind.num_codes
            found[key] = Field(
                key, name, kind.dtype, num, kind.required, False, codes, None, written
            )
        for key, target in self[route].labels.items():
            name, required = self.column(route, key), not target.optional
            bounds = target.num_codes, target.classes
            found[key] = Field(key, name, target.dtype, target.num_values, required, True, *bounds)
        key = self[route].weight
        if key is not None:
            name = self.column(route, key)
            found[key] = Field(key, name, "float", 1, True, False, is_weight=True)
        return found


def _as_argument(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).lower()
