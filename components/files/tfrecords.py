"""Reads and writes TFRecord files by batches: what Beam does for each record costs more."""

import functools
import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.io.tfrecordio import _TFRecordUtil

MOST_ROWS = 2048
# The greatest product of rows and of the size of the largest: TensorFlow pads some of what it reads
# of a batch to that, and takes some twenty bytes for one.
BATCH_BYTES = 1 << 20
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


def frame(records: Iterable[bytes]) -> bytes:
    """Puts records behind one another as a TFRecord file holds them."""
    parts: list[bytes] = []
    for record in records:
        parts += (_header(len(record)), record, _checksum(record))
    return b"".join(parts)


@functools.lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    packed = _LENGTH.pack(length)
    return packed + _checksum(packed)


def _checksum(content: bytes) -> bytes:
    return _CHECKSUM.pack(_TFRecordUtil._masked_crc32c(content))


def read_framed(file: io.BufferedReader) -> Iterator[bytes]:
    """Reads the records of an opened TFRecord file.

    Raises:
        ValueError: The file is damaged.
    """
    while head := file.read(_LENGTH.size + _CHECKSUM.size):
        if len(head) < _LENGTH.size + _CHECKSUM.size:
            raise ValueError("a record's length is cut off")
        (length,) = _LENGTH.unpack_from(head)
        if head != _header(length):
            raise ValueError("the checksum of a record's length is another")
        record, checksum = file.read(length), file.read(_CHECKSUM.size)
        if len(record) < length or len(checksum) < _CHECKSUM.size:
            raise ValueError("a record is cut off")
        if checksum != _checksum(record):
            raise ValueError("the checksum of a record is another")
        yield record


class Batch:
    """Collects records until they are as many as fit together."""

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._largest = 0

    def add(self, record: bytes) -> list[bytes]:
        """Adds a record; gives those before it where it does not fit to them, else none."""
        full: list[bytes] = []
        self._largest = max(self._largest, len(record))
        rows = len(self._records) + 1
        if rows > MOST_ROWS or rows * self._largest > BATCH_BYTES:
            full = self.take()
            self._largest = len(record)
        self._records.append(record)
        return full

    def take(self) -> list[bytes]:
        """Gives the records since the last time."""
        taken, self._records, self._largest = self._records, [], 0
        return taken


class Compressed:
    """Writes gzip into a file at its fastest level, a third of the time of Beam's."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS + 16)

    def write(self, content: bytes) -> None:
        """Adds to the content."""
        self._file.write(self._gzip.compress(content))

    def end(self) -> None:
        """Writes what is left; the file stays open."""
        self._file.write(self._gzip.flush())
