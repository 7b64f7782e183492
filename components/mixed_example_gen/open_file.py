"""Opens a file of records anywhere, and tells failures of the storage from damaged content."""

import bz2
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from branchline.components.mixed_example_gen.read_record import Parsed
from branchline.schemas import BranchlineError

_BUFFER_BYTES = 2**16
_DETAIL_CHARACTERS = 300  # Beam's errors hold the whole record in hexadecimal digits


@contextmanager
def opened(path: str, ending: str | None = None) -> Iterator[io.BufferedReader]:
    """Opens a file for reading, decompressed as its name's ending says, or another `ending`.

    Whatever else than a BranchlineError a reader of it raises is the fault of its content.

    Raises:
        BranchlineError: The file cannot be opened, or its storage fails while it is read.
    """
    # Beam's own decompression takes a gzip file that is cut off for a shorter one.
    try:
        content = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except OSError as error:
        raise BranchlineError(f"{path}: cannot be read: {error}") from error
    storage: Any = _Storage(path, content)
    with content, io.BufferedReader(storage, _BUFFER_BYTES) as file:
        decompress: Any = _DECOMPRESS.get(compression_of(ending or path))
        # A file of no bytes holds no records, although it is no archive.
        yield decompress(file) if decompress and file.peek(1) else file


def unreadable_rest(path: str, offset: int, error: Exception) -> Parsed:
    """What is set aside in place of the records that damage keeps from being read.

    Args:
        path: The file.
        offset: Of the record after the last good one; 0 where nothing can be read.
        error: What the library that reads the format says.
    """
    told = " ".join(f"{type(error).__name__}: {error}".split())[:_DETAIL_CHARACTERS]
    name = path.rpartition("/")[2]
    what = "the rest of " if offset else ""
    return Parsed(offset, b"", None, "unreadable_rest", f"{what}{name} cannot be read: {told}")


class _Storage(io.RawIOBase):
    """Reads from a file of Beam's; every error is one of the storage."""

    def __init__(self, path: str, file: Any) -> None:
        super().__init__()
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._file.read(len(buffer))
        except Exception as error:
            raise BranchlineError(f"{self._path}: cannot be read: {error}") from error
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Bzip2(io.RawIOBase):
    """Reads streams of bzip2 behind one another; `bz2.open` takes a damaged one for the end."""

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__()
        self._file, self._unpacker, self._ready = file, bz2.BZ2Decompressor(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = b""
        while not piece:
            if self._unpacker.eof:
                self._ready = self._unpacker.unused_data or self._file.read(_BUFFER_BYTES)
                if not self._ready:
                    return 0
                self._unpacker = bz2.BZ2Decompressor()
            elif self._unpacker.needs_input and not self._ready:
                self._ready = self._file.read(_BUFFER_BYTES)
                if not self._ready:
                    raise EOFError("the file ends before its end-of-stream marker")
            piece = self._unpacker.decompress(self._ready, len(buffer))
            self._ready = b""
        buffer[: len(piece)] = piece
        return len(piece)


class _Zstandard(io.RawIOBase):
    """Reads frames of zstandard, up to the very byte where one is damaged.

    By Arrow, as the package zstandard takes a file that is cut off for a shorter one. What Arrow
    had unpacked before it fails is lost with the call, and so is read once more, byte by byte.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__()
        self._file, self._size = file, 0
        self._stream = self._opened()
        self._error: Exception | None = None

    def _opened(self) -> Any:
        return pyarrow.CompressedInputStream(pyarrow.PythonFile(self._file, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._error:
            raise self._error
        try:
            piece = self._stream.read(len(buffer))
        except BranchlineError:
            raise
        except Exception as error:  # noqa: BLE001 - Arrow raises several
            self._error, piece = error, self._read_last(len(buffer))
            if not piece:
                raise
        self._size += len(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def _read_last(self, most: int) -> bytes:
        self._file.seek(0)
        stream, before, last = self._opened(), self._size, b""
        try:
            while before:
                before -= len(stream.read(min(before, _BUFFER_BYTES)))
            while len(last) < most and (byte := stream.read(1)):
                last += byte
        except BranchlineError:
            raise
        except Exception:  # noqa: BLE001, S110 - as before
            pass
        return last


_DECOMPRESS: dict[str, Any] = {
    ".gz": gzip.open,
    ".bz2": lambda file: io.BufferedReader(_Bzip2(file), _BUFFER_BYTES),
    ".zst": lambda file: io.BufferedReader(_Zstandard(file)),
}
COMPRESSIONS = tuple(_DECOMPRESS)


def compression_of(path: str) -> str:
    """The ending of a compressed file's name, in small letters; "" of another file's.

    >>> compression_of("a/B.JSONL.GZ"), compression_of("gz")
    ('.gz', '')
    """
    return next((ending for ending in COMPRESSIONS if path.lower().endswith(ending)), "")
