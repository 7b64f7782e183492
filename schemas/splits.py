"""How records fall into splits: by hash, by time, or by a field that says it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any

from dateutil.parser import isoparser

from branchline.schemas.errors import check_int, check_key, check_name, reject

# What learns reads the first alone, the second decides on blessings, and nothing looks at the third
# but the last evaluation, of a model that is blessed. Other names have no meaning here.
TRAIN, EVAL, TEST = "train", "eval", "test"
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO = "a time in ISO 8601, such as '2024-01-31' or '2024-01-31T10:00:00Z'"


@dataclass(frozen=True)
class SplitByTime:
    """Splits by the time in a field: a model is trained on the past and evaluated on what follows.

    A time is a text in ISO 8601, at any precision; without an offset it is taken as UTC. A whole
    number is read by its digits as such a text (2024, 20240131), unless `unit` is given. A record
    whose field is missing or is no time is quarantined with the reason `bad_split`.

    Args:
        key: The key of the field.
        before: Split → the time, in ISO 8601, at which it ends. A record is in the split with the
            earliest end that is later than its own time.
        rest: The split of the records that are in none of these.
        unit: What numbers count since 1970-01-01 UTC: "s", "ms", "us" or "ns". A text that is a
            number is then a number too. None where times are texts.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    key: str
    before: Mapping[str, str]
    rest: str = EVAL
    unit: str | None = None

    def __post_init__(self) -> None:
        check_key("SplitByTime.key", self.key)
        if not isinstance(self.before, Mapping) or not self.before:
            reject("SplitByTime.before", self.before, 'ends such as {"train": "2024-01-31"}')
        split_of: dict[int, str] = {}
        for split, end in self.before.items():
            check_name("SplitByTime.before", split)
            where = f"SplitByTime.before[{split!r}]"
            try:
                time = microseconds(end) if isinstance(end, str) else None
            except ValueError:
                time = None
            if time is None:
                reject(where, end, _ISO)
            if time in split_of:
                reject(where, end, f"another time than that of {split_of[time]!r}")
            split_of[time] = split
        check_name("SplitByTime.rest", self.rest)
        if self.rest in self.before:
            reject("SplitByTime.rest", self.rest, "a split that is not in `before`")
        if self.unit not in (None, *_PER_SECOND):
            reject("SplitByTime.unit", self.unit, f"one of {', '.join(_PER_SECOND)}, or None")
        object.__setattr__(self, "before", {s: self.before[s] for _, s in sorted(split_of.items())})

    @property
    def names(self) -> tuple[str, ...]:
        """The splits, from the earliest to the latest."""
        return (*self.before, self.rest)

    @property
    def expected(self) -> str:
        """What a record has to hold, in words."""
        if self.unit is None:
            return _ISO
        return f"{_ISO}, or a number of {self.unit} since 1970-01-01"

    def choose(self, value: str | int | float) -> str:
        """The split of a record with this value.

        Raises:
            ValueError: The value is no time.

        >>> SplitByTime("created", before={"train": "2024-01-31"}).choose("2024-01-31T00:00Z")
        'eval'
        """
        time = microseconds(value, self.unit)
        return next((split for split, end in self._ends if time < end), self.rest)

    @cached_property
    def _ends(self) -> tuple[tuple[str, int], ...]:
        return tuple((split, microseconds(end)) for split, end in self.before.items())


