"""Parses the lines of JSONL and CSV files into records, or says why they are none."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from branchline.schemas import BranchlineError
from branchline.schemas.errors import OFFSET, SOURCE

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OBJECT = "one JSON object in a line"
Value = str | bytes | int | float
Record = dict[str, list[Value]]
_FLOAT32_MAX = 3.4028235e38
# As Python writes them, and also 1. and .5; not 007, +49, 1_000 or nan, which stay texts.
_INT = re.compile(r"0|-?[1-9][0-9]*")
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT_CHARACTERS = 4000  # Python refuses to read an int of more digits than 4300


class Parsed(NamedTuple):
    r"""A record, or what was wrong with it.

    Attributes:
        offset: The line in its file on which it begins, from 1.
        raw: Its text; bytes that are not UTF-8 as `\xNN`.
        record: Key → its values, all of one type; None if there is a `reason`.
        reason: A word to count by; "" when all is well.
        detail: What came and what was expected.
    """

    offset: int
    raw: str
    record: Record | None
    reason: str = ""
    detail: str = ""


class NotARecord(ValueError):
    """Carries the reason and the detail of a `Parsed`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def parse_jsonl(lines: Iterable[bytes]) -> Iterator[Parsed]:
    """Parses one JSON object a line; blank lines are no records."""
    for offset, line in enumerate(lines, 1):
        line = line.removeprefix(_BYTE_ORDER_MARK) if offset == 1 else line
        line = line.rstrip(b"\r\n")
        if not line.strip():
            continue
        try:
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise NotARecord(
                    "invalid_utf8", f"byte {error.start + 1}: {error.reason}"
                ) from None
            yield Parsed(offset, text, _read_object(text))
        except NotARecord as problem:
            raw = line.decode(errors="backslashreplace")
            yield Parsed(offset, raw, None, problem.reason, problem.detail)


def parse_csv(
    lines: Iterable[bytes], source: str, text_keys: frozenset[str], delimiter: str = ","
) -> Iterator[Parsed]:
    """Parses CSV rows under the header in the first row.

    A cell is an int or a float if it is written as Python writes one (so 007 is a text), else a
    text; an empty cell is an absent value.

    Args:
        lines: The file's lines.
        source: Names the file in errors.
        text_keys: Columns whose cells are texts whatever they look like.
        delimiter: Stands between cells.

    Raises:
        BranchlineError: The header is missing, though there are lines, or names a column twice.
    """
    kept = _Tee(_decode(lines))
    rows = csv.reader(kept, strict=True, delimiter=delimiter)
    header = _read_header(rows, source)
    while True:
        kept.seen, begin = [], rows.line_num + 1
        try:
            row = next(rows, None)
            if row is None:
                return
            if not row:
                continue
            yield Parsed(begin, kept.text(), _read_row(row, header, text_keys))
        except csv.Error as error:
            yield Parsed(begin, kept.text(), None, "malformed_csv", str(error))
        except NotARecord as problem:
            yield Parsed(begin, kept.text(), None, problem.reason, problem.detail)


def _decode(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines):
        line = line.removeprefix(_BYTE_ORDER_MARK) if number == 0 else line
        yield line.decode(errors="surrogateescape")


class _Tee:
    """Passes lines on and remembers those of the current row."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.seen: list[str] = []

    def __iter__(self) -> "_Tee":
        return self

    def __next__(self) -> str:
        self.seen.append(next(self._lines))
        return self.seen[-1]

    def text(self) -> str:
        raw = "".join(self.seen).rstrip("\r\n").encode("utf-8", errors="surrogateescape")
        return raw.decode(errors="backslashreplace")


def _read_header(rows: Iterator[list[str]], source: str) -> list[str]:
    try:
        header = next(rows, None)
    except csv.Error as error:
        raise BranchlineError(f"{source}:1: the CSV header cannot be read: {error}") from error
    if header is None:  # no line at all, and so no record
        return []
    if any(map(_not_unicode, header)):
        raise BranchlineError(f"{source}:1: the CSV header holds bytes that are not UTF-8")
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice or "" in header:
        got = f"{', '.join(twice)} more than once" if twice else f"{header}"
        raise BranchlineError(f"{source}:1: got {got}, expected a header that names each column")
    return header


def _read_row(row: list[str], header: list[str], text_keys: frozenset[str]) -> Record:
    if any(map(_not_unicode, row)):
        raise NotARecord("invalid_utf8", "the row holds bytes that are not UTF-8")
    if len(row) != len(header):
        raise NotARecord("csv_row_length", f"got {len(row)} cells, expected {len(header)}")
    pairs = zip(header, row, strict=True)
    cells = {k: cell if k in text_keys else _read_cell(cell) for k, cell in pairs if cell != ""}
    return read_record(cells)


def _read_cell(cell: str) -> Value:
    if _INT.fullmatch(cell) and len(cell) <= _INT_CHARACTERS:
        return int(cell)
    return float(cell) if _FLOAT.fullmatch(cell) else cell


def _read_object(text: str) -> Record:
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise NotARecord("malformed_json", f"got a JSON {_name(value)}, expected {_OBJECT}")
        return read_record(value)
    except json.JSONDecodeError as error:
        raise NotARecord("malformed_json", f"{error}; expected {_OBJECT}") from None
    except RecursionError:
        raise NotARecord("malformed_json", "lists or objects are nested too deeply") from None
    except NotARecord:
        raise
    except ValueError as error:  # an int of thousands of digits
        raise NotARecord("number_too_large", str(error)) from None


def read_record(value: dict[str, Any], prefix: str = "") -> Record:
    """Reads a parsed object: nested objects become keys with dots, nested lists flat ones.

    Raises:
        NotARecord: A key is reserved, a list mixes types, a number is too large, or a text is not
            Unicode (half a surrogate pair).
    """
    record: Record = {}
    for name, each in value.items():
        key = f"{prefix}{name}"
        if key in (SOURCE, OFFSET):
            raise NotARecord("reserved_key", f"{key}: this key is branchline's own")
        if _not_unicode(key):
            raise NotARecord("invalid_utf8", f"{key!r}: the key is not Unicode")
        if isinstance(each, dict):
            record.update(read_record(each, f"{key}."))
        elif each is not None:
            values = _one_type(key, list(_flatten(key, each)))
            if values:
                record[key] = values
    return record


def _flatten(key: str, value: Any) -> Iterator[Value]:
    if isinstance(value, list):
        for each in value:
            yield from _flatten(key, each)
    elif isinstance(value, bool):
        yield int(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NotARecord("number_too_large", f"{key}: got {value}, expected 64 bits at most")
    elif isinstance(value, float) and abs(value) > _FLOAT32_MAX:
        raise NotARecord("number_too_large", f"{key}: got {value}, expected a float of 32 bits")
    elif isinstance(value, str) and _not_unicode(value):
        raise NotARecord("invalid_utf8", f"{key}: the text is not Unicode")
    elif isinstance(value, str | bytes | int | float):
        yield value
    else:
        raise NotARecord("wrong_type", f"{key}: got a {_name(value)} in a list")


def _not_unicode(text: str) -> bool:
    """Whether a text holds half a surrogate pair, as JSON's escapes and undecoded bytes can."""
    return _SURROGATE.search(text) is not None


def _one_type(key: str, values: list[Value]) -> list[Value]:
    types = {type(value) for value in values}
    if types == {int, float}:
        return [float(value) for value in values]
    if len(types) > 1:
        raise NotARecord("wrong_type", f"{key}: got texts and numbers in one list")
    return values


def _name(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
