"""Finds the blocks of an Avro file, and unpacks each by pieces: fastavro unpacks them whole.

Source: https://avro.apache.org/docs/1.11.1/specification/#object-container-files
"""

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import fastavro
import pyarrow

from branchline.components.mixed_example_gen.limits import LARGEST_BLOCK
from branchline.schemas import BranchlineError

_MAGIC, _LARGEST_HEAD, _PIECE = b"Obj\x01", 16 << 20, 4 << 20
_HEAD: Any = {
    "type": "record",
    "name": "org.apache.avro.file.Header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": len(_MAGIC)}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
    ],
}


class Head(NamedTuple):
    """The beginning of an Avro file.

    Attributes:
        schema: As JSON, of nobody checked.
        codec: What the blocks are packed with.
        sync: What stands behind each block.
        size: How many bytes the head has.
    """

    schema: Any
    codec: str
    sync: bytes
    size: int


class Block(NamedTuple):
    """A block of records, packed.

    Attributes:
        byte: How many bytes of the file come before it.
        records: How many it says it holds.
        size: How many bytes it has, packed.
        packed: Those bytes; None if they are more than `LARGEST_BLOCK`.
    """

    byte: int
    records: int
    size: int
    packed: bytes | None


def read_head(file: io.BufferedReader) -> Head:
    """Reads the beginning of a file.

    Raises:
        ValueError, LookupError, EOFError: It is no Avro file, or damaged.
    """
    counted: Any = _Counted(file, _LARGEST_HEAD)
    if (magic := file.peek(len(_MAGIC))[: len(_MAGIC)]) != _MAGIC:
        raise ValueError(f"is no Avro file: it begins with {magic!r}")
    head: Any = fastavro.schemaless_reader(counted, _HEAD)  # pyright: ignore[reportCallIssue]
    schema = json.loads(head["meta"]["avro.schema"])
    codec = head["meta"].get("avro.codec", b"null").decode()
    return Head(schema, codec, head["sync"], counted.size)


def head_without_codec(head: Head) -> bytes:
    """Writes the head of a file whose blocks are not packed."""
    meta = {"avro.schema": json.dumps(head.schema).encode(), "avro.codec": b"null"}
    return _encoded(_HEAD, {"magic": _MAGIC, "meta": meta, "sync": head.sync})


def block_without_codec(records: int, content: bytes, sync: bytes) -> bytes:
    """Writes a block that is not packed."""
    return b"".join([_encoded("long", records), _encoded("long", len(content)), content, sync])


def blocks_of(file: io.BufferedReader, head: Head) -> Iterator[Block]:
    """Reads the blocks that follow a head.

    Raises:
        ValueError, EOFError: The file is damaged: nothing tells where the next block begins.
    """
    counted: Any = _Counted(file)
    while file.peek(1):
        byte = head.size + counted.size
        records = _read_long(counted)
        size = _read_long(counted)
        if not (0 <= records <= LARGEST_BLOCK and size >= 0):
            told = f"the block at byte {byte} says it holds {records} records in {size} bytes"
            raise ValueError(told)
        packed = counted.read(size) if size <= LARGEST_BLOCK else counted.skip(size)
        if packed is not None and len(packed) < size:
            raise EOFError(f"the file ends within the block at byte {byte}")
        yield Block(byte, records, size, packed)
        if counted.read(len(head.sync)) != head.sync:
            raise ValueError(f"the block at byte {byte} ends without the sign that ends each")


class TooLarge(ValueError):
    """A block unpacks to more bytes than it may."""


def unpack(codec: str, packed: bytes, most: int) -> bytes:
    """Unpacks a block, no further than `most` bytes and one piece.

    Raises:
        TooLarge: There are more.
        ValueError, OSError, zlib.error, lzma.LZMAError: It is damaged.
    """
    pieces, size = [], 0
    for piece in _UNPACK[codec](packed, most):
        size += len(piece)
        if size > most:
            raise TooLarge
        pieces.append(piece)
    return b"".join(pieces)


def check_codec(path: str, codec: str) -> None:
    """Raises a BranchlineError if there is no such codec here."""
    if codec not in _UNPACK:
        raise BranchlineError(
            f"{path}: cannot be read here: its blocks are packed with {codec!r}, expected one of "
            f"{', '.join(_UNPACK)}"
        )


class _Counted:
    """Reads from a file, counts bytes, and reads no more than `most` of them.

    A size in a damaged file may be any number: memory is taken for what is there.
    """

    def __init__(self, file: io.BufferedReader, most: int | None = None) -> None:
        self._file, self._most, self.size = file, most, 0

    def read(self, size: int) -> bytes:
        if self._most is not None and not 0 <= size <= self._most - self.size:
            raise ValueError(f"the head of the file has more than {self._most} bytes")
        content = self._file.read(size)
        self.size += len(content)
        return content

    def skip(self, size: int) -> None:
        while size:
            piece = self._file.read(min(size, _PIECE))
            self.size, size = self.size + len(piece), size - len(piece)
            if not piece:
                raise EOFError("the file ends within a block")


def _encoded(schema: Any, value: Any) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema, value)
    return written.getvalue()


def _read_long(file: Any) -> int:
    value: Any = fastavro.schemaless_reader(file, "long")  # pyright: ignore[reportCallIssue]
    return value


def _by_pieces(make_fn: Callable[[], Any]) -> "_Unpack":
    def pieces(packed: bytes, _: int) -> Iterator[bytes]:
        unpacker = make_fn()
        while not unpacker.eof and (piece := unpacker.decompress(packed, _PIECE)):
            packed = getattr(unpacker, "unconsumed_tail", b"")  # zlib's keeps no input
            yield piece

    return pieces


def _unpack_zstandard(packed: bytes, _: int) -> Iterator[bytes]:
    stream = pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd")
    while piece := stream.read(_PIECE):
        yield piece


def _unpack_sized(codec: str, content: bytes, size: int, most: int) -> bytes:
    """Unpacks what says its size before."""
    if size > most:
        raise TooLarge
    return pyarrow.decompress(content, size, codec, asbytes=True)


def _unpack_snappy(packed: bytes, most: int) -> Iterator[bytes]:
    body, checksum = packed[:-4], packed[-4:]
    size = shift = 0
    for byte in body[:5]:
        size, shift = size | (byte & 127) << shift, shift + 7
        if byte < 128:
            break
    content = _unpack_sized("snappy", body, size, most)
    if zlib.crc32(content) != int.from_bytes(checksum, "big"):
        raise ValueError("the checksum of a block is wrong")
    yield content


def _unpack_lz4(packed: bytes, most: int) -> Iterator[bytes]:
    size = int.from_bytes(packed[:4], "little")
    yield _unpack_sized("lz4_raw", packed[4:], size, most)


_Unpack = Callable[[bytes, int], Iterable[bytes]]
_UNPACK: dict[str, _Unpack] = {
    "null": lambda packed, _: [packed],
    "deflate": _by_pieces(lambda: zlib.decompressobj(-zlib.MAX_WBITS)),
    "snappy": _unpack_snappy,
    "zstandard": _unpack_zstandard,
    "bzip2": _by_pieces(bz2.BZ2Decompressor),
    "xz": _by_pieces(lambda: lzma.LZMADecompressor(memlimit=LARGEST_BLOCK)),
    "lz4": _unpack_lz4,
}
