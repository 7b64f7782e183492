"""Reads files that are small and unpack to gigabytes, in a process that may not take more memory.

    python read_bombs.py FOLDER

Prints, as JSON, file → (offset, reason, detail) of each of its records, or how reading failed. The
limit is on what is taken beyond what the process holds after it read a small file.
"""

import bz2
import json
import lzma
import os
import resource
import sys
import zlib
from pathlib import Path

import avro_files
import pyarrow
import pyarrow.parquet
from measure_memory import held

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records

LIMIT = 448 << 20
ZEROS = bytes(64 << 20)


def deflated(times=32):
    """2 GiB of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * times + packer.flush()


def zstandard(times=32):
    return pyarrow.compress(ZEROS, "zstd", asbytes=True) * times


PACKED = {
    "deflate": deflated,
    "zstandard": zstandard,
    "bzip2": lambda: bz2.compress(ZEROS * 3, 1),
    "xz": lambda: lzma.compress(ZEROS * 3, preset=0),
    "snappy": lambda: b"\xff\xff\xff\xff\x07" + bytes(100),  # says that it is 2 GiB
    "lz4": lambda: b"\xff\xff\xff\x7f" + bytes(100),
}


def write_avro(folder):
    for codec, pack in PACKED.items():
        blocks = [(2, b"\x02a\x02b", None), (1, None, pack()), (1, b"\x02c", None)]
        avro_files.write(folder / f"{codec}.avro", "string", codec, blocks)
    # An array of a hundred million objects of a byte each, and of any number of nothings.
    a_byte = {"type": "record", "name": "r", "fields": [{"name": "a", "type": "boolean"}]}
    size = 100_000_000
    many = avro_files.long(size) + bytes(size + 1)
    for name, items, content in (
        ("objects", a_byte, many),
        ("nothings", "null", avro_files.long(2**60) + b"\0"),
    ):
        schema = {"type": "array", "items": items}
        avro_files.write(folder / f"{name}.avro", schema, "deflate", [(1, content, None)])


def write_parquet(folder):
    for version, codec in (("1.0", "zstd"), ("1.0", "gzip"), ("2.0", "snappy"), ("2.0", "brotli")):
        table = pyarrow.table({"a": pyarrow.array([ZEROS * 5], pyarrow.binary())})
        path = folder / f"page-{codec}.parquet"
        options = {"use_dictionary": False, "write_statistics": False, "data_page_size": 2**30}
        pyarrow.parquet.write_table(
            table, path, compression=codec, data_page_version=version, **options
        )
        content, at = bytearray(path.read_bytes()), 4 + 3  # the header begins with two numbers
        size = next(i for i in range(at, at + 6) if content[i] < 128) + 1 - at
        content[at : at + size] = varint(2 * 1000, size)  # the page says it has 1000 bytes
        path.write_bytes(content)
    flags = pyarrow.StructArray.from_arrays([pyarrow.array([True]).take([0] * 6_000_000)], ["a"])
    ends = [0, 1, 6_000_000]
    lists = pyarrow.ListArray.from_arrays(ends, flags)
    keys = pyarrow.array(["k"]).take([0] * 6_000_000)
    maps = pyarrow.ListArray.from_arrays([0, 1, 2], pyarrow.MapArray.from_arrays(ends, keys, flags))
    for name, rows in {"objects": lists, "maps": maps}.items():
        pyarrow.parquet.write_table(pyarrow.table({"a": rows}), folder / f"{name}.parquet")


def varint(value, size):
    """A number in as many bytes as are wanted."""
    parts = [value >> 7 * i & 127 for i in range(size)]
    return bytes([part | 128 for part in parts[:-1]] + parts[-1:])


def read(path):
    told = []
    try:
        for each in read_records(RecordFile(str(path), path.suffix[1:]), Declared()):
            told.append((each.offset, each.reason, each.detail))
    except BaseException as error:  # noqa: BLE001 - told to the test
        told.append((0, type(error).__name__, str(error)[-300:]))
    return told


def main():
    folder = Path(sys.argv[1])
    if os.fork() == 0:  # what writing takes is not held here
        write_avro(folder)
        write_parquet(folder)
        avro_files.write(folder / "warm.avro", "string", "deflate", [(1, b"\x02a", None)])
        pyarrow.parquet.write_table(pyarrow.table({"a": ["x"]}), folder / "warm.parquet")
        os._exit(0)
    if os.wait()[1]:
        raise SystemExit("the files could not be written")
    for warm in folder.glob("warm.*"):
        read(warm)
        warm.unlink()
    resource.setrlimit(resource.RLIMIT_DATA, (held() + LIMIT, resource.RLIM_INFINITY))
    print(json.dumps({path.name: read(path) for path in sorted(folder.iterdir())}))


if __name__ == "__main__":
    main()
