"""Rows of a table in which nothing is nested or wrong: they are split and encoded together.

What is made of a value is made once for a batch, however many rows have it.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.limits import MOST_KEYS
from branchline.components.mixed_example_gen.read_record import (
    FLOAT32_MAX,
    Parsed,
    Record,
    not_unicode,
    read_record,
)
from branchline.schemas.errors import OFFSET, SOURCE

_ABSENT = frozenset({None, "", b""})
Made = TypeVar("Made", str, bytes)


class PlainRows(NamedTuple):
    """Rows that `read_record` reads without an objection.

    Attributes:
        offset: Of the first row, in its file, from 1.
        columns: Key → a cell a row, as it came: None, or of one type, which is str, bytes, bool,
            int or float. At least one column.
        fields: Key → the only value that it has in the rows without one of their own.
    """

    offset: int
    columns: dict[str, list[Any]]
    fields: Record = {}

    @property
    def num_rows(self) -> int:
        """How many they are."""
        return len(next(iter(self.columns.values())))

    def number_with(self, key: str | None) -> int:
        """How many have a value under a key."""
        if key in self.fields:
            return self.num_rows
        cells = self.columns[key] if key in self.columns else ()
        return sum(cell not in _ABSENT for cell in cells)


def are_plain(columns: dict[str, list[Any]], declared: Declared) -> bool:
    """Whether columns are as those of `PlainRows` have to be.

    Args:
        columns: Key → cells of the types of `read_parquet.AS_THEY_ARE`; texts are Unicode.
        declared: What is read of the records.
    """
    is_each = all(_is_plain(key, cells, declared) for key, cells in columns.items())
    return 0 < len(columns) <= MOST_KEYS and is_each


def _is_plain(key: str, cells: list[Any], declared: Declared) -> bool:
    kinds = set(map(type, cells)) - {type(None)}
    if len(kinds) > 1 or Decimal in kinds or key in (SOURCE, OFFSET) or not_unicode(key):
        return False
    if kinds == {int}:
        there = [cell for cell in cells if cell is not None]
        return -(2**63) <= min(there) and max(there) < 2**63
    if kinds == {float}:
        too_large = any(abs(cell) > FLOAT32_MAX for cell in cells if cell is not None)
        return not too_large and key not in declared.wholes and key not in declared.written
    return True


def one_by_one(some: Iterable[Parsed | PlainRows], declared: Declared) -> Iterator[Parsed]:
    """Gives each plain row as any other reader gives a record."""
    for each in some:
        if isinstance(each, Parsed):
            yield each
            continue
        for offset, cells in enumerate(zip(*each.columns.values(), strict=True), each.offset):
            came = dict(zip(each.columns, cells, strict=True))
            yield Parsed(offset, came, each.fields | read_record(came, declared))


def made_of(
    rows: PlainRows,
    make_fn: Callable[[str, Any], Made],
    none: Made,
    keys: Container[str] | None = None,
) -> dict[str, list[Made]]:
    """Makes something of every value, once of equal ones.

    Args:
        rows: The rows.
        make_fn: Takes a key and a value.
        none: An empty text or bytes, for where a row has no value.
        keys: Of what; None for all.

    Returns:
        Key → what was made, a row each.
    """
    made: dict[str, list[Made]] = {}
    for key, (value,) in rows.fields.items():
        if keys is None or key in keys:
            made[key] = [make_fn(key, value)] * rows.num_rows
    for key, cells in rows.columns.items():
        if keys is None or key in keys:
            if float in set(map(type, cells)):  # 0.0 equals -0.0
                own = [none if cell is None else make_fn(key, cell) for cell in cells]
            else:
                of = {cell: none if cell in _ABSENT else make_fn(key, cell) for cell in set(cells)}
                own = [of[cell] for cell in cells]
            if key in made:
                own = [each or field for each, field in zip(own, made[key], strict=True)]
            made[key] = own
    return made
