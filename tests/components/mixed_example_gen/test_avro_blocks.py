"""Blocks of Avro: each codec is read, one that is damaged or too large costs itself alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import avro_files
import fastavro
import pytest
import read_bombs

from branchline.components.mixed_example_gen import avro_blocks, avro_schema
from branchline.components.mixed_example_gen.avro_schema import measure
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.schemas import BranchlineError

TEXTS = {"type": "record", "name": "r", "fields": [{"name": "t", "type": "string"}]}


def read(path):
    return list(read_records(RecordFile(str(path), "avro"), Declared()))


def texts(*values):
    return len(values), b"".join(avro_files.encoded("string", value) for value in values), None


def told(path):
    return [(each.offset, each.record and each.record["t"][0], each.reason) for each in read(path)]


@pytest.mark.parametrize("codec", avro_files.PACK)
def test_blocks_of_every_codec_are_read(tmp_path, codec):
    path = tmp_path / "a.avro"
    avro_files.write(path, TEXTS, codec, [texts("é" * 5000, "b"), texts(), texts("c")])
    assert told(path) == [(1, "é" * 5000, ""), (2, "b", ""), (3, "c", "")]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_files_that_fastavro_writes_are_read(tmp_path, codec):
    path, rows = tmp_path / "a.avro", [{"t": f"text {number}"} for number in range(3000)]
    with path.open("wb") as file:
        fastavro.writer(file, TEXTS, rows, codec, sync_interval=500)
    assert [each.record for each in read(path)] == [{"t": [row["t"]]} for row in rows]


def test_a_codec_that_nobody_knows_is_an_error_and_no_damage(tmp_path):
    content = avro_files.head(TEXTS, "zip77")
    (tmp_path / "a.avro").write_bytes(content)
    with pytest.raises(BranchlineError, match=r"a.avro: cannot be read here: .* 'zip77', expected"):
        read(tmp_path / "a.avro")


@pytest.mark.parametrize("codec", avro_files.PACK)
def test_a_block_that_is_too_large_is_set_aside_and_the_next_one_is_read(
    tmp_path, monkeypatch, codec
):
    for module in (avro_blocks, avro_schema):
        monkeypatch.setattr(module, "LARGEST_BLOCK", 10_000)
    path = tmp_path / "a.avro"
    blocks = [texts("a", "b"), texts("x" * 9_990), texts("x", "y" * 9_999), texts("c")]
    avro_files.write(path, TEXTS, codec, blocks)
    if codec == "xz":  # has a memory of its own, of which the limit is to be larger than this one
        monkeypatch.setattr(avro_blocks, "LARGEST_BLOCK", 1 << 27)
    *good, bomb, last = read(path)
    assert [each.offset for each in good] == [1, 2, 3] and all(each.record for each in good)
    assert (bomb.offset, bomb.reason, bomb.raw) == (4, "unreadable_block", b"")
    assert path.read_bytes()[bomb.byte :].startswith(avro_files.long(2))
    assert f"2 of the 2 records of the block at byte {bomb.byte} of a.avro, " in bomb.detail
    assert "unpacks to more than 10000 bytes, the most; write the file with" in bomb.detail
    assert (last.offset, last.record) == (6, {"t": ["c"]})


@pytest.mark.parametrize(
    ("damaged", "lost"),
    {
        "a record": ((3, b"\x02a\x7f\x02c", None), 2),
        "too many bytes": ((1, b"\x02a\x02b", None), 0),
        "too few": ((3, b"\x02a", None), 2),
        "its packing": ((1, None, b"\xff" * 20), 1),
    }.values(),
    ids=lambda value: "" if isinstance(value, int) else None,
)
@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "zstandard", "bzip2", "xz", "lz4"])
def test_a_damaged_block_costs_itself_alone(tmp_path, codec, damaged, lost):
    path = tmp_path / "a.avro"
    avro_files.write(path, TEXTS, codec, [texts("x"), damaged, texts("z")])
    first, *of_block, last = read(path)
    assert (first.record, last.record) == ({"t": ["x"]}, {"t": ["z"]})
    assert of_block[-1].reason == "unreadable_block"
    assert f"{lost} of the {damaged[0]} records of the block at byte" in of_block[-1].detail
    assert last.offset == 2 + damaged[0]
    assert [each.offset for each in of_block] == list(range(2, 2 + len(of_block)))


@pytest.mark.parametrize(
    "rest",
    [
        avro_files.long(-1) + avro_files.long(0) + avro_files.SYNC,
        avro_files.long(2**62) + avro_files.long(0) + avro_files.SYNC,
        avro_files.long(1) + avro_files.long(-5) + avro_files.SYNC,
        avro_files.long(1) + avro_files.long(2**62),
        b"\xff" * 12,
        avro_files.block(1, b"\x02b")[:-3],
    ],
)
def test_where_nothing_tells_where_the_next_block_begins_the_rest_is_set_aside(tmp_path, rest):
    path = tmp_path / "a.avro"
    avro_files.write(path, TEXTS, "null", [texts("a")])
    path.write_bytes(path.read_bytes() + rest)
    first, *_, last = read(path)
    assert first.record == {"t": ["a"]} and last.reason == "unreadable_rest"


def test_a_head_without_an_end_takes_no_memory(tmp_path):
    huge = b"Obj\x01" + avro_files.long(1) + b"\x02a" + avro_files.long(2**50)
    (tmp_path / "a.avro").write_bytes(huge)
    (one,) = read(tmp_path / "a.avro")
    assert (one.offset, one.reason) == (0, "unreadable_rest")
    assert "the head of the file has more than" in one.detail


def test_records_of_no_bytes_are_no_bomb(tmp_path):
    nothing = {"type": "record", "name": "r", "fields": []}
    blocks = [(3, b"", None), (2**26, b"", None)]
    avro_files.write(tmp_path / "a.avro", nothing, "null", blocks)
    *good, bomb = read(tmp_path / "a.avro")
    assert [each.record for each in good] == [{}] * 3
    assert bomb.reason == "unreadable_block" and "more records than its 0 bytes" in bomb.detail


CHAIN = {"type": "record", "name": "r", "fields": [{"name": "next", "type": ["null", "r"]}]}


def test_a_record_within_itself_a_million_times_costs_itself_and_ends_no_process(tmp_path):
    path = tmp_path / "a.avro"
    blocks = [(1, b"\2" * depth + b"\0", None) for depth in (3, 5_000, 1_000_000, 90)]
    avro_files.write(path, CHAIN, "null", blocks)
    assert [each.reason for each in read(path)] == ["", "unreadable_block", "unreadable_block", ""]


def test_a_schema_that_is_nested_without_an_end_is_set_aside(tmp_path):
    schema = "string"
    for _ in range(900):
        schema = {"type": "array", "items": schema}
    avro_files.write(tmp_path / "a.avro", TEXTS, "null", [])
    text = json.dumps(schema).replace('"string"', '"string"' + " " * 10).encode()
    content = avro_files.head(TEXTS, "null")
    old = json.dumps(TEXTS).encode()
    content = content.replace(avro_files.long(len(old)) + old, avro_files.long(len(text)) + text)
    (tmp_path / "a.avro").write_bytes(content)
    (one,) = read(tmp_path / "a.avro")
    assert one.reason == "unreadable_rest" and "nested too deeply" in one.detail


NUMBERS = {"type": "array", "items": "float"}


@pytest.mark.parametrize(
    ("items", "least"),
    {
        "numbers": ("float", 128 << 20),
        "texts": ("string", 32 << 20),
        "objects": ({**TEXTS, "fields": [{"name": "a", "type": "boolean"}]}, 4 << 20),
        "objects or null": (["null", {**TEXTS, "fields": [{"name": "a", "type": "int"}]}], 8 << 20),
        "lists of numbers": (NUMBERS, 16 << 20),
    }.values(),
    ids=["numbers", "texts", "objects", "objects or null", "lists"],
)
def test_blocks_may_be_as_large_as_what_their_lists_hold_is_small(items, least):
    for schema in ({"type": "array", "items": items}, {"type": "map", "values": items}):
        assert least <= measure(schema).most_bytes <= 128 << 20
    assert measure({"type": "array", "items": items}).most_bytes < least * 2


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """File → what was read of it, in a process that fails where it needs more memory."""
    script, root = Path(read_bombs.__file__), Path(__file__).parents[3]
    path = os.pathsep.join([str(root), *sys.path])
    done = subprocess.run(
        [sys.executable, script, tmp_path_factory.mktemp("bombs")],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-2000:]
    return {name: list(map(tuple, each)) for name, each in json.loads(done.stdout).items()}


@pytest.mark.parametrize("codec", read_bombs.PACKED)
def test_a_block_that_unpacks_to_gigabytes_is_set_aside_in_bounded_memory(bombs, codec):
    first, second, bomb, last = bombs[f"{codec}.avro"]
    assert first == (1, "", "") and second == (2, "", "") and last == (4, "", "")
    assert bomb[:2] == (3, "unreadable_block") and "unpacks to more than" in bomb[2]


def test_lists_of_what_takes_little_in_the_file_and_much_in_memory_are_set_aside(bombs):
    ((offset, reason, _),) = bombs["objects.avro"]
    assert (offset, reason) == (1, "unreadable_block")
    ((offset, reason, detail),) = bombs["nothings.avro"]
    assert (offset, reason) == (0, "unreadable_rest") and "lists or maps of what takes" in detail
    for name in ("objects", "maps"):
        first, second = bombs[f"{name}.parquet"]
        assert first[:2] == (1, "wrong_type")  # a list of one object
        assert second[:2] == (2, "record_too_large")


@pytest.mark.parametrize("codec", ["zstd", "gzip", "snappy", "brotli"])
def test_a_page_that_unpacks_to_more_than_it_says_fails_in_bounded_memory(bombs, codec):
    """Arrow believes the header of a page, takes so much memory, and fails where more comes out."""
    ((offset, reason, _),) = bombs[f"page-{codec}.parquet"]
    assert (offset, reason) == (1, "unreadable_rest")
