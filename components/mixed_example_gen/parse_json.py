"""Parses JSON: an object a line, a list of objects, or one object over many lines."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.limits import KEPT_OF_LONGER, LONGEST_RECORD
from branchline.components.mixed_example_gen.read_lines import (
    BYTE_ORDER_MARK,
    CutLine,
    too_large,
    whole_lines,
)
from branchline.components.mixed_example_gen.read_record import (
    Digits,
    NotARecord,
    Parsed,
    Twice,
    name_of,
    nested_too_deeply,
    read_record,
)

_OBJECT = "one JSON object in a line"
# A byte order mark is where files were put behind one another.
_SPACE = re.compile("[ \t\r\n\ufeff]*")
_BETWEEN = re.compile("[ \t\r\n\ufeff,]*")
INT_CHARACTERS = 4000  # Python refuses to read an int of more digits than 4300
_PIECE = 1 << 20  # characters read at a time of what is not written line by line


def parse_jsonl(lines: Iterable[bytes], declared: Declared) -> Iterator[Parsed]:
    """Parses one JSON object a line; blank lines are no records."""
    for offset, (byte, line) in enumerate(whole_lines(lines), 1):
        is_cut = isinstance(line, CutLine)
        line = line.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")
        if line.strip() or is_cut:
            yield _parse_line(offset, byte, line, declared, is_cut)


def _parse_line(offset: int, byte: int, line: bytes, declared: Declared, is_cut: bool) -> Parsed:
    try:
        if is_cut:
            raise too_large()
        value = _parse_plain(line)
        if value is not None:
            return Parsed(offset, line, read_record(value, declared), byte=byte)
        text = line.decode(errors="surrogateescape")  # what is read, `read_record` refuses
        return Parsed(offset, line, _read_object(text, declared), byte=byte)
    except NotARecord as problem:
        if problem.reason in ("malformed_json", "invalid_utf8"):
            problem = _bytes_at_fault(line) or problem
        return Parsed(offset, line, None, problem.reason, problem.detail, byte)


def _bytes_at_fault(line: bytes) -> NotARecord | None:
    """What is wrong with a line that is not UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return NotARecord("invalid_utf8", f"byte {error.start + 1}: {error.reason}")
    return None


def parse_json(lines: Iterable[bytes], declared: Declared) -> Iterator[Parsed]:
    """Parses a `.json` file: a list of objects, objects over many lines, or an object a line.

    Which it is, its beginning tells. What follows a mistake in the first two is one record set
    aside, as nothing says where the next one begins.
    """
    lines = iter(lines)
    first = b""
    skipped = skipped_bytes = 0
    for line in lines:
        first = line.removeprefix(BYTE_ORDER_MARK)
        if first.strip():
            break
        skipped, skipped_bytes = skipped + 1, skipped_bytes + len(line)
    is_object = first.lstrip()[:1] == b"{"
    whole_line = is_object and (len(first) > LONGEST_RECORD or _is_json(first))
    if whole_line or first.lstrip()[:1] not in (b"{", b"["):
        for parsed in parse_jsonl(_chain(first, lines), declared):
            byte = (parsed.byte or 0) + skipped_bytes
            yield parsed._replace(offset=parsed.offset + skipped, byte=byte)
        return
    text = _Text(_chain(first, lines), skipped + 1, skipped_bytes)
    yield from _parse_stream(text, declared)


