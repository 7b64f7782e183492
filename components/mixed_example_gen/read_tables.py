"""Reads tables row by row: Parquet, Avro, and TFRecord files of tf.Example.

A row becomes a record as a JSON object does: structs and maps become keys with dots, lists flat
ones, null is absent. Dates, times and timestamps become texts in ISO 8601, UUIDs texts, decimals
numbers where their key is read as one, else texts, durations seconds. Bytes stay bytes.
"""

import datetime
import decimal
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fastavro
import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf
from apache_beam.io.tfrecordio import _TFRecordUtil
from google.protobuf.message import DecodeError

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.limits import KEPT_OF_LONGER, LONGEST_RECORD
from branchline.components.mixed_example_gen.open_file import unreadable_rest
from branchline.components.mixed_example_gen.read_lines import too_large
from branchline.components.mixed_example_gen.read_record import (
    NotARecord,
    Parsed,
    nested_too_deeply,
    read_record,
)
from branchline.components.mixed_example_gen.row_as_json import is_small, row_as_json
from branchline.schemas import BranchlineError

_BATCH_BYTES, _BATCH_ROWS = 2**24, 1024
_BYTES_OF_VALUE = 40  # of Python's list and its float, and of Arrow's
_AS_THEY_ARE = frozenset({str, int, float, bool, bytes, decimal.Decimal, type(None)})
# What was read of a row, what was wrong with it, and whether that need not be made plain: it is
# so already, and its JSON is surely not too long.
_Row = tuple[Any, NotARecord | None, bool]


def read_table(
    file: io.BufferedReader, path: str, kind: str, declared: Declared
) -> Iterator[Parsed]:
    """Reads the rows of a table, from 1.

    A `raw` is the row as JSON, with bytes that are not UTF-8 as {"base64": text}. Where the file
    is damaged, the rows before are read (of Parquet, the batches before: about 16 MiB each), and
    one further `Parsed` of the reason "unreadable_rest" stands for what follows.

    Args:
        file: As `opened` gives it; Parquet must be seekable.
        path: Names the file in errors.
        kind: One of `TABLES`.
        declared: What is read of the records.

    Raises:
        BranchlineError: The storage fails, a column's name is there twice, or the codec that Avro's
            blocks are packed with is not installed.
    """
    offset, rows = 0, None
    while True:
        try:
            if rows is None:
                if not file.peek(1):  # a file of no bytes holds no rows
                    return
                rows, offset = _OPEN[kind](file, path), 1
            row = next(rows, None)
        except BranchlineError:
            raise
        except Exception as error:  # noqa: BLE001 - of damaged files the libraries raise anything
            if "you need to install" in str(error):  # as fastavro does for the codecs of others
                raise BranchlineError(f"{path}: cannot be read here: {error}") from error
            yield unreadable_rest(path, offset, error)
            return
        if row is None:
            return
        yield _parse(offset, *row, declared)
        offset += 1


def _parse(
    offset: int, values: Any, problem: NotARecord | None, is_plain: bool, declared: Declared
) -> Parsed:
    came: Any = b""
    try:
        plain = values if is_plain else _plain(values)
        came = plain if is_plain or is_small(plain) else row_as_json(plain)
        if type(came) is bytes and len(came) > LONGEST_RECORD:
            came = came[:KEPT_OF_LONGER]
            raise too_large()
        if problem and (problem.key is None or declared.reads(problem.key)):
            raise problem
        return Parsed(offset, came, read_record(plain, declared))
    except NotARecord as error:
        return Parsed(offset, came, None, error.reason, error.detail)
    except RecursionError:
        problem = nested_too_deeply()
        return Parsed(offset, came, None, problem.reason, problem.detail)


