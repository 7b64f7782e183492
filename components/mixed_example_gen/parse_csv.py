"""Parses the rows of CSV files. A row that is broken costs itself, and no row after it."""

import csv
import functools
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.limits import LONGEST_RECORD
from branchline.components.mixed_example_gen.parse_json import INT_CHARACTERS
from branchline.components.mixed_example_gen.read_lines import (
    BYTE_ORDER_MARK,
    CutLine,
    too_large,
    whole_lines,
)
from branchline.components.mixed_example_gen.read_record import (
    NotARecord,
    Parsed,
    Record,
    Value,
    not_unicode,
    read_record,
)
from branchline.components.mixed_example_gen.sniff_delimiter import (
    first_lines,
    sniff_delimiter,
)
from branchline.schemas import BranchlineError

# As Python writes them, and also 1. and .5; not 007, +49, 1_000 or nan, which stay texts.
_INT = re.compile(r"0|-?[1-9][0-9]*")
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# In a column of numbers; [0-9], as \d takes the digits of all scripts.
_PLAIN_INT = re.compile(r"[+-]?[0-9]+")
_PLAIN_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NUMBERS_BEGIN = frozenset("-.0123456789")
_BOOLEANS = {"true": 1, "false": 0}


def parse_csv(
    lines: Iterable[bytes], source: str, declared: Declared, delimiter: str = ","
) -> Iterator[Parsed]:
    """Parses CSV rows under the header in the first row that is not blank.

    A cell is an int or a float if it is written as Python writes one (so 007 is a text), else a
    text; an empty cell is an absent value. Of a column that is a text to all who read it every
    cell is a text. In one that is a number to all, spaces around it, a sign + and zeros in front
    are allowed, true and false are 1 and 0, and `declared.missing_cells` are absent values; these
    also in one that all read as a time or the like.

    A row over several lines that is none, as after a quote that nobody closes, is set aside by its
    first line alone; what follows is read again from the next line. A column without a name, as
    the index that pandas writes, is passed over.

    Args:
        lines: The file's lines.
        source: Names the file in errors.
        declared: What is read of the records.
        delimiter: Between cells, unless the file has another: see `sniff_delimiter`.

    Raises:
        BranchlineError: The header cannot be read, or names a column twice.
    """
    csv.field_size_limit(sys.maxsize)
    kept = _Lines(lines, delimiter)
    header = _read_header(kept, source)
    readers = [(key, cell_reader(key, declared)) for key in header]
    while header:
        begin = kept.line
        try:
            row = kept.row()
            if row is None:
                return
            if not row:
                continue
            record = _read_row(row, readers, declared)
            yield Parsed(begin, kept.raw(), record, byte=kept.byte)
        except (csv.Error, NotARecord) as problem:
            found = problem if isinstance(problem, NotARecord) else None
            if not found or found.reason in ("csv_row_length", "record_too_large"):
                several = kept.keep_first()
            else:
                several = False
            reason = found.reason if found and not several else "malformed_csv"
            detail = found.detail if found else str(problem)
            if several:
                detail = f"a row over several lines is none, is a quote not closed? {detail}"
            yield Parsed(begin, kept.raw(), None, reason, detail, kept.byte)


def header_line(lines: Iterable[bytes], source: str, delimiter: str) -> bytes:
    """Gives the header of a CSV file as it stands there, and checks it as `parse_csv` does."""
    kept = _Lines(lines, delimiter)
    return kept.raw() if _read_header(kept, source) else b""


