"""Counts the records in files by the files alone: nobody's word is taken for it."""

import gzip
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow.parquet
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from branchline.schemas import BranchlineError

_HEADER = struct.Struct("<QI")  # of a TFRecord: its length, and a checksum of that
_FOOTER_BYTES = 4
_PIECE = 1 << 18


def count_examples(path: str) -> int:
    """Counts the records of a TFRecord file, gzip, anywhere.

    Raises:
        BranchlineError: The file is cut off, or not there.
    """
    with (
        _opened(path) as file,
        io.BufferedReader(gzip.open(file), _PIECE) as records,  # it reads far faster by pieces
    ):
        try:
            return count_frames(records)
        except (EOFError, struct.error, gzip.BadGzipFile) as error:
            told = f"{path}: was not written whole: {error}; is there room?"
            raise BranchlineError(told) from error


def count_frames(file: io.BufferedIOBase) -> int:
    """Counts the records of an opened TFRecord file, not compressed, by their lengths.

    Raises:
        EOFError: The last one is not whole.
        struct.error: So is its length.
    """
    number = 0
    while header := file.read(_HEADER.size):
        (length, _) = _HEADER.unpack(header)
        if len(file.read(length + _FOOTER_BYTES)) < length + _FOOTER_BYTES:
            raise EOFError(f"after {number} records one is not whole")
        number += 1
    return number


def count_rows(path: str) -> int:
    """Counts the rows of a Parquet file anywhere.

    Raises:
        BranchlineError: The file is not there.
    """
    with _opened(path) as file:
        return pyarrow.parquet.ParquetFile(file).metadata.num_rows


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Opens a file that was written just now.

    Beam takes a file that it cannot rename for one that was renamed before.
    """
    if not FileSystems.exists(path):
        told = "is not there, it could not be moved there: is there room and access?"
        raise BranchlineError(f"{path}: {told}")
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        yield file
