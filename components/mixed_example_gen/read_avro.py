"""Reads the records of Avro. A block that is damaged or too large costs itself alone."""

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import fastavro
from fastavro import _read_py

from branchline.components.mixed_example_gen.avro_blocks import (
    Block,
    Head,
    TooLarge,
    block_without_codec,
    blocks_of,
    check_codec,
    head_without_codec,
    read_head,
    unpack,
)
from branchline.components.mixed_example_gen.avro_logical import careful
from branchline.components.mixed_example_gen.avro_schema import Bounds, measure
from branchline.components.mixed_example_gen.read_parquet import Row

_MOST_EMPTY = 1 << 20  # records of no bytes in a block


class LostBlock(NamedTuple):
    """Stands for the records of a block that cannot be read.

    Attributes:
        records: How many the block says they are.
        byte: How many bytes of the file, decompressed, come before the block.
        told: What is wrong with it.
    """

    records: int
    byte: int
    told: str


def avro_rows(file: io.BufferedReader, path: str) -> Iterator[Row | LostBlock]:
    """Reads the records of a file; a value that is no record is one under the key "value".

    Args:
        file: As `opened` gives it.
        path: Names the file in errors.

    Raises:
        BranchlineError: The codec is not known.
        ValueError: The file is no Avro file, or damaged where nothing tells how it goes on; what
            fastavro raises may be of other types too.
    """
    head = read_head(file)
    check_codec(path, head.codec)
    bounds = measure(head.schema)
    return _rows(file, path.rpartition("/")[2], head, bounds)


def _rows(
    file: io.BufferedReader, name: str, head: Head, bounds: Bounds
) -> Iterator[Row | LostBlock]:
    # The compiled reader does not count how deep it is: records within records end the process.
    open_fn = _read_py.block_reader if bounds.is_recursive else fastavro.block_reader
    before = head_without_codec(head._replace(schema=careful(head.schema)))
    for block in blocks_of(file, head):
        number = 0
        try:
            content = _unpacked(block, head.codec, bounds.most_bytes)
            plain = io.BytesIO(before + block_without_codec(block.records, content, head.sync))
            # Bytes that are no text become halves of surrogate pairs, which `read_record` refuses.
            opened: Any = next(open_fn(plain, handle_unicode_errors="surrogateescape"))
            for row in opened:
                yield (row if isinstance(row, dict) else {"value": row}, None)
                number += 1
            if more := len(opened.bytes_.read()):
                raise ValueError(f"{more} bytes are left after its last record")
        except Exception as error:  # noqa: BLE001 - of damaged blocks fastavro raises anything
            told = f"{block.records - number} of the {block.records} records of the block at byte "
            told += f"{block.byte} of {name}, {block.size} bytes, cannot be read: {error!r}"
            yield LostBlock(block.records - number, block.byte, " ".join(told.split()))


def _unpacked(block: Block, codec: str, most: int) -> bytes:
    try:
        if block.packed is None:
            raise TooLarge
        content = unpack(codec, block.packed, most)
    except TooLarge:
        raise ValueError(
            f"it unpacks to more than {most} bytes, the most; write the file with smaller blocks"
        ) from None
    if block.records > max(len(content), _MOST_EMPTY):
        raise ValueError(f"it says it holds more records than its {len(content)} bytes")
    return content
