"""Files of tables, as their own libraries write them, and what is left of damaged ones."""

import bz2
import datetime
import decimal
import gzip
import json
from typing import Any

import builders as build
import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from branchline.components.mixed_example_gen import open_file
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.mixed_example_gen.ingest import EXAMPLES, ReadRecords, read_records
from branchline.components.mixed_example_gen.ranges import Range
from branchline.components.mixed_example_gen.split_records import choose_split
from branchline.schemas import BranchlineError

RECORDS = [
    {"id": i, "x": i / 4, "t": f"ä{i}", "l": [i, i + 1], "s": {"u": {"v": f"n{i}"}}, "b": i > 2}
    for i in range(5)
] + [{"id": 5, "x": None, "t": "", "l": [], "s": None, "b": None}]
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "x", "type": ["null", "double"]},
        {"name": "t", "type": "string"},
        {"name": "l", "type": {"type": "array", "items": "long"}},
        {
            "name": "s",
            "type": ["null", {"type": "map", "values": {"type": "map", "values": "string"}}],
        },
        {"name": "b", "type": ["null", "boolean"]},
    ],
}
SCHEMA = pa.schema(
    [
        ("id", pa.int32()),
        ("x", pa.float64()),
        ("t", pa.string()),
        ("l", pa.list_(pa.int64())),
        ("s", pa.struct([("u", pa.map_(pa.string(), pa.string()))])),
        ("b", pa.bool_()),
    ]
)


def write_jsonl(path, records):
    path.write_bytes(as_lines(records))


def as_lines(records):
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def write_parquet(path, records):
    rows = [r | {"s": r["s"] and {"u": list(r["s"]["u"].items())}} for r in records]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def write_avro(path, records):
    with path.open("wb") as file:
        fastavro.writer(file, AVRO, records, codec="deflate", sync_interval=200)


