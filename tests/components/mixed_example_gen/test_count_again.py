"""What the files hold is counted once more, and a run that read another number fails."""

import bz2
import codecs
import gzip
import io
import json

import builders as build
import fastavro
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from object_store import BUCKET, object_store
from tfx.types import standard_artifacts

from branchline.components import MixedExampleGen
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen import ingest, ranges
from branchline.components.mixed_example_gen.component import Executor
from branchline.components.mixed_example_gen.count_again import Tally, check_count, count_again
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile, file_format, find_files
from branchline.components.mixed_example_gen.ingest import TALLIES, ReadRecords
from branchline.components.mixed_example_gen.plain_rows import PlainRows
from branchline.components.mixed_example_gen.ranges import Range
from branchline.schemas import BranchlineError

ROWS = [{"a": f"é{i}\n", "b": i} for i in range(7)]


def parquet(codec="snappy"):
    content = io.BytesIO()
    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, content, row_group_size=3, compression=codec)
    return content.getvalue()


def avro(codec):
    content = io.BytesIO()
    fields = [{"name": "a", "type": "string"}, {"name": "b", "type": "long"}]
    schema = {"type": "record", "name": "r", "fields": fields}
    fastavro.writer(content, fastavro.parse_schema(schema), ROWS, codec, sync_interval=10)
    return content.getvalue()


@pytest.fixture
def tfrecord(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "written")) as writer:
        for row in ROWS:
            writer.write(build.example(row))
    return (tmp_path / "written").read_bytes()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = b'a,b\n"x\n\ny",1\n\n\xef\xbb\xbfz,2\r\n\n'
FILES = {
    "a.jsonl": (LINES, 7),
    "blank.jsonl": (b"\xef\xbb\xbf\n\n" + LINES + b"  \n\t\r\n{", 8),
    "a.csv": (CSV, 2),
    "a.tsv": (CSV.replace(b",", b"\t"), 2),
    "header.csv": (b"a,b\n", 0),
    "a.parquet": (parquet(), 7),
    "a.avro": (avro("null"), 7),
    "deflate.avro": (avro("deflate"), 7),
    "none.jsonl": (b"", 0),
    "none.parquet": (b"", 0),
    "lines.json": (b"\xef\xbb\xbf\n" + LINES, 7),
    "list.json": (json.dumps([*ROWS, 1, None], indent=1).encode(), 9),
    "empty.json": (b" [ ]\n", 0),
    "object.json": (json.dumps(ROWS[0], indent=1).encode(), 1),
    "objects.json": (b"".join(json.dumps(row, indent=1).encode() for row in ROWS), None),
    "nan.json": (b'[{"a": NaN}, {"a": 1}]', None),
    "a.avro.zst": (zstandard.compress(avro("null")), 7),
    "a.jsonl.gz": (gzip.compress(LINES), 7),
    "a.csv.gz": (gzip.compress(CSV), 2),
    "a.jsonl.bz2": (bz2.compress(LINES), 7),
    "a.csv.bz2": (bz2.compress(CSV), 2),
    "two.jsonl.bz2": (bz2.compress(LINES) + bz2.compress(LINES), 14),
    "utf16.jsonl": (codecs.BOM_UTF16_LE + LINES.decode().encode("utf-16-le"), None),
}


def tally(path):
    """Reads a file whole, and gives the tally."""
    reader = ReadRecords({"all": 1}, None, Declared())
    (found,) = [
        each.value
        for each in reader.process(Range(RecordFile(str(path), file_format(str(path)) or "")))
        if each.tag == TALLIES
    ]
    return found


@pytest.mark.parametrize(("content", "number"), FILES.values(), ids=FILES)
def test_a_file_tells_how_many_records_it_holds(tmp_path, request, content, number):
    path = tmp_path / request.node.callspec.id
    path.write_bytes(content)
    assert count_again(RecordFile(str(path), file_format(str(path)) or "")) == number
    told = [("counted_again", number)] if number is not None else []
    assert list(check_count(str(path), [tally(path)[1]])) == told


def test_a_file_of_examples_does_too(tmp_path, tfrecord):
    (tmp_path / "a.tfrecord").write_bytes(tfrecord)
    assert count_again(RecordFile(str(tmp_path / "a.tfrecord"), "tfrecord")) == 7
    assert list(check_count(*_with_list(tally(tmp_path / "a.tfrecord"))))


def _with_list(pair):
    return pair[0], [pair[1]]


