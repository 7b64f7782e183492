"""DataFingerprint, the paths it shares with MixedExampleGen, and records in an object store."""

import io
import json
import os
import time

import builders as build
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import BUCKET, object_store, reach
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import standard_artifacts

from branchline.components import DataFingerprint, MixedExampleGen
from branchline.components.artifacts import Quarantine
from branchline.components.data_fingerprint.component import Executor
from branchline.components.mixed_example_gen.component import Executor as ExampleGenExecutor
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile, find_files, read_paths
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.schemas import BranchlineError, RecipeError


@pytest.fixture
def fingerprint(tmp_path):
    """Runs the executor; gives what a later step reads."""

    def run(input_base, **recipe):
        output = build.empty_artifact(standard_artifacts.String, tmp_path / "fingerprint")
        properties = DataFingerprint(input_base, **recipe).exec_properties
        Executor().Do({}, {"fingerprint": [output]}, properties)
        return (tmp_path / "fingerprint").read_text()

    return run


@pytest.fixture
def store(monkeypatch):
    with object_store(monkeypatch) as client:
        yield client


def test_d25_the_fingerprint_changes_with_the_files_and_only_with_them(tmp_path, fingerprint):
    records = tmp_path / "records"
    records.mkdir()
    build.write_jsonl(records / "a.jsonl", [{"a": 1}])
    before = fingerprint(str(records))
    assert before == fingerprint(str(records)) == fingerprint(json.dumps([str(records)]))
    (records / "notes.txt").write_text("no records")
    assert before == fingerprint(str(records))
    time.sleep(0.01)
    build.write_jsonl(records / "a.jsonl", [{"a": 2}])  # as long as before
    changed = fingerprint(str(records))
    assert changed != before
    os.utime(records / "a.jsonl")
    assert fingerprint(str(records)) != changed  # only touched: it is read again
    build.write_jsonl(records / "b.jsonl", [{"a": 2}])
    assert fingerprint(str(records)) not in (before, changed)
    (records / "a.jsonl").unlink()  # a file less
    assert fingerprint(str(records)) not in (before, changed)


def test_what_the_recipe_writes_by_itself_changes_with_the_recipe_alone(fingerprint):
    assert fingerprint("") == "recipe"


def test_what_a_recipe_reads_is_looked_at_where_it_writes_its_records(tmp_path, fingerprint):
    recipe = {"recipe_file": f"{tmp_path}/own.py", "data_inputs": ["raw", "*.map"]}
    (tmp_path / "own.py").touch()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.bin").write_bytes(b"1")
    with pytest.raises(BranchlineError, match=r"data_inputs: .*/\*\.map: there is no such file"):
        fingerprint("", **recipe)
    (tmp_path / "names.map").write_text("a")
    before = fingerprint("", **recipe)
    (tmp_path / "beside.bin").write_bytes(b"1")
    assert fingerprint("", **recipe) == before
    for name in ("raw/a.bin", "raw/b.bin", "names.map"):
        (tmp_path / name).write_bytes(b"changed")
        assert fingerprint("", **recipe) != before
        before = fingerprint("", **recipe)


def test_a_path_that_is_not_there_is_told_before_anything_runs(tmp_path, fingerprint):
    with pytest.raises(BranchlineError, match="nowhere: there is no such file or directory"):
        fingerprint(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", []),
        ("  ", []),
        ("/data/a.jsonl", ["/data/a.jsonl"]),
        (" s3://b/k \n", ["s3://b/k"]),
        ("minio://b/k", ["s3://b/k"]),
        ('["/data/a b.csv", "minio://b/k"]', ["/data/a b.csv", "s3://b/k"]),
        ('\n[ "gs://b/k" ]', ["gs://b/k"]),
        ("[ab].csv", ["[ab].csv"]),
        ("/data/[ab].csv", ["/data/[ab].csv"]),
    ],
    ids=repr,
)
def test_data_is_a_path_or_a_json_list_of_them(text, paths):
    assert read_paths(text) == paths


@pytest.mark.parametrize("text", ["[]", '["a"', '["a", 1]', '["a", ""]', "["], ids=repr)
def test_data_that_is_neither_is_told(text):
    with pytest.raises(RecipeError, match="the pipeline parameter data: got .*JSON list of paths"):
        read_paths(text)


@pytest.mark.parametrize("component", [DataFingerprint, MixedExampleGen])
def test_a_parameter_of_the_pipeline_is_handed_through(component):
    parameter = RuntimeParameter("data", ptype=str, default="")
    assert component(parameter).exec_properties["input_base"] is parameter
    with pytest.raises(RecipeError, match=f"{component.__name__}.input_base: got <class 'int'>"):
        component(RuntimeParameter("data", ptype=int, default=1))