def write_tfrecord(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            one = {
                "id": build.feature([record["id"]]),
                "t": build.feature([record["t"].encode()]),
                "l": build.feature(record["l"]),
            }
            example = tf.train.Example(features=tf.train.Features(feature=one))
            writer.write(example.SerializeToString())


def read(*paths, text_keys=()):
    files, _ = find_files([str(path) for path in paths])
    return [
        parsed
        for file in files
        for parsed in read_records(file, Declared(texts=frozenset(text_keys)))
    ]


def records_of(path):
    return [parsed.record for parsed in read(path)]


def test_the_same_records_give_the_same_examples_and_splits_in_every_format(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", RECORDS)
    write_parquet(tmp_path / "a.parquet", RECORDS)
    write_avro(tmp_path / "a.avro", RECORDS)
    want = [p.record for p in read(tmp_path / "a.jsonl")]
    assert want[3] == {"id": [3], "x": [0.75], "t": ["ä3"], "l": [3, 4], "s.u.v": ["n3"], "b": [1]}
    assert want[5] == {"id": [5]}  # D13
    for name in ("a.parquet", "a.avro"):
        parsed = read(tmp_path / name)
        assert [p.offset for p in parsed] == [1, 2, 3, 4, 5, 6]
        assert [p.record for p in parsed] == want
        for p, record, line in zip(parsed, want, RECORDS, strict=True):
            assert json.loads(p.raw) == line
            same = [encode_example(r, "f", 1) for r in (p.record, record)]
            assert same[0] == same[1]
            types = [[type(v) for values in r.values() for v in values] for r in (p.record, record)]
            assert types[0] == types[1]


def test_an_examples_values_stay_as_they_are_and_empty_lists_are_absent(tmp_path):
    write_tfrecord(tmp_path / "a.tfrecord", RECORDS)
    write_tfrecord(tmp_path / "b.tfrecords.gz", RECORDS, "GZIP")
    parsed = read(tmp_path / "a.tfrecord")
    assert [p.record for p in parsed] == records_of(tmp_path / "b.tfrecords.gz")
    assert parsed[5].record == {"id": [5]}
    assert parsed[0].record == {"id": [0], "t": ["ä0".encode()], "l": [0, 1]}
    example = build.read_example(encode_example(parsed[0].record, "f", 1))
    assert example["t"] == ("string", ["ä0".encode()])
    splits = {"train": 1, "eval": 1}
    texts = [{"t": [f"ä{i}"]} for i in range(20)]
    in_bytes = [{"t": [f"ä{i}".encode()]} for i in range(20)]
    assert [choose_split(r, splits) for r in texts] == [choose_split(r, splits) for r in in_bytes]


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [("1.50", 1.5, "1.50"), ("3", 3, "3"), ("3.00", 3.0, "3.00"), (f"{2**70}", None, f"{2**70}")],
    ids=["D12-fraction", "D12-whole", "D12-zeros", "D6-long"],
)
def test_a_decimal_is_a_number_where_one_is_read_and_else_its_text(tmp_path, value, number, text):
    cells = pa.array([decimal.Decimal(value)])
    pq.write_table(pa.table({"x": cells}), tmp_path / "a.parquet")
    (file,), _ = find_files([str(tmp_path)])
    (as_number,) = read_records(file, Declared(numbers=frozenset("x")))
    if number is None:
        assert as_number.reason == "number_too_large"
    else:
        assert as_number.record == {"x": [number]}
        assert type(as_number.record["x"][0]) is type(number)
    for declared in (Declared(texts=frozenset("x")), Declared()):
        (parsed,) = read_records(file, declared)
        assert parsed.record == {"x": [text]} and json.loads(parsed.raw) == {"x": text}


def test_what_is_no_example_is_set_aside_and_the_next_is_read(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(b"\xff\xff")
        writer.write(tf.train.Example().SerializeToString() or b"")
    bad, empty = read(tmp_path / "a.tfrecord")
    assert (bad.offset, bad.reason) == (1, "malformed_example")
    assert bad.raw == b"\xff\xff"
    assert empty.record == {}


NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 500000)
CELLS = {
    "timestamp": (pa.array([NOON]), ["2024-02-29T12:00:00.500000"]),
    "utc": (pa.array([NOON], pa.timestamp("ms", "UTC")), ["2024-02-29T12:00:00.500000+00:00"]),
    "nanoseconds": (pa.array([1], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001"]),
    "date": (pa.array([NOON.date()]), ["2024-02-29"]),
    "time": (pa.array([NOON.time()]), ["12:00:00.500000"]),
    "duration": (pa.array([datetime.timedelta(minutes=1.5)]), [90.0]),
    "decimal": (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
    "bytes": (pa.array([b"\xff\x00"]), [b"\xff\x00"]),
    "category": (pa.array(["a"]).dictionary_encode(), ["a"]),
    "float32": (pa.array(np.array([0.5], "float32")), [0.5]),
    "nested-list": (pa.array([[[1], [2, 3]]]), [1, 2, 3]),
    "null": (pa.array([None], pa.int64()), None),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), "number_too_large"),
    "objects": (pa.array([[{"a": 1}]]), "wrong_type"),
    "not-utf8": (pa.array([b"\xff"]).view(pa.string()), "invalid_utf8"),
    "year-30000": (pa.array([2**40], pa.timestamp("s")), "wrong_type"),
}


@pytest.mark.parametrize(("cells", "want"), CELLS.values(), ids=CELLS)
def test_a_parquet_cell_becomes_text_number_or_bytes_or_says_why_not(tmp_path, cells, want):
    pq.write_table(pa.table({"id": [7], "a": cells}), tmp_path / "a.parquet", version="2.6")
    (parsed,) = read(tmp_path / "a.parquet")
    assert json.loads(parsed.raw)["id"] == 7
    if isinstance(want, str):
        assert (parsed.record, parsed.reason) == (None, want) and parsed.detail.startswith("a: ")
    else:
        assert parsed.record == {"id": [7]} | ({} if want is None else {"a": want})


def test_one_cell_that_python_cannot_hold_costs_its_row_alone(tmp_path):
    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"t": texts}), tmp_path / "a.parquet")
    assert [p.record for p in read(tmp_path / "a.parquet")] == [{"t": ["a"]}, None, {"t": ["c"]}]


