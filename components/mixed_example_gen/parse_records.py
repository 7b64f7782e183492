"""Parses the lines of JSONL and CSV files into records, or says why they are none."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from branchline.schemas import BranchlineError
from branchline.schemas.errors import RESERVED_KEYS

Value = str | int | float
Record = dict[str, list[Value]]
_FLOAT32_MAX = 3.4028235e38


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
        line = line.removeprefix(b"\xef\xbb\xbf") if offset == 1 else line
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


def parse_csv(lines: Iterable[bytes], source: str, text_keys: frozenset[str]) -> Iterator[Parsed]:
    """Parses CSV rows under the header in the first row.

    A cell is an int or a float if it is written as Python writes one (so 007 is a text), else a
    text; an empty cell is an absent value.

    Args:
        lines: The file's lines.
        source: Names the file in errors.
        text_keys: Columns whose cells are texts whatever they look like.

    Raises:
        BranchlineError: The header is missing, or names a column twice.
    """
    texts = (line.decode("utf-8", errors="surrogateescape") for line in lines)
    kept = _Tee(texts)
    rows = csv.reader(kept, strict=True)
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
        header = [name.removeprefix("\ufeff") for name in next(rows, [])]
    except csv.Error as error:
        raise BranchlineError(f"{source}:1: the CSV header cannot be read: {error}") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice or "" in header:
        got = f"{', '.join(twice)} more than once" if twice else f"{header}"
        raise BranchlineError(f"{source}:1: got {got}, expected a header that names each column")
    return header


def _read_row(row: list[str], header: list[str], text_keys: frozenset[str]) -> Record:
    if any("\udc80" <= character <= "\udcff" for cell in row for character in cell):
        raise NotARecord("invalid_utf8", "the row holds bytes that are not UTF-8")
    if len(row) != len(header):
        raise NotARecord("csv_row_length", f"got {len(row)} cells, expected {len(header)}")
    pairs = zip(header, row, strict=True)
    cells = {k: cell if k in text_keys else _read_cell(cell) for k, cell in pairs if cell != ""}
    return read_record(cells)


def _read_cell(cell: str) -> Value:
    for kind in (int, float):
        try:
            value = kind(cell)
        except ValueError:
            continue
        as_written = str(value) == cell or (kind is float and _plain_decimal(cell))
        if as_written:
            return value
    return cell


def _plain_decimal(cell: str) -> bool:
    """Whether a float is written like 1.50, -.5 or 2e-3, and not like 007, 1_000 or nan."""
    digits = cell.lstrip("+-")
    leading_zero = digits.startswith("0") and digits[1:2].isdigit()
    return not leading_zero and digits[:1] in set("0123456789.") and "_" not in digits


def _read_object(text: str) -> Record:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise NotARecord("malformed_json", str(error)) from None
    if not isinstance(value, dict):
        raise NotARecord("malformed_json", f"got a JSON {_name(value)}, expected an object")
    return read_record(value)


def read_record(value: dict[str, Any], prefix: str = "") -> Record:
    """Reads a parsed object: nested objects become keys with dots, nested lists flat ones.

    Raises:
        NotARecord: A key is reserved, a list mixes types, or a number is too large.
    """
    record: Record = {}
    for name, each in value.items():
        key = f"{prefix}{name}"
        if key in RESERVED_KEYS:
            raise NotARecord("reserved_key", f"{key}: this key is branchline's own")
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
    elif isinstance(value, float) and _FLOAT32_MAX < abs(value) < float("inf"):
        raise NotARecord("number_too_large", f"{key}: got {value}, expected a float of 32 bits")
    elif isinstance(value, str | int | float):
        yield value
    else:
        raise NotARecord("wrong_type", f"{key}: got a {_name(value)} in a list")


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


def as_lines(content: io.BufferedIOBase) -> Iterable[bytes]:
    """Reads a binary file line by line, whatever its line ends."""
    return iter(content.readline, b"")
