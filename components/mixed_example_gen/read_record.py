"""Reads a parsed object as a record: key → values, all of one type."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.limits import (
    LONGEST_DETAIL,
    MOST_KEYS,
    MOST_NESTED,
)
from branchline.components.mixed_example_gen.row_as_json import Unreadable, row_as_json
from branchline.schemas.errors import OFFSET, SOURCE

Value = str | bytes | int | float
Record = dict[str, list[Value]]
FLOAT32_MAX = 3.4028235e38
_SURROGATE = re.compile("[\ud800-\udfff]")


class Parsed(NamedTuple):
    """A record, or what was wrong with it.

    Attributes:
        offset: The line in its file on which it begins, or its row, from 1.
        came: As it came: the bytes of its text, without the end of its line, or a table's row.
        record: Key → its values, all of one type; None if there is a `reason`.
        reason: A word to count by; "" when all is well.
        detail: What came and what was expected.
        byte: How many bytes of the file, decompressed, come before it; None in a table.
    """

    offset: int
    came: Any
    record: Record | None
    reason: str = ""
    detail: str = ""
    byte: int | None = None

    @property
    def raw(self) -> bytes:
        """As it came: a text, or a row as JSON, which is written only where it is asked for."""
        return row_as_json(self.came)


class NotARecord(ValueError):
    """Carries the reason and the detail of a `Parsed`, and the key at fault where it is known."""

    def __init__(self, reason: str, detail: str, key: str | None = None) -> None:
        if len(detail) > LONGEST_DETAIL:  # it may tell values
            detail = f"{detail[:LONGEST_DETAIL]} …"
        super().__init__(reason, detail, key)
        self.reason, self.detail, self.key = reason, detail, key


def nested_too_deeply(key: str = "") -> NotARecord:
    """What is wrong with a record that `MOST_NESTED` forbids."""
    where = f" under {key[:100]}" if key else ""
    told = f"lists or objects are nested too deeply{where}, expected at most {MOST_NESTED} levels"
    return NotARecord("nested_too_deeply", told)


class Twice(NamedTuple):
    """Stands for the values of a key that one object holds more than once."""

    values: list[Any]


class Digits(str):
    """An int of more digits than Python reads."""


def read_record(value: Mapping[str, Any], declared: Declared) -> Record:
    """Reads a parsed object: nested objects become keys with dots, nested lists flat ones.

    null, an empty text, alone or in a list, and an empty list all mean that there is no value, but
    for the lists of `declared.lists`: there are then no values under the key. What
    an example cannot hold under a key that nothing reads is left out.

    Args:
        value: The object.
        declared: What is read. A whole number of more than 64 bits is its decimal text where it is
            read as a text; a Decimal is a number where it is read as one, else its text. A float
            without a fraction is an int where some route needs one and nobody asks which it is. A
            float that is read as a time or the like is its shortest decimal text.

    Raises:
        NotARecord: A key that is read is there twice, also as a nested one, or is branchline's own;
            a list mixes types, a number is too large, or a text is not Unicode (half a surrogate
            pair). Or it has more keys than `MOST_KEYS`.
    """
    plain = _read_plain(value, declared)
    if plain is not None:
        return plain
    record: Record = {}
    paths: dict[str, str] = {}
    for number, (path, each) in enumerate(_leaves(value, ())):
        if number == MOST_KEYS:
            raise NotARecord("record_too_large", f"got more than {MOST_KEYS} keys, the most")
        key = ".".join(path)
        try:
            if key in paths:
                places = sorted({paths[key], _shown(path)})
                raise NotARecord("duplicate_key", f"{key}: got it twice, as {' and '.join(places)}")
            paths[key] = _shown(path)
            values = _values(key, each, declared)
        except NotARecord:
            if declared.reads(key) or key in (SOURCE, OFFSET):
                raise
            continue
        if values or (isinstance(each, list) and key in declared.lists):
            record[key] = values
    return record


def _read_plain(value: Mapping[str, Any], declared: Declared) -> Record | None:
    """Reads an object in which nothing is nested, wrong or to be changed; None for another."""
    if len(value) > MOST_KEYS or SOURCE in value or OFFSET in value:
        return None
    wholes, written = declared.wholes, declared.written
    record: Record = {}
    each: Any
    for key, each in value.items():
        kind = type(each)
        if kind is str:
            good = each.isascii() or not not_unicode(each)
        elif kind is int:
            good = -(2**63) <= each < 2**63
        elif kind is float:
            good = not abs(each) > FLOAT32_MAX  # NaN is a value too
            good = good and key not in wholes and key not in written
        elif kind is bool:
            each, good = int(each), True
        elif kind is list:
            as_it_is = not each or type(each[0]) is not float
            as_it_is = as_it_is or not (key in wholes or key in written)
            good = not each or (as_it_is and _is_plain(each))
        else:
            good = each is None or kind is bytes
        if not good or not (key.isascii() or not not_unicode(key)):
            return None
        if kind is list:
            if each and each != [""]:
                record[key] = each
            elif key in declared.lists:
                record[key] = []
        elif each is not None and each != "" and each != b"":
            record[key] = [each]
    return record


def _is_plain(values: list[Any]) -> bool:
    """Whether all values are of one type that an example holds, and nothing is wrong with them."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return not not_unicode("".join(values))
    if kinds == {int}:
        return -(2**63) <= min(values) and max(values) < 2**63
    # A NaN that is the first is the least and the greatest, and another is neither.
    return kinds == {float} and -FLOAT32_MAX <= min(values) and max(values) <= FLOAT32_MAX


