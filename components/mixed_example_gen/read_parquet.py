"""Reads the rows of Parquet, by batches of bounded size."""

import datetime
import decimal
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from branchline.components.mixed_example_gen.limits import LARGEST_LISTS, LONGEST_RECORD
from branchline.components.mixed_example_gen.parquet_pages import first_too_large
from branchline.components.mixed_example_gen.read_lines import too_large
from branchline.components.mixed_example_gen.read_record import NotARecord
from branchline.schemas import BranchlineError

Row = tuple[Any, NotARecord | None]  # what was read of a row, and what was wrong with it
# Of many rows, name → a cell each, of the types below; their JSON is surely not too long.
Columns = dict[str, list[Any]]
AS_THEY_ARE = frozenset({str, int, float, bool, bytes, decimal.Decimal, type(None)})
_BATCH_BYTES, _BATCH_ROWS = 2**24, 1024
_BYTES_OF_VALUE = 40  # of Python's list and its float, and of Arrow's
_BYTES_OF_STRUCT = 240  # of Python's dict


def parquet_rows(file: io.BufferedReader, path: str) -> Iterator[Row | Columns]:
    """Reads the rows of a file, a batch at a time: some 16 MiB, and 1024 rows at most.

    Batches of plain cells alone are given as columns.

    Args:
        file: Seekable.
        path: Names the file in errors.

    Raises:
        BranchlineError: A column's name is there twice.
        ValueError: A page is larger than `LARGEST_PAGE`; comes after the row groups before it.
        pyarrow.ArrowException: The file is damaged; what Arrow raises may be of other types too.
    """
    metadata = pyarrow.parquet.read_metadata(file)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    kept = sorted({each.path_in_schema for each in columns if _is_kept_once(each)})
    table = pyarrow.parquet.ParquetFile(
        file, metadata=metadata, read_dictionary=kept, buffer_size=2**20
    )
    names = table.schema_arrow.names
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise BranchlineError(
            f"{path}: got the column {', '.join(twice)} more than once, expected one of each name"
        )
    widths = [metadata.schema.column(i).length for i in range(metadata.num_columns)]
    size = max([1, *(_bytes_of_row(group, widths) for group in groups)])
    num_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // size))
    num_groups, problem = first_too_large(file, metadata)
    batches = _batches(table, num_rows, num_groups, problem)
    return (row for batch in batches for row in _rows_of(batch))


def _batches(
    table: pyarrow.parquet.ParquetFile, num_rows: int, num_groups: int, problem: str
) -> Iterator[pyarrow.RecordBatch]:
    if num_groups:
        yield from table.iter_batches(num_rows, row_groups=range(num_groups), use_threads=False)
    if problem:
        raise ValueError(problem)


def _is_kept_once(column: pyarrow.parquet.ColumnChunkMetaData) -> bool:
    """Whether texts or bytes that come again and again are in the file once: so they stay."""
    is_nested = "." in column.path_in_schema
    return column.has_dictionary_page and column.physical_type == "BYTE_ARRAY" and not is_nested


def _bytes_of_row(group: pyarrow.parquet.RowGroupMetaData, widths: list[int]) -> int:
    """About how much memory a row takes: packed, a picture of one colour has no size at all."""
    columns = [group.column(i) for i in range(group.num_columns)]
    sizes = [max(width, _BYTES_OF_VALUE) for width in widths]
    values = sum(each.num_values * size for each, size in zip(columns, sizes, strict=True))
    mean = max(group.total_byte_size, values) // max(group.num_rows, 1)
    # Of lists, each row may hold all that is in the file once.
    of_lists = [
        each.total_uncompressed_size
        for each in columns
        if each.has_dictionary_page
        and each.physical_type == "BYTE_ARRAY"
        and not _is_kept_once(each)
    ]
    return max(mean, *of_lists, 0)


def _rows_of(batch: pyarrow.RecordBatch) -> Iterable[Row | Columns]:
    names = batch.schema.names
    if sum(map(_bytes_of_nested, batch.columns)) > LARGEST_LISTS:
        if batch.num_rows == 1:
            return [(b"", too_large())]
        half = batch.num_rows // 2
        halves = (batch.slice(0, half), batch.slice(half))
        return (row for each in halves for row in _rows_of(each))
    try:
        columns = [_to_list(column) for column in batch.columns]
    except (ValueError, OverflowError, pyarrow.ArrowException):  # Python cannot hold some cell
        return (_cell_by_cell(batch, i) for i in range(batch.num_rows))
    small = batch.nbytes + sum(map(len, names)) < LONGEST_RECORD // 16
    if small and columns and all(set(map(type, cells)) <= AS_THEY_ARE for cells in columns):
        return [dict(zip(names, columns, strict=True))]
    rows = zip(*columns, strict=True) if columns else [()] * batch.num_rows
    return [(dict(zip(names, row, strict=True)), None) for row in rows]


def _bytes_of_nested(column: pyarrow.Array) -> int:
    """About how much memory a column takes as Python's objects, if it is one of lists or structs.

    In the file equal ones have no size at all, and Arrow's are much smaller too.
    """
    kind = column.type
    if pyarrow.types.is_struct(kind):
        parts = column.flatten()
        return _BYTES_OF_STRUCT * len(column) + sum(map(_bytes_of_nested, parts))
    if not pyarrow.types.is_nested(kind):
        return 0
    if pyarrow.types.is_map(kind):  # Arrow flattens no maps
        begin, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
        values = column.items.slice(begin, end - begin)
    else:
        values = column.flatten()
    return _BYTES_OF_VALUE * (len(column) + len(values)) + _bytes_of_nested(values)


_BY_NUMPY = (
    pyarrow.types.is_integer,
    pyarrow.types.is_floating,
    pyarrow.types.is_string,
    pyarrow.types.is_large_string,
)


def _to_list(column: pyarrow.Array) -> list[Any]:
    """The cells of a column: as `to_pylist` gives them, only faster, and times also as texts.

    Cells of a dictionary share their values, so that they take no more memory than it.
    """
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        places = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        used, places = np.unique(places, return_inverse=True)
        if without := used[:1].tolist() == [-1]:
            used = used[1:]
        values = [None] * without + _to_list(column.dictionary.take(pyarrow.array(used)))
        return [values[place] for place in places.tolist()]
    if not column.null_count:
        if any(is_kind(kind) for is_kind in _BY_NUMPY):
            return column.to_numpy(zero_copy_only=False).tolist()
        if pyarrow.types.is_timestamp(kind) and kind.tz is None:
            values = column.to_numpy(zero_copy_only=False).tolist()
            # Those of nanoseconds, or of the year 10000, are none.
            if set(map(type, values)) == {datetime.datetime}:
                return [value.isoformat() for value in values]
    return column.to_pylist()


def _cell_by_cell(batch: pyarrow.RecordBatch, row: int) -> Row:
    values, problem = {}, None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[row].as_py()
        except UnicodeDecodeError as error:
            values[name] = error.object
            told = f"{name}: byte {error.start + 1}: {error.reason}"
            problem = NotARecord("invalid_utf8", told, name)
        except (ValueError, OverflowError) as error:
            problem = NotARecord("wrong_type", f"{name}: got a {column.type}: {error}", name)
    return values, problem