DAMAGED = {
    "a.csv": (b'a,b\n1,2\n"never,closed\n3,4\n', 3),
    "return.csv": (b"a,b\n1\r,2\n3,4\n", 2),
    "a.avro": (avro("null")[:-5], 8),
    "a.parquet": (parquet()[:-5], 1),
    "a.jsonl.gz": (gzip.compress(LINES)[:-5], 8),
    "a.jsonl.bz2": (bz2.compress(LINES)[:-5], 8),
}


@pytest.mark.parametrize(("content", "read"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_not_held_to_a_number(tmp_path, request, content, read):
    path = tmp_path / request.node.callspec.id
    path.write_bytes(content)
    _, told = tally(path)
    assert told == Tally(file_format(str(path)) or "", read, is_countable=False)
    assert list(check_count(str(path), [told])) == []


JSON = [
    b"[",
    b"]",
    b",",
    b'{"a": 1}',
    b'{"a"',
    b": 1}",
    b"1",
    b" ",
    b"\xff",
    b'["x"]',
    b"\xef\xbb\xbf",
]
PARTS = [b"a,b", b"1,2", b"", b" ", b'"x', b'y",3', b"\xef\xbb\xbf", b'""', b"\r", b"{}", b"\xff"]


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.sampled_from(["csv", "jsonl"]))
@example([b'"x', b'y",3', b"", b"\xef\xbb\xbf"], "csv")
@settings(deadline=None, max_examples=200)
def test_whatever_a_file_of_text_holds_both_counts_agree(tmp_path_factory, parts, kind):
    path = tmp_path_factory.mktemp("again") / f"a.{kind}"
    path.write_bytes(b"\n".join([b"a,b"] * (kind == "csv") + parts))
    for _ in check_count(*_with_list(tally(path))):
        pass


@given(st.lists(st.sampled_from(JSON), max_size=9), st.sampled_from([b"", b"\n"]))
@example([b"[", b'{"a": 1}', b",", b'["x"]', b"]"], b"\n")
@settings(deadline=None, max_examples=400)
def test_whatever_json_a_file_holds_both_counts_agree(tmp_path_factory, parts, between):
    path = tmp_path_factory.mktemp("again") / "a.json"
    path.write_bytes(between.join(parts))
    for _ in check_count(*_with_list(tally(path))):
        pass


def test_in_a_bucket_every_file_is_counted(monkeypatch):
    with object_store(monkeypatch) as client:
        for name, (content, _) in FILES.items():
            client.put_object(Bucket=BUCKET, Key=name, Body=content)
        files, _ = find_files([f"s3://{BUCKET}"])
        found = {file.path.rpartition("/")[2]: count_again(file) for file in files}
    assert found == {name: number for name, (_, number) in FILES.items()}


def run(tmp_path, folder):
    outputs = {
        "examples": [build.empty_artifact(standard_artifacts.Examples, tmp_path / "examples")],
        "quarantine": [build.empty_artifact(Quarantine, tmp_path / "aside")],
    }
    Executor().Do({}, outputs, MixedExampleGen(str(folder)).exec_properties)
    return build.read_quarantine(tmp_path / "aside")[1]


@pytest.fixture
def folder(tmp_path):
    """Files of all kinds, one of them read in ranges."""
    (tmp_path / "in").mkdir()
    for name, (content, _) in FILES.items():
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path / "in"


def test_a_run_says_how_many_of_its_records_were_counted_again(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(ranges, "RANGE_BYTES", 60)
    counts = run(tmp_path, folder)
    assert counts["counted_again"] == sum(number or 0 for _, number in FILES.values())
    assert counts["in"] == counts["counted_again"] + 2 * 7 + 2  # where FILES says None


def _without_last(some):
    return [_part(some, slice(-1))] if isinstance(some, PlainRows) else []


def _with_last_twice(some):
    return [some, _part(some, slice(-1, None)) if isinstance(some, PlainRows) else some]


def _part(rows, part):
    return rows._replace(columns={key: cells[part] for key, cells in rows.columns.items()})


@pytest.mark.parametrize("fault", ["lost", "twice"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.avro"])
def test_a_run_that_loses_a_record_of_a_file_or_doubles_it_fails(
    tmp_path, folder, monkeypatch, name, fault
):
    read_some = ingest.read_some

    def faulty(file, *arguments):
        some = list(read_some(file, *arguments))
        if file.path.endswith(f"/{name}"):
            last = some.pop()
            some += _without_last(last) if fault == "lost" else _with_last_twice(last)
        return some

    monkeypatch.setattr(ingest, "read_some", faulty)
    held = FILES[name][1]
    read = held - 1 if fault == "lost" else held + 1
    with pytest.raises(
        BranchlineError, match=f"in/{name} holds {held} records, but {read} were read"
    ):
        run(tmp_path, folder)