def test_the_fingerprint_can_be_a_property_of_ingestion():
    value = DataFingerprint("/data").outputs["fingerprint"].future()[0].value
    properties = MixedExampleGen("/data", input_fingerprint=value).exec_properties
    assert properties["input_fingerprint"] is value
    assert json.loads(properties["input_base"]) == ["/data"]


def test_files_in_a_bucket_are_found_as_on_disk(store):
    for key in ("d/", "d/a.jsonl", "d/deep/", "d/deep/b.csv", "d/.part.csv", "d/no.txt", "da.csv"):
        store.put_object(Bucket=BUCKET, Key=key, Body=b"")
    inside = [f"s3://{BUCKET}/d/a.jsonl", f"s3://{BUCKET}/d/deep/b.csv"]
    for path in (f"s3://{BUCKET}/d", f"s3://{BUCKET}/d/"):
        files, others = find_files([path])
        assert [file.path for file in files] == inside
        assert others == [f"s3://{BUCKET}/d/no.txt"]
    everything = [file.path for file in find_files([f"s3://{BUCKET}"])[0]]
    assert everything == [*inside, f"s3://{BUCKET}/da.csv"]
    assert [file.path for file in find_files([f"s3://{BUCKET}/d/*.jsonl"])[0]] == inside[:1]
    assert [file.path for file in find_files(inside[:1])[0]] == inside[:1]
    hidden = f"s3://{BUCKET}/.hidden/a.jsonl"  # passed over, unless it is asked for
    store.put_object(Bucket=BUCKET, Key=".hidden/a.jsonl", Body=b"")
    assert [file.path for file in find_files([f"s3://{BUCKET}/.hidden"])[0]] == [hidden]
    assert hidden not in [file.path for file in find_files([f"s3://{BUCKET}"])[0]]
    for path in (f"s3://{BUCKET}/nothing", f"s3://{BUCKET}/d/deep/c.csv"):
        with pytest.raises(BranchlineError, match=f"{path}: there is no such file or directory"):
            find_files([path])


def test_markers_in_a_bucket_are_passed_over_and_folders_tell_fields(store):
    for key in ("t/kind=a/p.parquet", "t/_SUCCESS", "t/_delta_log/0.json", "t/kind=a/.p.crc"):
        store.put_object(Bucket=BUCKET, Key=key, Body=b"")
    root = f"s3://{BUCKET}/t"
    want = RecordFile(f"{root}/kind=a/p.parquet", "parquet", (("kind", "a"),))
    assert find_files([root]) == ([want], [])


@pytest.mark.parametrize("num_rows", [3, 0, None], ids=["rows", "D3-no-rows", "D3-no-bytes"])
def test_a_table_in_a_bucket_is_read(store, num_rows):
    content = io.BytesIO()
    if num_rows is not None:
        pq.write_table(pa.table({"id": range(num_rows)}), content)
    store.put_object(Bucket=BUCKET, Key="t/a.parquet", Body=content.getvalue())
    file = RecordFile(f"s3://{BUCKET}/t/a.parquet", "parquet")
    records = [parsed.record for parsed in read_records(file, Declared())]
    assert records == [{"id": [i]} for i in range(num_rows or 0)]


def test_the_fingerprint_of_a_bucket_changes_with_its_objects(store, fingerprint):
    store.put_object(Bucket=BUCKET, Key="d/a.jsonl", Body=b'{"a": 1}\n')
    before = fingerprint(f"minio://{BUCKET}/d")
    assert before == fingerprint(f"s3://{BUCKET}/d")
    store.put_object(Bucket=BUCKET, Key="d/a.jsonl", Body=b'{"a": 2}\n')
    assert fingerprint(f"minio://{BUCKET}/d") != before


def test_records_in_a_bucket_are_ingested(store, tmp_path):
    store.put_object(Bucket=BUCKET, Key="d/a.jsonl", Body=b'{"a": 1}\n{"a": 2}\n')
    examples = build.empty_artifact(standard_artifacts.Examples, tmp_path / "examples")
    aside = build.empty_artifact(Quarantine, tmp_path / "quarantine")
    properties = MixedExampleGen(f"minio://{BUCKET}/d", splits={"all": 1}).exec_properties
    ExampleGenExecutor().Do({}, {"examples": [examples], "quarantine": [aside]}, properties)
    rows = [build.read_example(row) for row in build.read_split(examples, "all")]
    assert sorted(row["a"][1][0] for row in rows) == [1, 2]
    assert {row["branchline.source"][1][0] for row in rows} == {f"s3://{BUCKET}/d/a.jsonl".encode()}


def test_data_in_a_store_that_lets_nobody_in_is_told(monkeypatch, fingerprint):
    reach(monkeypatch, "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(BranchlineError, match="s3://b/d: cannot be listed or read: .*--secret"):
        fingerprint("s3://b/d")


def test_a_scheme_that_no_file_system_knows_is_told(fingerprint):
    with pytest.raises(BranchlineError, match="ftp://b/d: cannot be listed or read"):
        fingerprint("ftp://b/d")