class _Lines:
    """Hands out lines, remembers those of the current row, and takes them back."""

    def __init__(self, lines: Iterable[bytes], delimiter: str) -> None:
        self._lines, self._again = whole_lines(lines), deque[tuple[int, bytes]]()
        self._again.extend(first_lines(self._lines, lambda pair: pair[1]))
        delimiter = sniff_delimiter([line for _, line in self._again], delimiter)
        self._size = 0
        self._seen: list[tuple[int, bytes]] = []  # with how many bytes come before each
        self.line = 1  # of the next row
        # Takes no more lines than a row has, and begins anew after an error.
        self._reader = csv.reader(self, strict=True, delimiter=delimiter)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        byte, line = self._again.popleft() if self._again else next(self._lines)
        begins = not self._seen
        self._seen.append((byte, line))
        self.line += 1
        self._size += len(line)
        if isinstance(line, CutLine):
            raise too_large()
        if not begins and self._size > LONGEST_RECORD:
            raise csv.Error(f"got more than {LONGEST_RECORD} bytes")
        if b"\0" in line:  # Python 3.10 refuses it, later ones do not
            raise csv.Error("got a NUL byte; is this UTF-16 without a byte order mark?")
        if begins:
            line = line.removeprefix(BYTE_ORDER_MARK)
        return line.decode(errors="surrogateescape")

    def row(self) -> list[str] | None:
        """Reads a row; None at the end."""
        self._seen, self._size = [], 0
        return next(self._reader, None)

    def keep_first(self) -> bool:
        """Gives all lines of the row but its first to the next; tells whether there were any."""
        first, *rest = self._seen
        self._again.extendleft(reversed(rest))
        self._seen, self.line = [first], self.line - len(rest)
        return bool(rest)

    @property
    def byte(self) -> int:
        """How many bytes come before the row."""
        return self._seen[0][0]

    def raw(self) -> bytes:
        """The row's text as it came."""
        text = b"".join(line for _, line in self._seen)
        return text.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")


def _read_header(lines: _Lines, source: str) -> list[str]:
    """Reads the names of the columns, "" for those without; [] if there is no row at all."""
    try:
        header: list[str] | None = []
        while header == []:
            header = lines.row()
    except (csv.Error, NotARecord) as error:
        told = error.detail if isinstance(error, NotARecord) else str(error)
        if lines.raw().count(b"\r") > 1:
            told = r"its lines end in \r, expected \n"
        raise BranchlineError(f"{source}:1: the CSV header cannot be read: {told}") from error
    if header is None:
        return []
    if any(map(not_unicode, header)):
        raise BranchlineError(f"{source}:1: the CSV header holds bytes that are not UTF-8")
    twice = sorted(name for name, number in Counter(header).items() if name and number > 1)
    if twice or not any(header):
        got = f"{', '.join(twice)} more than once" if twice else f"{header}"
        raise BranchlineError(f"{source}:1: got {got}, expected a header that names each column")
    return header


# The value of a cell that is not empty; None for an absent one.
_CellReader = Callable[[str], Value | None]


def _read_row(row: list[str], readers: list[tuple[str, _CellReader]], declared: Declared) -> Record:
    if len(row) != len(readers):
        raise NotARecord("csv_row_length", f"got {len(row)} cells, expected {len(readers)}")
    cells = {}
    for cell, (key, read) in zip(row, readers, strict=True):
        if cell and key:
            cells[key] = value = read(cell)
            if type(value) is str and not value.isascii() and not_unicode(value):
                if declared.reads(key):
                    told = f"{key}: the cell holds bytes that are not UTF-8"
                    raise NotARecord("invalid_utf8", told)
    return read_record(cells, declared)


def cell_reader(key: str, declared: Declared) -> _CellReader:
    """Gives what reads the cells of a column as whoever reads it needs them."""
    if key in declared.written:
        return functools.partial(_read_written, missing=declared.missing_cells)
    if key in declared.texts:
        return str
    if key in declared.numbers:
        return functools.partial(_read_number, missing=declared.missing_cells)
    return _read_any


def _read_any(cell: str) -> Value:
    if cell[0] not in _NUMBERS_BEGIN:
        return cell
    if _INT.fullmatch(cell) and len(cell) <= INT_CHARACTERS:
        return int(cell)
    return float(cell) if _FLOAT.fullmatch(cell) else cell


def _read_written(cell: str, missing: Container[str]) -> Value | None:
    """Reads a cell of a column of times or the like."""
    stripped = cell.strip()
    return None if not stripped or stripped in missing else cell


def _read_number(cell: str, missing: Container[str]) -> Value | None:
    """Reads a cell of a column of numbers; one that is no number stays a text."""
    if cell.isascii() and cell.isdigit() and len(cell) < 19 and cell not in missing:
        return int(cell)  # most are so
    stripped = cell.strip()
    if not stripped or stripped in missing:
        return None
    if stripped.lower() in _BOOLEANS:
        return _BOOLEANS[stripped.lower()]
    if _PLAIN_INT.fullmatch(stripped) and len(stripped) <= INT_CHARACTERS:
        return int(stripped)
    return float(stripped) if _PLAIN_FLOAT.fullmatch(stripped) else cell
