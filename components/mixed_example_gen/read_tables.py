"""Reads tables row by row: Parquet, Avro, and TFRecord files of tf.Example.

A row becomes a record as a JSON object does: structs and maps become keys with dots, lists flat
ones, null is absent. Dates, times and timestamps become texts in ISO 8601, UUIDs texts, decimals
numbers where their key is read as one, else texts, durations seconds. Bytes stay bytes.
"""

import datetime
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from apache_beam.io.tfrecordio import _TFRecordUtil
from google.protobuf.message import DecodeError

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.limits import (
    KEPT_OF_LONGER,
    LONGEST_DETAIL,
    LONGEST_RECORD,
)
from branchline.components.mixed_example_gen.open_file import unreadable_rest
from branchline.components.mixed_example_gen.plain_rows import PlainRows, are_plain
from branchline.components.mixed_example_gen.read_avro import LostBlock, avro_rows
from branchline.components.mixed_example_gen.read_lines import too_large
from branchline.components.mixed_example_gen.read_parquet import (
    AS_THEY_ARE,
    Columns,
    Row,
    parquet_rows,
)
from branchline.components.mixed_example_gen.read_record import (
    NotARecord,
    Parsed,
    nested_too_deeply,
    read_record,
)
from branchline.components.mixed_example_gen.row_as_json import Unreadable, is_small, row_as_json
from branchline.schemas import BranchlineError


def read_table(
    file: io.BufferedReader, path: str, kind: str, declared: Declared
) -> Iterator[Parsed | PlainRows]:
    """Reads the rows of a table, from 1: one by one, or many that are plain.

    A `raw` is the row as JSON, with bytes that are not UTF-8 as {"base64": text}. Where the file
    is damaged, the rows before are read (of Parquet, the batches before: about 16 MiB each), and
    one further `Parsed` of the reason "unreadable_rest" stands for what follows; of Avro one of
    "unreadable_block" for the rest of a block.

    Args:
        file: As `opened` gives it; Parquet must be seekable.
        path: Names the file in errors.
        kind: One of `TABLES`.
        declared: What is read of the records.

    Raises:
        BranchlineError: The storage fails, a column's name is there twice, or the codec that Avro's
            blocks are packed with is not known.
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
            yield unreadable_rest(path, offset, error)
            return
        if row is None:
            return
        if isinstance(row, LostBlock):
            yield _lost(offset, row)
            offset += row.records
        elif isinstance(row, tuple):
            yield _parse(offset, *row, declared)
            offset += 1
        else:
            yield from _parse_columns(offset, row, declared)
            offset += len(next(iter(row.values())))


def _lost(offset: int, block: LostBlock) -> Parsed:
    return Parsed(offset, b"", None, "unreadable_block", block.told[:LONGEST_DETAIL], block.byte)


def _parse_columns(
    offset: int, columns: Columns, declared: Declared
) -> Iterator[Parsed | PlainRows]:
    if are_plain(columns, declared):
        yield PlainRows(offset, columns)
        return
    for number, row in enumerate(zip(*columns.values(), strict=True), offset):
        values = dict(zip(columns, row, strict=True))
        yield _parse(number, values, None, declared, is_plain=True)


def _parse(
    offset: int,
    values: Any,
    problem: NotARecord | None,
    declared: Declared,
    *,
    is_plain: bool = False,
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
    if type(value) in AS_THEY_ARE or type(value) is Unreadable:
        return value
    if isinstance(value, list) and value and type(value[0]) is tuple:  # Arrow's maps
        value = dict(value)
    if isinstance(value, dict):
        if set(map(type, value)) == {str} and set(map(type, value.values())) <= AS_THEY_ARE:
            return value
        return {_as_key(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):  # noqa: UP038 - as A | B it is slow
        plain = set(map(type, value)) <= AS_THEY_ARE
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


_HEADER = struct.Struct("<QI")  # of a TFRecord: its length, and a checksum of that


def _tfrecord_rows(file: io.BufferedReader, path: str) -> Iterator[Row]:
    while head := file.read(_HEADER.size):
        if len(head) < _HEADER.size:
            raise EOFError("the file ends within the head of a record")
        length, checksum = _HEADER.unpack(head)
        if _TFRecordUtil._masked_crc32c(head[:8]) != checksum:
            raise ValueError("the checksum of a record's length is wrong")
        if length > LONGEST_RECORD:
            yield _skipped(file, length + 4), too_large()
            continue
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise EOFError("the file ends within a record")
        row, checksum = body[:-4], int.from_bytes(body[-4:], "little")
        if _TFRecordUtil._masked_crc32c(row) == checksum:
            yield _read_example(row)
        else:
            told = "the checksum is wrong: these are not the bytes that were written"
            yield row, NotARecord("malformed_example", told)


def _skipped(file: io.BufferedReader, size: int) -> bytes:
    """Reads on, and gives the beginning of what is passed over."""
    beginning = b""
    while size:
        piece = file.read(min(size, KEPT_OF_LONGER))
        beginning, size = beginning or piece, size - len(piece)
        if not piece:
            raise EOFError("the file ends within a record")
    return beginning


def _read_example(serialized: bytes) -> Row:
    example, sequence = tf.train.Example(), tf.train.SequenceExample()
    try:
        example.ParseFromString(serialized)
        if _goes_on(serialized):
            sequence.ParseFromString(serialized)
    except DecodeError as error:
        told = f"{error}; expected a tf.Example"
        return serialized, NotARecord("malformed_example", told)
    if sequence.feature_lists.feature_list:
        told = "got a tf.SequenceExample with lists of features, expected a tf.Example"
        return serialized, NotARecord("malformed_example", told)
    features = sorted(example.features.feature.items(), key=lambda item: item[0])
    # A feature of no kind is one of no values.
    lists = {key: getattr(each, each.WhichOneof("kind") or "", None) for key, each in features}
    return {key: list(each.value) for key, each in lists.items() if each}, None


def _goes_on(serialized: bytes) -> bool:
    """Whether anything follows an Example's only field, as in a SequenceExample."""
    size = end = 0
    for end, byte in enumerate(serialized[1:11], 2):
        size |= (byte & 127) << 7 * (end - 2)
        if byte < 128:
            break
    return end + size < len(serialized)


_OPEN: dict[str, Callable[[io.BufferedReader, str], Iterator[Row | Columns | LostBlock]]] = {
    "parquet": parquet_rows,
    "avro": avro_rows,
    "tfrecord": _tfrecord_rows,
}
TABLES = tuple(_OPEN)