@dataclass(frozen=True)
class SplitByField:
    """Splits by a field that says it, also one from a folder such as `split=eval`.

    A record whose field is missing or holds another value is quarantined with the reason
    `bad_split`.

    Args:
        key: The key of the field.
        values: Value → split, or the names of the splits where these are the values. 1, 1.0 and "1"
            are one value, and so are `true` and 1.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    key: str
    values: Mapping[str | int, str] | Sequence[str] = (TRAIN, EVAL)

    def __post_init__(self) -> None:
        check_key("SplitByField.key", self.key)
        given = self.values
        if isinstance(given, list | tuple):
            given = {name: name for name in given if isinstance(name, str)}
        if not isinstance(given, Mapping) or not given or len(given) < len(self.values):
            expected = 'names such as ("train", "eval"), or splits such as {"dev": "eval"}'
            reject("SplitByField.values", self.values, expected)
        read: dict[str, str] = {}
        for value, split in given.items():
            if not isinstance(value, str | int) or value == "":
                reject("SplitByField.values", value, "a value of the field, a str or an int")
            check_name(f"SplitByField.values[{value!r}]", split)
            if read.setdefault(_as_text(value), split) != split:
                reject("SplitByField.values", value, "each value once")
        object.__setattr__(self, "values", dict(sorted(read.items())))

    @property
    def names(self) -> tuple[str, ...]:
        """The splits."""
        return tuple(dict.fromkeys(self._split_of.values()))

    @property
    def expected(self) -> str:
        """What a record has to hold, in words."""
        return f"one of {', '.join(map(repr, self.values))}"

    @property
    def _split_of(self) -> Mapping[str, str]:
        assert isinstance(self.values, Mapping)
        return self.values  # pyright: ignore[reportReturnType]

    def choose(self, value: str | int | float) -> str:
        """The split of a record with this value.

        Raises:
            ValueError: No split has the value.

        >>> SplitByField("part", {"dev": "eval", 1: "train"}).choose(1.0)
        'train'
        """
        split = self._split_of.get(_as_text(value))
        if split is None:
            raise ValueError(value)
        return split


# By hash: split → how many parts of the records it gets.
Splits = Mapping[str, int] | SplitByTime | SplitByField


def check_splits(field: str, splits: Any, split_key: Any) -> None:
    """Checks splits, and the key whose values a hash is taken of.

    Args:
        field: Names what is checked, such as "Recipe.splits"; `split_key` has its name beside it.
        splits: Of any of the three kinds.
        split_key: For splits by hash alone.

    Raises:
        RecipeError: One of them is wrong.
    """
    key_field = f"{field.rpartition('.')[0]}.split_key"
    if split_key is not None and not isinstance(split_key, str):
        reject(key_field, split_key, "a str or None")
    if isinstance(splits, SplitByTime | SplitByField):
        if split_key is not None:
            reject(key_field, split_key, f"None, as {type(splits).__name__} has its own key")
        return
    if not isinstance(splits, Mapping) or not splits:
        expected = 'parts such as {"train": 4, "eval": 1}, SplitByTime(…) or SplitByField(…)'
        reject(field, splits, expected)
    for split, parts in splits.items():
        check_name(field, split)
        check_int(f"{field}[{split!r}]", parts)


def split_names(splits: Splits) -> tuple[str, ...]:
    """The names of the splits.

    >>> split_names({"train": 4, "eval": 1})
    ('train', 'eval')
    """
    return tuple(splits) if isinstance(splits, Mapping) else splits.names


def read_key(splits: Splits, split_key: str | None) -> str | None:
    """The key of the field that is read to choose a split, if it is one alone."""
    return split_key if isinstance(splits, Mapping) else splits.key


def microseconds(value: str | int | float, unit: str | None = None) -> int:
    """Reads a time as whole microseconds since 1970-01-01 UTC, rounded down.

    Args:
        value: As SplitByTime describes it.
        unit: What a number counts; None reads its digits as a text.

    Raises:
        ValueError: It is no time.

    >>> microseconds("1970-01-01T00:00:01+00:00"), microseconds(1, "s"), microseconds(1970)
    (1000000, 1000000, 0)
    """
    if unit and (not isinstance(value, str) or _NUMBER.fullmatch(value)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(value)
        return math.floor(Decimal(value) * 10**6 / _PER_SECOND[unit])
    text = str(value).strip().replace(" ", "T", 1)
    try:
        time = isoparser(sep="T").isoparse(text)
    except OverflowError as error:  # of 24:00 on the last day of all
        raise ValueError(value) from error
    aware = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _as_text(value: str | int | float) -> str:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if whole else str(value)