def _plain(value: Any) -> Any:
    """A row's value as dicts, lists, texts, numbers, decimals and bytes.

    >>> _plain({"a": [("k", datetime.date(2024, 2, 29))], "b": [None, b"x"]})
    {'a': {'k': '2024-02-29'}, 'b': [None, b'x']}
    """
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, list) and value and type(value[0]) is tuple:  # Arrow's maps
        value = dict(value)
    if isinstance(value, dict):
        if set(map(type, value)) == {str} and set(map(type, value.values())) <= _AS_THEY_ARE:
            return value
        return {_as_key(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):  # noqa: UP038 - as A | B it is slow
        plain = set(map(type, value)) <= _AS_THEY_ARE
        return list(value) if plain else [_plain(each) for each in value]
    if isinstance(value, (datetime.date, datetime.time)):  # noqa: UP038
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, np.generic):  # Arrow's floats of 16 bits
        return value.item()
    return str(value)  # of UUIDs


def _as_key(key: Any) -> str:
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key)


def _parquet_rows(file: io.BufferedReader, path: str) -> Iterator[_Row]:
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
    size = max(1, *(_bytes_of_row(group, widths) for group in groups))
    num_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // size))
    batches = table.iter_batches(num_rows, use_threads=False)
    return (row for batch in batches for row in _rows_of(batch))


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


def _rows_of(batch: pyarrow.RecordBatch) -> Iterable[_Row]:
    try:
        columns = [_to_list(column) for column in batch.columns]
        rows = zip(*columns, strict=True) if columns else [()] * batch.num_rows
        names = batch.schema.names
        small = batch.nbytes + sum(map(len, names)) < LONGEST_RECORD // 16
        is_plain = small and all(set(map(type, cells)) <= _AS_THEY_ARE for cells in columns)
        return [(dict(zip(names, row, strict=True)), None, is_plain) for row in rows]
    except (ValueError, OverflowError, pyarrow.ArrowException):  # Python cannot hold some cell
        return (_cell_by_cell(batch, i) for i in range(batch.num_rows))


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


def _cell_by_cell(batch: pyarrow.RecordBatch, row: int) -> _Row:
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
    return values, problem, False


def _avro_rows(file: io.BufferedReader, path: str) -> Iterator[_Row]:
    # Bytes that are no text become halves of surrogate pairs, which `read_record` refuses.
    rows = fastavro.reader(file, handle_unicode_errors="surrogateescape")
    return ((row if isinstance(row, dict) else {"value": row}, None, False) for row in rows)


def _tfrecord_rows(file: io.BufferedReader, path: str) -> Iterator[_Row]:
    limited = _Limited(file)
    while True:
        limited.skipped = b""
        try:
            row = _TFRecordUtil.read_record(limited)
        except NotARecord as problem:
            yield limited.skipped, problem, False
            continue
        if row is None:
            return
        yield _read_example(row)


class _Limited:
    """Reads from a file of TFRecords, but skips what is too long for a record."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file, self.skipped = file, b""

    def read(self, size: int) -> bytes:
        if size <= LONGEST_RECORD + 4:  # with its checksum
            return self._file.read(size)
        self.skipped = piece = self._file.read(KEPT_OF_LONGER)
        while piece and (size := size - len(piece)):
            piece = self._file.read(min(size, KEPT_OF_LONGER))
        if size:
            raise ValueError("the file ends within a record")
        raise too_large()


def _read_example(serialized: bytes) -> _Row:
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except DecodeError as error:
        told = f"{error}; expected a tf.Example"
        return serialized, NotARecord("malformed_example", told), False
    features = sorted(example.features.feature.items(), key=lambda item: item[0])
    # A feature of no kind is one of no values.
    lists = {key: getattr(each, each.WhichOneof("kind") or "", None) for key, each in features}
    return {key: list(each.value) for key, each in lists.items() if each}, None, False


_OPEN: dict[str, Callable[[io.BufferedReader, str], Iterator[_Row]]] = {
    "parquet": _parquet_rows,
    "avro": _avro_rows,
    "tfrecord": _tfrecord_rows,
}
TABLES = tuple(_OPEN)
