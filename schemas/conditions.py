"""What a record must be like to take a route; imported as `when`.

A condition reads raw values by key. `equals`, `isin`, `greater` and `less` hold only for a key with
exactly one value; numbers compare as in Python (3 equals 3.0), a number never equals a text.
"""

import builtins
from collections.abc import Iterable
from dataclasses import dataclass

from branchline.schemas.errors import RecipeError, check_key, check_number, reject

Scalar = str | int | float | bool
DTYPES = ("float", "int", "string")
MOST_NESTED = 100  # conditions within one another; each level is operations of the graph
_DTYPE_ALIASES = {"str": "string", "bytes": "string", "bool": "int", "integer": "int"}


def _check_comparable(where: str, value: float) -> None:
    check_number(where, value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        reject(where, value, "an int of 64 bits")


@dataclass(frozen=True)
class Condition:
    """A condition on a record. Made by the functions of this module."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys it reads, sorted."""
        return (self.key,) if hasattr(self, "key") else ()  # type: ignore[attr-defined]

    @property
    def parts(self) -> tuple["Condition", ...]:
        """The conditions on single keys that it is made of."""
        return (self,)


@dataclass(frozen=True)
class Present(Condition):
    """The key holds at least one value."""

    key: str

    def __post_init__(self) -> None:
        check_key("when.present", self.key)


@dataclass(frozen=True)
class DType(Condition):
    """The key's raw values are of this type."""

    key: str
    dtype: str

    def __post_init__(self) -> None:
        check_key("when.dtype", self.key)
        name = _DTYPE_ALIASES.get(self.dtype, self.dtype)
        if name not in DTYPES:
            reject(f"when.dtype({self.key!r})", self.dtype, f"one of {', '.join(DTYPES)}")
        object.__setattr__(self, "dtype", name)


@dataclass(frozen=True)
class IsIn(Condition):
    """The key's one value is among these."""

    key: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        check_key("when.isin", self.key)
        if isinstance(self.values, str) or not isinstance(self.values, Iterable):
            reject(f"when.isin({self.key!r})", self.values, "a list of values")
        values = tuple(self.values)
        if not values:
            reject(f"when.isin({self.key!r})", values, "at least one value")
        for value in values:
            if not isinstance(value, str | int | float):
                reject(f"when.isin({self.key!r})", value, "a str, int, float or bool")
            if not isinstance(value, str | bool):
                _check_comparable(f"when.isin({self.key!r})", value)
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Greater(Condition):
    """The key's one value is a number greater than this."""

    key: str
    value: float

    def __post_init__(self) -> None:
        check_key("when.greater", self.key)
        _check_comparable(f"when.greater({self.key!r})", self.value)


@dataclass(frozen=True)
class Less(Condition):
    """The key's one value is a number less than this."""

    key: str
    value: float

    def __post_init__(self) -> None:
        check_key("when.less", self.key)
        _check_comparable(f"when.less({self.key!r})", self.value)


@dataclass(frozen=True)
class _Combined(Condition):
    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple(self.conditions))
        for condition in self.conditions:
            if not isinstance(condition, Condition):
                reject(f"when.{type(self).__name__.lower()}", condition, "conditions")
        if not self.conditions:
            reject(f"when.{type(self).__name__.lower()}", (), "at least one condition")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all its conditions."""
        return tuple(sorted({key for condition in self.conditions for key in condition.keys}))

    @property
    def parts(self) -> tuple[Condition, ...]:
        """Those of all its conditions."""
        return tuple(part for condition in self.conditions for part in condition.parts)


@dataclass(frozen=True)
class All(_Combined):
    """Every one of the conditions holds."""


@dataclass(frozen=True)
class Any(_Combined):
    """At least one of the conditions holds."""


@dataclass(frozen=True)
class Not(Condition):
    """The condition does not hold."""

    condition: Condition

    def __post_init__(self) -> None:
        if not isinstance(self.condition, Condition):
            reject("when.not_", self.condition, "a condition")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the condition."""
        return self.condition.keys

    @property
    def parts(self) -> tuple[Condition, ...]:
        """Those of the condition."""
        return self.condition.parts


def check_nesting(where: str, condition: Condition) -> None:
    """Rejects a condition of more than `MOST_NESTED` levels, without following it by recursion."""
    level, depth = [condition], 0
    while level:
        depth += 1
        inner = [each for outer in level for each in _inner(outer)]
        level = list({id(each): each for each in inner}.values())
    if depth > MOST_NESTED:
        raise RecipeError(
            f"{where}: got conditions nested {depth} deep, expected at most {MOST_NESTED}; "
            "`when.all`, `when.any` and `when.isin` take many at one level"
        )


def _inner(condition: Condition) -> tuple[Condition, ...]:
    if isinstance(condition, _Combined):
        return condition.conditions
    return (condition.condition,) if isinstance(condition, Not) else ()


def equals(key: str, value: Scalar) -> Condition:
    """Holds when `key` has one value and it equals `value`."""
    if not isinstance(value, str | int | float):
        reject(f"when.equals({key!r})", value, "a str, int, float or bool")
    return IsIn(key, (value,))


def isin(key: str, values: Iterable[Scalar]) -> Condition:
    """Holds when `key` has one value and it is among `values`."""
    return IsIn(key, values)  # type: ignore[arg-type]


def present(key: str) -> Condition:
    """Holds when `key` is there and not null or empty."""
    return Present(key)


def dtype(key: str, name: str) -> Condition:
    """Holds when `key` is there and its raw values are "float", "int" or "string".

    3.0, 3 and "3" are three kinds of value. A JSON `true` is the int 1; a list with whole numbers
    and floats is a list of floats.
    """
    return DType(key, name)


def greater(key: str, value: float) -> Condition:
    """Holds when `key` has one number and it is greater than `value`."""
    return Greater(key, value)


def less(key: str, value: float) -> Condition:
    """Holds when `key` has one number and it is less than `value`."""
    return Less(key, value)


def all(*conditions: Condition) -> Condition:  # noqa: A001 - the contract's name
    """Holds when every one of `conditions` does."""
    return All(builtins.tuple(conditions))


def any(*conditions: Condition) -> Condition:  # noqa: A001 - the contract's name
    """Holds when at least one of `conditions` does."""
    return Any(builtins.tuple(conditions))


def not_(condition: Condition) -> Condition:
    """Holds when `condition` does not."""
    return Not(condition)
