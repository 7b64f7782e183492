"""Parses JSON: an object a line, a list of objects, or one object over many lines."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.read_record import (
    Digits,
    NotARecord,
    Parsed,
    Twice,
    name_of,
    read_record,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OBJECT = "one JSON object in a line"
_SPACE = " \t\r\n"
INT_CHARACTERS = 4000  # Python refuses to read an int of more digits than 4300
_PIECE = 1 << 20  # characters read at a time of what is not written line by line
_LONGEST = 256 << 20  # characters that one object may have


def parse_jsonl(lines: Iterable[bytes], declared: Declared) -> Iterator[Parsed]:
    """Parses one JSON object a line; blank lines are no records."""
    after = 0
    for offset, line in enumerate(lines, 1):
        byte, after = after, after + len(line)
        line = line.removeprefix(BYTE_ORDER_MARK) if offset == 1 else line
        line = line.rstrip(b"\r\n")
        if not line.strip():
            continue
        yield _parse_line(offset, byte, line, declared)


def _parse_line(offset: int, byte: int, line: bytes, declared: Declared) -> Parsed:
    try:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise NotARecord("invalid_utf8", f"byte {error.start + 1}: {error.reason}") from None
        return Parsed(offset, line, _read_object(text, declared), byte=byte)
    except NotARecord as problem:
        return Parsed(offset, line, None, problem.reason, problem.detail, byte)


def parse_json(lines: Iterable[bytes], declared: Declared) -> Iterator[Parsed]:
    """Parses a `.json` file: a list of objects, objects over many lines, or an object a line.

    Which it is, its beginning tells. What follows a mistake in the first two is one record set
    aside, as nothing says where the next one begins.
    """
    lines = iter(lines)
    first = b""
    skipped = skipped_bytes = 0
    for line in lines:
        first = line.removeprefix(BYTE_ORDER_MARK) if not skipped else line
        if first.strip():
            break
        skipped, skipped_bytes = skipped + 1, skipped_bytes + len(line)
    whole_line = first.lstrip()[:1] == b"{" and _is_json(first)
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
    """The rest of a file, of which as much is read as is needed."""

    def __init__(self, lines: Iterator[bytes], line: int, byte: int) -> None:
        self._lines, self.line, self.byte = lines, line, byte
        self.rest, self.ended = "", False

    def more(self) -> bool:
        """Reads on, twice as much each time; tells whether there was anything."""
        want, parts = max(_PIECE, len(self.rest)), []
        while want > 0 and (line := next(self._lines, None)) is not None:
            parts.append(line.decode(errors="surrogateescape"))
            want -= len(parts[-1])
        self.rest += "".join(parts)
        self.ended = not parts
        return not self.ended

    def take(self, end: int) -> str:
        """Takes `end` characters off the beginning."""
        taken, self.rest = self.rest[:end], self.rest[end:]
        self.line += taken.count("\n")
        self.byte += len(_as_bytes(taken))
        return taken

    def skip(self, signs: str) -> str:
        """Takes these signs off the beginning, and gives the one after them; "" at the end."""
        while True:
            self.take(len(self.rest) - len(self.rest.lstrip(signs)))
            if self.rest or not self.more():
                return self.rest[:1]


def _parse_stream(text: _Text, declared: Declared) -> Iterator[Parsed]:
    listed = text.skip(_SPACE) == "["
    if listed:
        text.take(1)
    while sign := text.skip(_SPACE + "," if listed else _SPACE):
        if listed and sign == "]":
            text.take(1)
            if not text.skip(_SPACE):
                return
            listed = False
            continue
        begin, byte = text.line, text.byte
        end, problem = _end_of_value(text)
        if problem:
            while text.more():
                pass
            raw = _as_bytes(text.take(len(text.rest)))
            detail = f"{problem}; the rest of the file is not read"
            yield Parsed(begin, raw[:_PIECE], None, "malformed_json", detail, byte)
            return
        taken = text.take(end)
        raw = _as_bytes(taken)
        try:
            yield Parsed(begin, raw, _read_object(taken, declared), byte=byte)
        except NotARecord as found:
            yield Parsed(begin, raw, None, found.reason, found.detail, byte)


def _end_of_value(text: _Text) -> tuple[int, str]:
    """Finds where the value ends that the text begins with, or says what is wrong."""
    while True:
        try:
            end = _DECODER.raw_decode(text.rest)[1]
            # A number may go on in what is not read yet.
            if end < len(text.rest) or text.ended or not text.more():
                return end, ""
        except (json.JSONDecodeError, RecursionError) as error:
            if len(text.rest) > _LONGEST or not text.more():
                return 0, str(error)


def _as_bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        for name in {name for name in names if names.count(name) > 1}:
            found[name] = Twice([value for each, value in pairs if each == name])
    return found


def _int(text: str) -> int | Digits:
    return int(text) if len(text) <= INT_CHARACTERS else Digits(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_LONG_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_int)


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
        raise NotARecord("malformed_json", "lists or objects are nested too deeply") from None