def _leaves(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple, Any]]:
    for name, each in value.items():
        if isinstance(each, dict) and len(path) < MOST_NESTED - 1:
            yield from _leaves(each, (*path, name))
        else:
            yield (*path, name), each


def _shown(path: tuple[str, ...]) -> str:
    return " → ".join(map(repr, path))


def _values(key: str, value: Any, declared: Declared) -> list[Value]:
    if key in (SOURCE, OFFSET):
        raise NotARecord("reserved_key", f"{key}: this key is branchline's own")
    if not_unicode(key):
        raise NotARecord("invalid_utf8", f"{key!r}: the key is not Unicode")
    if value is None:
        return []
    values = list(_flatten(key, value, declared, MOST_NESTED))
    if values in ([""], [b""]):  # an example tells no text from a list of one
        return []
    types = {type(each) for each in values}
    if float in types and key in declared.wholes and all(map(_is_whole, values)):
        return [int(each) for each in values]  # an example's floats have but 32 bits
    if types == {int, float}:
        return [float(each) for each in values]
    if len(types) > 1:
        raise NotARecord("wrong_type", f"{key}: got texts and numbers in one list")
    return values


def _flatten(key: str, value: Any, declared: Declared, levels: int) -> Iterator[Value]:
    if not levels or (isinstance(value, dict) and levels == MOST_NESTED):
        raise nested_too_deeply(key)
    if isinstance(value, Twice):
        raise NotARecord("duplicate_key", f"{key}: got it twice in one object: {value.values}")
    if isinstance(value, Unreadable):
        raise NotARecord("wrong_type", f"{key}: {value.told}")
    if isinstance(value, list):
        for each in value:
            yield from _flatten(key, each, declared, levels - 1)
    elif isinstance(value, bool):
        yield int(value)
    elif isinstance(value, Decimal):
        plain = _number(value) if key in declared.numbers else str(value)
        yield from _flatten(key, plain, declared, levels)
    elif isinstance(value, Digits) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        digits = f"{value}"
        if key not in declared.texts:
            got = digits if len(digits) < 100 else f"a number of {len(digits)} digits"
            raise NotARecord("number_too_large", f"{key}: got {got}, expected 64 bits at most")
        yield digits
    elif isinstance(value, float) and key in declared.written:
        yield repr(value)
    elif isinstance(value, float) and abs(value) > FLOAT32_MAX:
        raise NotARecord("number_too_large", f"{key}: got {value}, expected a float of 32 bits")
    elif isinstance(value, str) and not_unicode(value):
        raise NotARecord("invalid_utf8", f"{key}: the text is not Unicode")
    elif isinstance(value, str | bytes | int | float):
        yield value
    else:
        raise NotARecord("wrong_type", f"{key}: got a {name_of(value)} in a list")


def _is_whole(value: Value) -> bool:
    if isinstance(value, float):
        return value.is_integer() and -(2**63) <= value < 2**63
    return isinstance(value, int)


def _number(value: Decimal) -> int | float:
    """An int where it has no digits after the point, be they zeros."""
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


def not_unicode(text: str) -> bool:
    """Whether a text holds half a surrogate pair, as JSON's escapes and undecoded bytes can."""
    return _SURROGATE.search(text) is not None


def name_of(value: Any) -> str:
    """What JSON calls a value."""
    names = {dict: "object", list: "list", str: "text", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
