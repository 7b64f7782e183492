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
        name = ending or path
        decompress: Any = next((fn for end, fn in _DECOMPRESS.items() if name.endswith(end)), None)
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


def _decompress_zstd(file: io.BufferedReader) -> io.BufferedReader:
    # Arrow's, as the package zstandard takes a file that is cut off for a shorter one.
    stream: Any = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    return io.BufferedReader(stream)


_DECOMPRESS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".zst": _decompress_zstd}
COMPRESSIONS = tuple(_DECOMPRESS)