def _chain(first: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from lines


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


class _Text:
    """The rest of a file, from `at` in `text` on, of which as much is read as is needed."""

    def __init__(self, lines: Iterator[bytes], line: int, byte: int) -> None:
        self._lines, self.line, self.byte = lines, line, byte
        self.text, self.at, self.ended = "", 0, False
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def __len__(self) -> int:
        return len(self.text) - self.at

    def more(self) -> bool:
        """Reads on, twice as much each time; tells whether there was anything."""
        want, parts = max(_PIECE, len(self)), [self.text[self.at :]]
        while want > 0 and (line := next(self._lines, None)) is not None:
            parts.append(self._decoder.decode(line))
            want -= len(parts[-1])
        if len(parts) == 1:
            parts.append(self._decoder.decode(b"", final=True))
            self.ended = True
        self.text, self.at = "".join(parts), 0
        return not self.ended

    def take(self, end: int) -> str:
        """Takes what stands before `end`."""
        taken, self.at = self.text[self.at : end], end
        self.line += taken.count("\n")
        self.byte += len(_as_bytes(taken))
        return taken

    def skip(self, signs: re.Pattern[str]) -> str:
        """Takes these signs off the beginning, and gives the one after them; "" at the end."""
        while True:
            found = signs.match(self.text, self.at)
            self.take(found.end() if found else self.at)
            if len(self) or not self.more():
                return self.text[self.at : self.at + 1]

    def give_up(self) -> str:
        """Reads to the end, and keeps only how the rest begins."""
        kept = self.text[self.at : self.at + KEPT_OF_LONGER]
        self.text, self.at = "", 0
        while self.more():
            kept = kept or self.text[:KEPT_OF_LONGER]
            self.text = ""
        return kept


def _parse_stream(text: _Text, declared: Declared) -> Iterator[Parsed]:
    listed = text.skip(_SPACE) == "["
    if listed:
        text.take(text.at + 1)
    while sign := text.skip(_BETWEEN if listed else _SPACE):
        if listed and sign == "]":
            text.take(text.at + 1)
            if not text.skip(_SPACE):
                return
            listed = False
            continue
        begin, byte = text.line, text.byte
        try:
            end = _end_of_value(text)
        except NotARecord as problem:
            raw = _as_bytes(text.give_up())
            detail = f"{problem.detail}; the rest of the file is not read"
            yield Parsed(begin, raw, None, problem.reason, detail, byte)
            return
        taken = text.take(end)
        raw = _as_bytes(taken)
        try:
            yield Parsed(begin, raw, _read_object(taken, declared), byte=byte)
        except NotARecord as found:
            yield Parsed(begin, raw, None, found.reason, found.detail, byte)
    if listed:
        told = "the list has no end; is the file cut off?"
        yield Parsed(text.line, b"", None, "unreadable_rest", told, text.byte)


def _end_of_value(text: _Text) -> int:
    """Finds where the value ends that the text begins with."""
    while True:
        try:
            end = _DECODER.raw_decode(text.text, text.at)[1]
            # A number may go on in what is not read yet.
            if end < len(text.text) or text.ended or not text.more():
                return end
        except RecursionError:
            raise nested_too_deeply() from None
        except ValueError as error:
            if len(text) > LONGEST_RECORD:
                raise too_large() from None
            if not text.more():
                raise NotARecord("malformed_json", str(error)) from None


def _as_bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        values: dict[str, list[Any]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        found |= {name: Twice(each) for name, each in values.items() if len(each) > 1}
    return found


def _int(text: str) -> int | Digits:
    return int(text) if len(text) <= INT_CHARACTERS else Digits(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_LONG_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_int)


# Makes every digit a 0, and deletes what may stand between a key and its colon.
_ZEROS, _SPACES = bytes.maketrans(b"123456789", b"000000000"), b" \t\r\n"
_LONG = b"0" * 19  # digits: what has fewer is a number of 64 bits


def _parse_plain(line: bytes) -> dict[str, Any] | None:
    """Parses an object fast; None if there is none, or not surely the right one.

    The parser reads ints of more than 64 bits as floats, and of equal keys lets the last one win.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    signs = line.translate(_ZEROS, _SPACES)
    if type(value) is not dict or _LONG in signs:
        return None
    most_keys = signs.count(b'":')  # each ends so, and some text may hold the same
    try:
        return value if most_keys == len(value) or most_keys == _num_keys(value) else None
    except RecursionError:
        return None


def _num_keys(value: Any) -> int:
    """How many keys there are in all objects within one another."""
    if type(value) is dict:
        return len(value) + sum(map(_num_keys, value.values()))
    return sum(map(_num_keys, value)) if type(value) is list else 0


def _read_object(text: str, declared: Declared) -> dict[str, list]:
    try:
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # an int of thousands of digits
            value = _LONG_DECODER.decode(text)
        if not isinstance(value, dict):
            raise NotARecord("malformed_json", f"got a JSON {name_of(value)}, expected {_OBJECT}")
        return read_record(value, declared)
    except json.JSONDecodeError as error:
        raise NotARecord("malformed_json", f"{error}; expected {_OBJECT}") from None
    except RecursionError:
        raise nested_too_deeply() from None
