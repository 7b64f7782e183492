"""Records and files can run no code, lead nowhere else, and take no memory beyond stated limits."""

import ast
import gzip
import json
import logging
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import fastavro
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
from apache_beam.io.tfrecordio import _TFRecordUtil

from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import (
    RecordFile,
    find_files,
    fingerprint_of,
)
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.components.mixed_example_gen.limits import (
    KEPT_OF_LONGER,
    LONGEST_DETAIL,
    LONGEST_RECORD,
    MOST_KEYS,
    MOST_NESTED,
)
from branchline.schemas import (
    BranchlineError,
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    from_json,
    when,
)

X_ONLY = Declared(frozenset(["x"]))
GOOD = {"jsonl": b'{"x": 1}\n', "csv": b"1\n"}


def read(path, kind, declared=Declared()):  # noqa: B008
    return list(read_records(RecordFile(str(path), kind), declared))


class Peak:
    """How much memory Python took at most, beyond what it held before."""

    def __enter__(self):
        tracemalloc.start()
        return self

    def __exit__(self, *_):
        self.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


LONG = "x" * 2**20
REPEATED = {
    "texts": pyarrow.array([LONG] * 150 + [None, "y"]),
    "lists of texts": pyarrow.array([[LONG]] * 150 + [None, ["y"]]),
    "a dictionary": pyarrow.DictionaryArray.from_arrays([0] * 150 + [None, 1], [LONG, "y"]),
    "bytes of one width": pyarrow.array([LONG.encode()] * 150 + [None] * 2, pyarrow.binary(2**20)),
}


@pytest.mark.parametrize("column", REPEATED.values(), ids=REPEATED)
def test_a_table_that_holds_a_long_text_once_for_many_rows_stays_small(tmp_path, column):
    path = tmp_path / "bomb.parquet"
    options = {"dictionary_pagesize_limit": 2**30, "compression": "zstd"}
    pyarrow.parquet.write_table(pyarrow.table({"x": column}), path, **options)
    assert path.stat().st_size < 2**20
    before, most, read_of = pyarrow.total_allocated_bytes(), 0, []
    with Peak() as peak:
        for parsed in read_records(RecordFile(str(path), "parquet"), X_ONLY):
            most = max(most, pyarrow.total_allocated_bytes() - before)
            read_of.append([len(value) for value in parsed.record.get("x", [])])
    last = [] if pyarrow.types.is_fixed_size_binary(column.type) else [1]
    assert read_of == [[2**20]] * 150 + [[], last]
    assert most < 2**25 and peak.bytes < 2**25


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_bomb_of_one_line_is_set_aside_in_bounded_memory_and_the_next_line_is_read(
    tmp_path, kind
):
    header = b"x\n" if kind == "csv" else b""
    path = tmp_path / f"bomb.{kind}.gz"
    member = gzip.compress(b"1" * LONGEST_RECORD, 1)
    ends = gzip.compress(header + GOOD[kind]), gzip.compress(b"\n" + GOOD[kind])
    path.write_bytes(ends[0] + member * 8 + ends[1])
    assert path.stat().st_size < LONGEST_RECORD / 16
    with Peak() as peak:
        before, bomb, after = read(path, kind)
    assert before.record == after.record == {"x": [1]}
    assert (bomb.reason, bomb.offset) == ("record_too_large", before.offset + 1)
    assert after.offset == bomb.offset + 1
    assert len(bomb.raw) <= KEPT_OF_LONGER and len(bomb.detail) <= LONGEST_DETAIL
    assert peak.bytes < 4 * LONGEST_RECORD


def test_a_json_object_without_an_end_is_set_aside_in_bounded_memory(tmp_path):
    path = tmp_path / "bomb.json.gz"
    member = gzip.compress(b"x" * LONGEST_RECORD, 1)
    path.write_bytes(gzip.compress(b'[{"x": 1},\n{"y": "') + member * 8)
    with Peak() as peak:
        good, bomb = read(path, "json")
    assert good.record == {"x": [1]} and bomb.reason in ("malformed_json", "record_too_large")
    assert len(bomb.raw) <= KEPT_OF_LONGER
    assert peak.bytes < 8 * LONGEST_RECORD


def test_a_first_line_that_is_too_long_does_not_hide_the_lines_of_a_json_file(tmp_path):
    path = tmp_path / "f.json"
    path.write_bytes(b'{"y": "' + b"y" * LONGEST_RECORD + b'"}\n{"x": 1}\n')
    bomb, good = read(path, "json")
    assert (bomb.reason, bomb.offset) == ("record_too_large", 1)
    assert (good.record, good.offset) == ({"x": [1]}, 2)


