"""Of files that are damaged or odd in part, all that is good is read, and the rest is told."""

import bz2
import datetime
import gzip
import struct

import avro_files
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf

from branchline.components.mixed_example_gen.count_again import count_again
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile, find_files
from branchline.components.mixed_example_gen.ingest import read_records

PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda content: pyarrow.compress(content, "zstd", asbytes=True),
}
LINE = b'{"a": 1}\n'


def read(path, kind, declared=Declared()):  # noqa: B008
    return list(read_records(RecordFile(str(path), kind), declared))


def told(parsed):
    return [(each.offset, each.reason) for each in parsed]


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("lines", [3, 50_000])
def test_what_stands_behind_the_end_of_an_archive_is_told_and_costs_nothing_else(
    tmp_path, ending, lines
):
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(PACK[ending](LINE * lines) + b"garbage")
    *good, rest = read(path, "jsonl")
    assert len(good) == lines and all(each.record == {"a": [1]} for each in good)
    assert (rest.offset, rest.reason) == (lines + 1, "unreadable_rest")


@pytest.mark.parametrize("ending", PACK)
def test_archives_behind_one_another_are_one_and_a_damaged_one_is_not_taken_for_the_end(
    tmp_path, ending
):
    path, part = tmp_path / f"a.jsonl.{ending}", PACK[ending](LINE * 100)
    path.write_bytes(part * 3)
    assert len(read(path, "jsonl")) == 300
    path.write_bytes(part + b"\0\0\xff\xff" + part[4:] + part)  # its first bytes are lost
    *good, rest = read(path, "jsonl")
    assert len(good) == 100 and (rest.offset, rest.reason) == (101, "unreadable_rest")


@pytest.mark.parametrize("name", ["A.JSONL", "A.JSONL.GZ", "a.Jsonl.Bz2", "a.jsonl.ZST"])
def test_endings_are_taken_in_large_letters_too(tmp_path, name):
    pack = PACK.get(name.lower().rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(LINE * 2))
    (file,), others = find_files([str(tmp_path)])
    assert file.format == "jsonl" and not others
    assert told(read(file.path, file.format)) == [(1, ""), (2, "")]


def test_a_folder_whose_value_is_not_utf8_keeps_its_bytes(tmp_path):
    (tmp_path / "kind=a%2F%FF").mkdir()
    (tmp_path / "kind=a%2F%FF" / "a.jsonl").write_bytes(LINE)
    (file,), _ = find_files([str(tmp_path)])
    assert file.partitions == (("kind", r"a/\xff"),)


def write_tfrecord(path, *rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(row)


def example(number):
    row = tf.train.Example()
    row.features.feature["a"].int64_list.value.append(number)
    return row.SerializeToString()


def test_a_tfrecord_with_a_wrong_checksum_costs_itself_alone(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_tfrecord(path, *map(example, (1, 2, 3)))
    content = bytearray(path.read_bytes())
    content[len(content) // 3 + 12 + 5] ^= 1
    path.write_bytes(content)
    first, damaged, last = read(path, "tfrecord")
    assert (first.record, last.record) == ({"a": [1]}, {"a": [3]})
    assert (damaged.offset, damaged.reason) == (2, "malformed_example")
    assert "the checksum is wrong" in damaged.detail and len(damaged.raw) == len(example(2))
    assert count_again(RecordFile(str(path), "tfrecord")) == 3


def test_a_tfrecord_whose_length_is_damaged_leaves_a_rest(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_tfrecord(path, *map(example, (1, 2)))
    content = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    content[12 + size + 4] ^= 1
    path.write_bytes(content)
    assert told(read(path, "tfrecord")) == [(1, ""), (2, "unreadable_rest")]


def test_a_sequence_example_is_not_read_as_an_example_without_its_lists(tmp_path):
    sequence = tf.train.SequenceExample()
    sequence.context.feature["a"].int64_list.value.append(1)
    without = sequence.SerializeToString()
    sequence.feature_lists.feature_list["b"].feature.add().int64_list.value.append(1)
    path = tmp_path / "a.tfrecord"
    write_tfrecord(path, sequence.SerializeToString(), without, b"", example(2))
    parsed = read(path, "tfrecord")
    assert [each.record for each in parsed] == [None, {"a": [1]}, {}, {"a": [2]}]
    assert parsed[0].reason == "malformed_example" and "SequenceExample" in parsed[0].detail


TIMES = {
    "type": "record",
    "name": "r",
    "fields": [
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "n", "type": "int"},
    ],
}
UUID = "00000000-0000-0000-0000-000000000001"


def times(*rows):
    return b"".join(
        b"\2" + avro_files.long(at) + avro_files.encoded("string", name) + avro_files.long(n)
        for at, name, n in rows
    )


def test_a_time_that_avro_cannot_tell_costs_its_record_only_where_it_is_read(tmp_path):
    path, never = tmp_path / "a.avro", 2**63 - 1
    content = times((0, UUID, 1), (never, UUID, 2), (0, "no uuid", 3), (1000, UUID, 4))
    avro_files.write(path, TIMES, "deflate", [(4, content, None)])
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    for reads, reasons in ({"n"}, ["", ""]), ({"at", "n"}, ["wrong_type", ""]):
        first, no_time, no_uuid, last = read(path, "avro", Declared(frozenset(reads)))
        assert first.record["at"] == [epoch.isoformat()] and first.record["id"] == [UUID]
        assert [no_time.reason, no_uuid.reason] == reasons
        assert str(never).encode() in no_time.raw and b"no uuid" in no_uuid.raw
        assert last.record["n"] == [4]
    (bad,) = [each for each in read(path, "avro", Declared(frozenset(["id"]))) if each.reason]
    assert (bad.offset, bad.reason) == (3, "wrong_type")
    assert bad.detail.startswith("id: got 'no uuid': ")


def test_d3_a_parquet_file_without_a_row_group_holds_no_records(tmp_path):
    pyarrow.parquet.ParquetWriter(
        tmp_path / "a.parquet", pyarrow.schema({"a": pyarrow.int64()})
    ).close()
    assert read(tmp_path / "a.parquet", "parquet") == []


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_list_of_json_objects_without_an_end_is_told_once(tmp_path, ending, cut):
    path, content = tmp_path / f"a.json{ending}", b"[\n" + b",\n".join([LINE.strip()] * 9) + b"\n"
    packed = gzip.compress(content) if ending else content
    path.write_bytes(packed[: len(packed) - 5 * cut] if ending else packed)
    *good, rest = read(path, "json")
    assert [each.record for each in good] == [{"a": [1]}] * 9
    assert rest.reason == "unreadable_rest"
    assert ending or (rest.offset, rest.byte) == (11, len(content))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_bytes_that_are_no_utf8_cost_a_record_only_where_they_are_read(tmp_path, kind):
    lines = {"csv": [b"a,t", b"1,\xe9", b"2,\xc3\xa9"]}.get(
        kind, [b'{"a": 1, "t": "\xe9"}', b'{"a": 2, "t": "\xc3\xa9"}']
    )
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"\n".join(lines) + b"\n")
    for reads, reasons in ({"a"}, ["", ""]), ({"a", "t"}, ["invalid_utf8", ""]):
        parsed = read(path, kind, Declared(frozenset(reads)))
        assert [each.reason for each in parsed] == reasons
        assert parsed[0].raw == lines[-2] and parsed[1].record["t"] == ["é"]
