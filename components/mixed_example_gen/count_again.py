"""Counts the records of files once more, by other means than those that read them.

Parquet is counted by its footer; JSONL, CSV, TSV, Avro and TFRecord by lines, rows, blocks and
frames, `.json` of up to 64 MiB by orjson. On this machine that takes at most 1.4 µs a record,
reading 8 to 30; of bzip2 it takes 7, as the file is unpacked twice. From a bucket, every file but
Parquet is fetched twice. A file in which damage or a broken quote runs records together is held to
no number, nor is one of JSON objects over many lines.
"""

import csv
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import orjson
import pyarrow.parquet

from branchline.components import quarantine
from branchline.components.files.count_records import count_frames
from branchline.components.mixed_example_gen.avro_blocks import blocks_of, read_head
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.limits import LONGEST_RECORD
from branchline.components.mixed_example_gen.open_file import opened
from branchline.components.mixed_example_gen.read_lines import BYTE_ORDER_MARK, is_recoded
from branchline.components.mixed_example_gen.sniff_delimiter import (
    first_lines,
    sniff_delimiter,
)
from branchline.schemas import BranchlineError

# Reasons of a line of the quarantine that stands for nobody knows how many records.
UNCOUNTABLE = frozenset(
    {"unreadable_block", "unreadable_rest", "record_too_large", "malformed_csv"}
)
_PIECE = 1 << 20


class Tally(NamedTuple):
    """How many records were read of a range of a file, and whether each stands for one."""

    format: str
    records: int
    is_countable: bool


def check_count(file: str | bytes, tallies: Iterable[Tally]) -> Iterator[tuple[str, int]]:
    """Compares what was read of a file with what it holds, and gives how many that are.

    Args:
        file: Its path, or that as the file system has it.
        tallies: Of all its ranges.

    Yields:
        A count "counted_again", if the file tells it.

    Raises:
        BranchlineError: It holds another number.
    """
    path, tallies = os.fsdecode(file), list(tallies)
    if not all(tally.is_countable for tally in tallies):
        return
    again = count_again(RecordFile(path, tallies[0].format))
    if again is None:
        return
    number = sum(tally.records for tally in tallies)
    if again != number:
        raise BranchlineError(
            f"MixedExampleGen: {path} holds {again} records, but {number} were read. If the file "
            "changed meanwhile, run it again when it is whole; if not, branchline or the disk is "
            "at fault"
        )
    yield quarantine.count("counted_again", number=again)


def count_again(file: RecordFile) -> int | None:
    """Counts the records of a file; None where it does not tell.

    Raises:
        BranchlineError: The file cannot be opened, or its storage fails.
    """
    count_fn = _COUNT.get(file.format)
    if count_fn is None:
        return None
    with opened(file.path) as content:
        if not content.peek(1):
            return 0
        return None if is_recoded(content) else count_fn(content)


def _count_lines(file: io.BufferedReader) -> int:
    """Lines that are not blank."""
    number, is_blank = 0, True
    while piece := file.readline(_PIECE):
        is_blank = is_blank and not piece.removeprefix(BYTE_ORDER_MARK).strip()
        if piece.endswith(b"\n"):
            number, is_blank = number + (not is_blank), True
    return number + (not is_blank)


def _count_cells(delimiter: str) -> Callable[[io.BufferedReader], int]:
    def count(file: io.BufferedReader) -> int:
        csv.field_size_limit(sys.maxsize)
        lines = iter(file)
        first = first_lines(lines, lambda line: line)
        texts = (
            line.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
            for line in itertools.chain(first, lines)
        )
        found = sniff_delimiter(first, delimiter)
        rows = sum(1 for row in csv.reader(texts, strict=True, delimiter=found) if row)
        return max(rows - 1, 0)  # one is the header

    return count


def _count_rows(file: io.BufferedReader) -> int:
    return pyarrow.parquet.ParquetFile(file).metadata.num_rows


def _count_blocks(file: io.BufferedReader) -> int:
    return sum(block.records for block in blocks_of(file, read_head(file)))


def _count_json(file: io.BufferedReader) -> int | None:
    content = file.read(LONGEST_RECORD + 1).removeprefix(BYTE_ORDER_MARK)
    if len(content) > LONGEST_RECORD:
        return None
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError:
        return _count_objects(content)
    return len(whole) if isinstance(whole, list) else 1 if isinstance(whole, dict) else None


def _count_objects(content: bytes) -> int | None:
    """Of an object a line; None if the first line is none."""
    first = content.lstrip().partition(b"\n")[0]
    try:
        is_object = isinstance(orjson.loads(first), dict)
    except orjson.JSONDecodeError:
        return None
    return _count_lines(io.BufferedReader(io.BytesIO(content))) if is_object else None


_COUNT: dict[str, Callable[[io.BufferedReader], int | None]] = {
    "jsonl": _count_lines,
    "json": _count_json,
    "csv": _count_cells(","),
    "tsv": _count_cells("\t"),
    "parquet": _count_rows,
    "avro": _count_blocks,
    "tfrecord": count_frames,
}