def test_a_list_of_json_objects_in_one_line_may_be_longer_than_a_record(tmp_path):
    path = tmp_path / "f.json"
    text = "x" * (LONGEST_RECORD // 4)
    path.write_text(json.dumps([{"x": i, "text": text} for i in range(5)], indent=None))
    assert path.stat().st_size > LONGEST_RECORD
    assert [each.record["x"] for each in read(path, "json", X_ONLY)] == [[i] for i in range(5)]


def test_a_tfrecord_that_is_too_long_is_skipped(tmp_path):
    def framed(body):
        length = struct.pack("<Q", len(body))
        crc = [struct.pack("<I", _TFRecordUtil._masked_crc32c(part)) for part in (length, body)]
        return length + crc[0] + body + crc[1]

    good = tf.train.Example.FromString(encode_example({"x": [1]}, "f", 1))
    del good.features.feature["branchline.source"], good.features.feature["branchline.offset"]
    good = framed(good.SerializeToString())
    endless = struct.pack("<Q", 2**60)
    endless += struct.pack("<I", _TFRecordUtil._masked_crc32c(endless))
    path = tmp_path / "f.tfrecord"
    path.write_bytes(good + framed(bytes(LONGEST_RECORD + 1)) + good + endless + b"x")
    with Peak() as peak:
        parsed = read(path, "tfrecord")
    reasons = ["", "record_too_large", "", "unreadable_rest"]
    assert [(each.offset, each.reason) for each in parsed] == list(enumerate(reasons, 1))
    assert peak.bytes < 4 * LONGEST_RECORD


@pytest.mark.parametrize("keys", [MOST_KEYS, MOST_KEYS + 1, 100_000])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_record_has_a_stated_number_of_keys(tmp_path, keys, kind):
    row = {f"k{i}": i for i in range(keys)}
    path = tmp_path / f"f.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(row))
    else:
        path.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    (parsed,) = read(path, kind)
    wanted = ("", keys) if keys <= MOST_KEYS else ("record_too_large", 0)
    assert (parsed.reason, len(parsed.record or ())) == wanted


def test_a_hundred_thousand_keys_that_are_each_there_twice_take_no_time(tmp_path):
    path = tmp_path / "f.jsonl"
    pairs = ",".join(f'"k{i}":1' for i in range(100_000))
    path.write_text(f'{{{pairs},{pairs},"x":1}}')
    (parsed,) = read(path, "jsonl", X_ONLY)
    assert parsed.reason == "record_too_large"


NESTED = {
    "lists": lambda depth: b'{"x": ' + b"[" * depth + b"1" + b"]" * depth + b"}",
    "objects": lambda depth: b'{"x": ' + b'{"x":' * depth + b"1" + b"}" * depth + b"}",
}


@pytest.mark.parametrize("depth", [MOST_NESTED, 900, 100_000])
@pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_nesting_has_a_stated_limit(tmp_path, make, depth, kind):
    path = tmp_path / f"f.{kind}"
    path.write_bytes(make(depth))
    (parsed,) = read(path, kind)
    assert parsed.reason == "nested_too_deeply" and str(MOST_NESTED) in parsed.detail
    path.write_bytes(make(MOST_NESTED - 2))
    assert read(path, kind)[0].record


class Boom:
    def __reduce__(self):
        return os.mkdir, ("boom",)


CODE = [
    pickle.dumps(Boom()).decode("latin-1"),
    "__import__('os').mkdir('boom')",
    "${jndi:ldap://127.0.0.1/a}",
    "!!python/object/apply:os.mkdir [boom]",
    "{{ ''.__class__.__mro__ }}",
    "$(mkdir boom)",
    "=cmd|' /C mkdir boom'!A0",
    "../../boom",
]


@pytest.mark.parametrize("text", CODE, ids=range(len(CODE)))
def test_no_record_runs_code(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    row = {"x": text, "type": "Recipe", "__class__": "os.mkdir", "py/object": "os.mkdir"}
    (tmp_path / "in" / "f.jsonl").write_text(json.dumps(row))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "in" / "f.parquet")
    for kind in ("jsonl", "parquet"):
        (parsed,) = read(tmp_path / "in" / f"f.{kind}", kind)
        assert parsed.record == {key: [value] for key, value in row.items()}
        encode_example(parsed.record, "f", 1)
    assert os.listdir(tmp_path) == ["in"]


def test_a_schema_of_avro_or_parquet_names_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrow = pyarrow.schema(
        [pyarrow.field("x", pyarrow.int64(), metadata={"PYTHON:pickle": pickle.dumps(Boom())})],
        metadata={"pandas": "not json", "ARROW:extension:name": "arrow.py_extension_type"},
    )
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}, schema=arrow), "f.parquet")
    field = {"name": "x", "type": {"type": "long", "logicalType": "os.mkdir", "java-class": "x"}}
    with open("f.avro", "wb") as file:
        fastavro.writer(file, {"type": "record", "name": "r", "fields": [field]}, [{"x": 1}])
    for kind in ("parquet", "avro"):
        assert read(f"f.{kind}", kind)[0].record == {"x": [1]}
    assert sorted(os.listdir(tmp_path)) == ["f.avro", "f.parquet"]


