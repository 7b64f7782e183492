"""Writes Avro files block by block, also such as no library would write."""

import bz2
import io
import json
import lzma
import zlib

import fastavro
import pyarrow

SYNC = b"0123456789abcdef"
_HEAD = {
    "type": "record",
    "name": "Header",
    "fields": [
        {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
        {"name": "meta", "type": {"type": "map", "values": "bytes"}},
        {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
    ],
}


def _deflate(content):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def _snappy(content):
    checksum = zlib.crc32(content).to_bytes(4, "big")
    return pyarrow.compress(content, "snappy", asbytes=True) + checksum


def _lz4(content):
    return len(content).to_bytes(4, "little") + pyarrow.compress(content, "lz4_raw", asbytes=True)


PACK = {
    "null": lambda content: content,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": lambda content: pyarrow.compress(content, "zstd", asbytes=True),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lz4": _lz4,
}


def encoded(schema, value):
    written = io.BytesIO()
    fastavro.schemaless_writer(written, schema, value)
    return written.getvalue()


def long(number):
    return encoded("long", number)


def head(schema, codec):
    meta = {"avro.schema": json.dumps(schema).encode(), "avro.codec": codec.encode()}
    return encoded(_HEAD, {"magic": b"Obj\x01", "meta": meta, "sync": SYNC})


def block(records, packed):
    return long(records) + long(len(packed)) + packed + SYNC


def write(path, schema, codec, blocks):
    """Writes blocks of (number of records, content, or None and how it is packed)."""
    with open(path, "wb") as file:
        file.write(head(schema, codec))
        for records, content, packed in blocks:
            file.write(block(records, PACK[codec](content) if packed is None else packed))
