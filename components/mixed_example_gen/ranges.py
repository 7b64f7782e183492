"""Divides large files of lines, so that all workers read them."""

from collections.abc import Iterator
from typing import NamedTuple

from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.open_file import compression_of, opened
from branchline.components.mixed_example_gen.read_lines import is_recoded

RANGE_BYTES = 64 << 20
_PIECE = 1 << 20


class Range(NamedTuple):
    """A part of a file that begins and ends with whole lines, or all of it.

    Attributes:
        file: The file.
        start: How many bytes come before it.
        stop: Where it ends; None for the end of the file.
        lines: How many lines come before it.
    """

    file: RecordFile
    start: int = 0
    stop: int | None = None
    lines: int = 0


def ranges_of(file: RecordFile, size: int) -> Iterator[Range]:
    """Divides a file where that can be done: JSONL, not compressed, of several ranges.

    It is read once for that, by pieces, and only its line ends are counted. In other formats
    nothing but all that comes before tells where a record begins, or a library reads them.

    Args:
        file: The file.
        size: Of it, in bytes.
    """
    if file.format != "jsonl" or compression_of(file.path) or size <= RANGE_BYTES:
        yield Range(file)
        return
    with opened(file.path) as content:
        if is_recoded(content):
            yield Range(file)
            return
        start = lines = at = before = 0
        while piece := content.read(min(_PIECE, RANGE_BYTES)):
            at, before = at + len(piece), before + piece.count(b"\n")
            last = piece.rfind(b"\n")
            end = at - len(piece) + last + 1
            if last >= 0 and end - start >= RANGE_BYTES:
                yield Range(file, start, end, lines)
                start, lines = end, before
        yield Range(file, start, None, lines)
