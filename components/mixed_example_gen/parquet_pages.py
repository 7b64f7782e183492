"""Finds pages of a Parquet file that are too large to be unpacked: Arrow unpacks them whole.

Arrow does not show what stands in the header of a page, so that is read here. It is written in
Thrift's compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import io
import math
from collections.abc import Iterator

from pyarrow.parquet import ColumnChunkMetaData, FileMetaData

from branchline.components.mixed_example_gen.limits import LARGEST_PAGE

_UNPACKED, _PACKED = 2, 3  # fields of a header: sizes in bytes
_TRUE, _FALSE, _BYTE, _INTS, _BINARY, _STRUCT = 1, 2, 3, (4, 5, 6), 8, 12

# Codec → how many bytes one byte unpacks to at most; of the others it has no limit worth the name.
_MOST_TIMES = {"UNCOMPRESSED": 1, "SNAPPY": 22, "LZ4": 256, "GZIP": 1032}


def first_too_large(file: io.BufferedReader, metadata: FileMetaData) -> tuple[int, str]:
    """Finds the first row group with a page that is too large.

    Only column chunks that could unpack to more than a page may are looked through, page by page.
    What the file says of their sizes is not trusted; of a page Arrow believes its header, and fails
    where more comes out.

    Returns:
        The number of the row group, from 0, and what is wrong with it; if there is none, how many
        row groups there are, and "".

    Raises:
        ValueError, LookupError, OSError: The file is damaged.
    """
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if _most_unpacked(column) > LARGEST_PAGE:
                for _, unpacked in pages_of(file, column):
                    if unpacked > LARGEST_PAGE:
                        return number, (
                            f"row group {number + 1}: a page of {column.path_in_schema} unpacks "
                            f"to {unpacked} bytes, expected at most {LARGEST_PAGE}; write the file "
                            "with fewer rows in a group or a page"
                        )
    return metadata.num_row_groups, ""


def _most_unpacked(column: ColumnChunkMetaData) -> float:
    most = column.total_compressed_size * _MOST_TIMES.get(column.compression, math.inf)
    return max(most, column.total_uncompressed_size)


def pages_of(file: io.BufferedReader, column: ColumnChunkMetaData) -> Iterator[tuple[int, int]]:
    """Reads the headers of a column chunk's pages: gives their own size, and the page's unpacked.

    Args:
        file: Seekable.
        column: The chunk.
    """
    at = min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset)
    end = at + column.total_compressed_size
    while at < end:
        file.seek(at)
        sizes = _read_sizes(file)
        header = file.tell() - at
        yield header, sizes[_UNPACKED]
        at += header + sizes[_PACKED]


def _read_sizes(file: io.BufferedReader) -> dict[int, int]:
    field, sizes = 0, {}
    while head := file.read(1)[0]:
        field = field + (head >> 4) if head >> 4 else _read_int(file)
        if field in (_UNPACKED, _PACKED):
            sizes[field] = _read_int(file)
        else:
            _skip(file, head & 15)
    if min(sizes.values()) < 0:
        raise ValueError(
            f"the header of a page tells sizes of {sizes[_UNPACKED]}, {sizes[_PACKED]}"
        )
    return sizes


def _skip(file: io.BufferedReader, kind: int) -> None:
    if kind in _INTS:
        _read_varint(file)
    elif kind == _BINARY:
        file.seek(_read_varint(file), io.SEEK_CUR)
    elif kind == _BYTE:
        file.read(1)
    elif kind == _STRUCT:
        while head := file.read(1)[0]:
            if not head >> 4:
                _read_varint(file)
            _skip(file, head & 15)
    elif kind not in (_TRUE, _FALSE):
        raise ValueError(f"the header of a page holds a value of kind {kind}")


def _read_int(file: io.BufferedReader) -> int:
    value = _read_varint(file)
    return -(value >> 1) - 1 if value & 1 else value >> 1


def _read_varint(file: io.BufferedReader) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