@pytest.mark.parametrize("name", ["os.mkdir", "__import__", "eval", "Path", "builtins.exec"])
def test_the_json_of_a_recipe_makes_nothing_but_the_parts_of_a_recipe(name):
    with pytest.raises(BranchlineError, match="^type: got"):
        from_json(json.dumps({"type": name, "path": "boom", "mode": 1}))


@pytest.fixture
def folders(tmp_path):
    """A folder of records beside another, with links out of it."""
    inside, outside = tmp_path / "in", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.jsonl").write_bytes(GOOD["jsonl"])
    (inside / "absolute.jsonl").symlink_to(outside / "a.jsonl")
    (inside / "relative.jsonl").symlink_to("../outside/a.jsonl")
    (inside / "folder").symlink_to(outside)
    (inside / "nothing.jsonl").symlink_to("nowhere")
    (inside / "within.jsonl").symlink_to("a.jsonl")
    (inside / "itself.jsonl").symlink_to("itself.jsonl")
    os.mkfifo(inside / "pipe.jsonl")
    return tmp_path


@pytest.mark.parametrize("path", ["in", "in/*.jsonl", "in/", "link"])
def test_links_that_lead_out_of_a_folder_are_passed_over(folders, path, caplog):
    (folders / "link").symlink_to("in")
    with caplog.at_level(logging.WARNING, "branchline.progress"):
        files, _ = find_files([f"{folders}/{path}"])
    assert [os.path.basename(file.path) for file in files] == ["a.jsonl", "within.jsonl"]
    for name in ("absolute.jsonl", "relative.jsonl", "pipe.jsonl"):
        assert f"{name} is" in caplog.text
    assert fingerprint_of([f"{folders}/{path}"])


def test_a_link_that_is_named_itself_is_followed(folders):
    files, _ = find_files([str(folders / "in" / "absolute.jsonl")])
    assert [file.path for file in files] == [str(folders / "in" / "absolute.jsonl")]


NAMES = ["a..%2F..%2Fboom.jsonl", "-rf.jsonl", "a\nb.jsonl", "$(mkdir boom).jsonl", "~.jsonl"]


@pytest.mark.parametrize("name", [*map(os.fsencode, NAMES), b"\xff.jsonl"], ids=ascii)
def test_no_file_name_is_taken_for_anything_else(tmp_path, name):
    folder = tmp_path / "k=..%2F..%2Fboom"
    folder.mkdir()
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:
        file.write(GOOD["jsonl"])
    (found,), others = find_files([str(tmp_path)])
    assert os.fsencode(found.path) == os.path.join(os.fsencode(folder), name) and not others
    (parsed,) = read_records(found, Declared())
    assert parsed.record == {"k": ["../../boom"], "x": [1]}
    example = tf.train.Example.FromString(encode_example(parsed.record, found.path, 1))
    assert example.features.feature["branchline.source"].bytes_list.value[0].decode()
    assert fingerprint_of([str(tmp_path)])


OUT_OF_FOLDERS = ["..", "../x", "/etc/x", "a/b", "a\\b", "a\0b", "", "~", "a\n"]


@pytest.mark.parametrize("name", OUT_OF_FOLDERS, ids=ascii)
def test_no_name_that_becomes_a_file_leads_out_of_its_folder(name):
    def route(name):
        return Route(name, when.present("x"), features={"x": Numeric()}, label="y", task="binary")

    with pytest.raises(RecipeError):
        route(name)
    with pytest.raises(RecipeError):
        Recipe(name, RoutingTable(route("r")))


ROOT = Path(__file__).parents[3]
RUNS_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "eval", "exec"}


def test_no_component_reads_a_format_that_can_hold_code():
    files = [
        path for folder in ("components", "schemas") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    assert len(files) > 90
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, "id", None), getattr(node, "module", None)}
            names |= {each.name for each in getattr(node, "names", []) if hasattr(each, "name")}
            assert not names & RUNS_CODE, f"{path}:{getattr(node, 'lineno', 0)}"
            assert getattr(node, "arg", None) != "allow_pickle", path
