"""Tells what stands between the cells of a CSV or TSV file."""

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

_DELIMITERS = ",;\t|"
_QUOTED = re.compile(b'"[^"]*"?')
_SNIFFED_LINES, _SNIFFED_BYTES = 5, 1 << 20
Line = TypeVar("Line")


def first_lines(lines: Iterator[Line], text_of: Callable[[Line], bytes]) -> list[Line]:
    """Takes as many lines as `sniff_delimiter` needs."""
    taken, texts = list[Line](), list[bytes]()
    while len(texts) < _SNIFFED_LINES and sum(map(len, texts)) < _SNIFFED_BYTES:
        if (line := next(lines, None)) is None:
            break
        taken.append(line)
        if text_of(line).strip():
            texts.append(text_of(line))
    return taken


def sniff_delimiter(lines: list[bytes], usual: str) -> str:
    """Tells what stands between the cells of a file: as its name says, if the header holds that.

    Otherwise that of the signs `, ; | tab` which its header holds most, and one of the rows too.

    Args:
        lines: The first ones.
        usual: What the file's name says.

    >>> sniff_delimiter([b"a;b", b"1,5;2"], ","), sniff_delimiter([b"a;b", b"1"], ",")
    (';', ',')
    """
    header, *rows = [_QUOTED.sub(b"", line) for line in lines if line.strip()] or [b""]
    numbers = {sign: header.count(sign.encode()) for sign in _DELIMITERS}
    found = max(_DELIMITERS, key=lambda sign: numbers[sign])
    is_other = not numbers[usual] and any(found.encode() in row for row in rows)
    return found if is_other and numbers[found] else usual