def test_avro_texts_that_are_not_utf8_cost_their_row_alone(tmp_path):
    schema: Any = {"type": "record", "name": "r", "fields": [{"name": "t", "type": "bytes"}]}
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, [{"t": b"a"}, {"t": b"\xff"}, {"t": b"c"}])
    content = (tmp_path / "a.avro").read_bytes()
    (tmp_path / "a.avro").write_bytes(
        content.replace(b'"bytes"', b'"string"').replace(
            len_of_schema(content), len_of_schema(content, 1)
        )
    )
    assert [p.reason for p in read(tmp_path / "a.avro")] == ["", "invalid_utf8", ""]


def len_of_schema(content, more=0):
    """The key of the schema in the head, and its length as Avro writes a long below 8192."""
    begin = content.index(b"avro.schema") + len(b"avro.schema")
    length = ((content[begin] & 127) | (content[begin + 1] << 7)) // 2 + more
    zigzag = 2 * length
    return b"avro.schema" + bytes([zigzag & 127 | 128, zigzag >> 7])


def test_a_column_that_is_there_twice_is_one_clear_error(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(BranchlineError, match="a.parquet: got the column a more than once"):
        read(tmp_path / "a.parquet")


MANY = [RECORDS[i % 5] | {"id": i, "t": f"{i * 7919}"} for i in range(3000)]


def compressed(compress):
    return lambda path, records: path.write_bytes(compress(as_lines(records)))


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


WRITERS = {
    "a.jsonl.gz": compressed(gzip.compress),
    "a.jsonl.bz2": compressed(lambda content: bz2.compress(content, 1)),
    "a.jsonl.zst": compressed(zstd),
    "a.parquet": write_parquet,
    "a.avro": write_avro,
    "a.tfrecord": write_tfrecord,
}


@pytest.mark.parametrize("name", WRITERS)
def test_of_a_file_that_is_cut_off_the_good_part_is_kept_and_the_rest_set_aside(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, MANY)
    want = records_of(path)
    assert len(want) == len(MANY)
    content = path.read_bytes()
    for share in (0.97, 0.51):  # a TFRecord cut between two records is a shorter one
        path.write_bytes(content[: int(len(content) * share)])
        *good, rest = read(path)
        assert [p.record for p in good] == want[: len(good)] and len(good) < len(want)
        assert (rest.record, rest.reason) == (None, "unreadable_rest")
        assert rest.offset == (len(good) + 1 if good else 0) and name in rest.detail
        if name in ("a.jsonl.gz", "a.avro", "a.tfrecord"):  # the others are of one or few blocks
            assert len(good) > share * len(want) * 0.8


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz"])
def test_of_a_csv_that_is_cut_off_the_last_part_of_a_line_is_no_row(tmp_path, name):
    rows = "".join(f"{i},{i * 7919}\n" for i in range(3000))
    content = gzip.compress(f"a,b\n{rows}".replace(",", "\t" if ".tsv" in name else ",").encode())
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    *good, rest = read(tmp_path / name)
    assert len(good) > 1000
    assert [p.record for p in good] == [{"a": [i], "b": [i * 7919]} for i in range(len(good))]
    assert (rest.offset, rest.reason) == (len(good) + 2, "unreadable_rest")


def test_of_parquet_with_a_damaged_page_the_batches_before_are_kept(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": range(5000)}), path, row_group_size=1024)
    content = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset
    content[at : at + 60] = b"\xff" * 60
    path.write_bytes(content)
    *good, rest = read(path)
    assert [p.record for p in good] == [{"id": [i]} for i in range(3 * 1024)]
    assert (rest.offset, rest.reason) == (3 * 1024 + 1, "unreadable_rest")


@pytest.mark.parametrize("name", ["a.parquet", "a.avro", "a.jsonl.gz", "a.csv.bz2", "a.tsv.zst"])
def test_a_file_that_is_of_another_kind_is_one_line_of_the_quarantine(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"a": 1}\n')
    (one,) = read(tmp_path / name)
    assert (one.offset, one.record, one.reason) == (0, None, "unreadable_rest")
    assert one.detail.startswith(f"{name} cannot be read: ")


ALL = ("jsonl", "json.gz", "csv", "tsv.bz2", "jsonl.zst", "parquet", "avro", "tfrecord.gz")


@pytest.mark.parametrize("suffix", ALL, ids="D3-{}".format)
def test_a_file_of_no_bytes_holds_no_records(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(b"")
    assert read(tmp_path) == []


def test_a_table_of_no_rows_holds_no_records(tmp_path):
    write_parquet(tmp_path / "D3.parquet", [])
    write_avro(tmp_path / "D3.avro", [])
    assert read(tmp_path) == []


def test_a_failure_of_the_storage_is_an_error_and_no_damage(tmp_path, monkeypatch):
    write_parquet(tmp_path / "a.parquet", MANY)
    write_jsonl(tmp_path / "a.jsonl", MANY)
    with (
        pytest.raises(BranchlineError, match="gone.avro: cannot be read"),
        open_file.opened(f"{tmp_path}/gone.avro"),
    ):
        pass

    class Broken(open_file._Storage):
        def tell(self):
            self._file.close()  # and so the next read fails
            return 0

    monkeypatch.setattr(open_file, "_Storage", Broken)
    for name in ("a.parquet", "a.jsonl"):
        with pytest.raises(BranchlineError, match=f"{name}: cannot be read: .*closed"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("kind=meter", ["meter"]), ("kind=7", [7]), ("kind=007", ["007"]), ("kind=a%20b", ["a b"])],
)
def test_a_partition_folder_gives_its_field_to_every_record(tmp_path, folder, kind):
    (tmp_path / folder).mkdir()
    write_parquet(tmp_path / folder / "part.parquet", RECORDS)
    write_jsonl(tmp_path / folder / "part.jsonl", [{"kind": "own"}, {"kind": None}, {}])
    assert [p.record["kind"] for p in read(tmp_path)] == [["own"], kind, kind] + [kind] * 6
    assert [p.record["kind"] for p in read(tmp_path, text_keys=["kind"])][1] == [
        kind[0] if isinstance(kind[0], str) else str(kind[0])
    ]


def test_a_partition_that_no_record_can_hold_sets_its_records_aside(tmp_path):
    (tmp_path / f"id={10**30}").mkdir()
    write_jsonl(tmp_path / f"id={10**30}" / "a.jsonl", [{"a": 1}])
    (parsed,) = read(tmp_path)
    assert (parsed.reason, parsed.raw) == ("number_too_large", b'{"a": 1}')
    assert parsed.detail.startswith("the folder's field id: ")


def test_a_folder_of_all_formats_gives_all_records(tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name, RECORDS)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.csv").write_text("id,t\n1,x\n2,y\n")
    (tmp_path / "deep" / "a.tsv.gz").write_bytes(gzip.compress(b"id\tt\n1\tx,y\n"))
    for name in ("_SUCCESS", "deep/empty.csv", "deep/.a.csv.crc"):  # D3, D10
        (tmp_path / name).write_bytes(b"")
    files, others = find_files([str(tmp_path)])
    assert len(files) == len(WRITERS) + 3 and not others
    reader = ReadRecords({"train": 4, "eval": 1}, None, Declared())
    tagged = [each for file in files for each in reader.process(Range(file))]
    examples = [one for each in tagged if each.tag == EXAMPLES for one in each.value[1]]
    assert len(examples) == len(WRITERS) * len(RECORDS) + 2 + 1
    assert sum(each.value[1] for each in tagged if each.value[0] == "in") == len(examples)
