"""Reads the lines of a file by pieces, up to where it is damaged."""

import codecs
import io
from collections.abc import Iterable, Iterator
from typing import Any

from branchline.components.mixed_example_gen.limits import KEPT_OF_LONGER, LONGEST_RECORD
from branchline.components.mixed_example_gen.open_file import unreadable_rest
from branchline.components.mixed_example_gen.read_record import NotARecord, Parsed
from branchline.schemas import BranchlineError

BYTE_ORDER_MARK = codecs.BOM_UTF8
_PIECE = 2**20
_ENCODINGS = {  # the longer marks first, as they begin with the shorter ones
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class Lines:
    """The lines of an opened file, whole ones: what stands before damage without an end is not.

    Args:
        file: The file, as `opened` gives it.
        path: Names it in what is set aside.
        start: How many bytes to pass over; what follows begins a line.
        stop: At which byte to end, after whole lines; None reads to the end.

    A line of more than `LONGEST_RECORD` bytes comes in several pieces: see `whole_lines`. Files of
    UTF-16 and UTF-32 that begin with a byte order mark are given as UTF-8.

    Attributes:
        rest: After the last line: what is set aside for the lines that cannot be read; None if
            all were.
    """

    def __init__(
        self, file: io.BufferedReader, path: str, start: int = 0, stop: int | None = None
    ) -> None:
        self._file, self._path, self._start, self._stop = file, path, start, stop
        self.rest: Parsed | None = None

    def __iter__(self) -> Iterator[bytes]:
        number, at = 0, self._start
        try:
            if at:
                self._file.seek(at)
            file = self._file if at else _as_utf8(self._file)
            while at != self._stop and (line := file.readline(LONGEST_RECORD + 1)):
                number, at = number + _ends(line), at + len(line)
                yield line
        except BranchlineError:
            raise
        except Exception as error:  # noqa: BLE001 - each decompressor has its own
            self.rest = unreadable_rest(self._path, number + 1 if number else 0, error)


class CutLine(bytes):
    """The beginning of a line that is longer than `LONGEST_RECORD`."""


def whole_lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Gives the lines that `Lines` gives, and one `CutLine` for each that comes in pieces.

    With each stands how many bytes come before it.
    """
    going_on, after = False, 0
    for piece in pieces:
        byte, after = after, after + len(piece)
        if not going_on:
            yield byte, CutLine(piece[:KEPT_OF_LONGER]) if len(piece) > LONGEST_RECORD else piece
        going_on = not _ends(piece)


def too_large() -> NotARecord:
    """What is wrong with a record that `LONGEST_RECORD` forbids."""
    told = f"got more than {LONGEST_RECORD} bytes, the most that a record may have"
    return NotARecord("record_too_large", f"{told}; only its beginning is kept")


def _ends(line: bytes) -> bool:
    """Whether a line goes on in no further piece."""
    return line.endswith(b"\n") or len(line) <= LONGEST_RECORD


def is_recoded(file: io.BufferedReader) -> bool:
    """Whether a file, at its beginning, is one that `Lines` gives in another encoding."""
    return file.peek(4)[:4].startswith(tuple(_ENCODINGS))


def _as_utf8(file: io.BufferedReader) -> Any:
    beginning = file.peek(4)[:4]
    for mark, encoding in _ENCODINGS.items():
        if beginning.startswith(mark):
            return io.BufferedReader(_Recoded(file, encoding), _PIECE)  # type: ignore[arg-type]
    return file


class _Recoded(io.RawIOBase):
    """Reads text of another encoding as UTF-8; what is no text there is none here either."""

    def __init__(self, file: io.BufferedReader, encoding: str) -> None:
        super().__init__()
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            piece = self._file.read(_PIECE)
            text = self._decoder.decode(piece, final=not piece)
            self._ready = text.encode(errors="surrogatepass")
            if not piece:
                break
        taken, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
