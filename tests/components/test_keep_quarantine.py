"""What a failed step set aside stays, where TFX does not delete it."""

import json
import shutil

import builders as build
import pytest
from object_store import BUCKET, object_store
from tfx.types import standard_artifacts

from branchline.components import MixedExampleGen, keep_quarantine
from branchline.components.artifacts import Quarantine
from branchline.components.files import artifact_paths, storage
from branchline.components.keep_quarantine import kept_if_failing
from branchline.components.mixed_example_gen.component import Executor
from branchline.schemas import BranchlineError, RecipeError


def write_quarantine(folder, quarantined):
    folder.mkdir(parents=True)
    (folder / "counts.json").write_text(json.dumps({"in": 2, "quarantined": quarantined}))
    (folder / "records-00000-of-00001.parquet").write_bytes(b"rows")
    return str(folder)


def fail(uri, error=BranchlineError):
    with pytest.raises(error) as raised, kept_if_failing(uri):
        raise error("too many.")
    return str(raised.value)


def test_a_step_that_ends_well_keeps_nothing(tmp_path):
    with kept_if_failing(write_quarantine(tmp_path / "3", {"malformed_json": 1})):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


@pytest.mark.parametrize("error", [BranchlineError, RecipeError])
def test_of_a_step_that_fails_a_copy_stays_and_the_error_says_where(tmp_path, error):
    uri = write_quarantine(tmp_path / "3", {"malformed_json": 1})
    assert fail(uri, error) == f"too many. What was set aside is kept in {uri}-kept"
    shutil.rmtree(uri)  # as TFX does
    kept = tmp_path / "3-kept"
    assert (kept / "records-00000-of-00001.parquet").read_bytes() == b"rows"
    assert json.loads((kept / "counts.json").read_text())["in"] == 2


def test_where_nothing_was_set_aside_nothing_is_kept(tmp_path):
    uri = write_quarantine(tmp_path / "3", {})
    assert fail(uri) == "too many."
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_a_copy_that_fails_is_told_beside_the_error_itself(tmp_path, monkeypatch):
    uri = write_quarantine(tmp_path / "3", {"malformed_json": 1})
    (tmp_path / "3-kept.part").touch()  # where a folder would have to be
    monkeypatch.setattr(storage, "delete_tree", lambda path: None)
    told = fail(uri)
    assert told.startswith("too many. What was set aside could not be kept: ")
    assert f"{uri}-kept" in told


def test_where_outputs_lie_in_a_container_the_copy_goes_to_the_store(tmp_path, monkeypatch):
    monkeypatch.setitem(artifact_paths._FOLDERS, "s3://", f"{tmp_path}/s3/")
    uri = write_quarantine(tmp_path / "s3" / BUCKET / "run" / "quarantine", {"no_route": 1})
    with object_store(monkeypatch):
        place = f"s3://{BUCKET}/run/quarantine{keep_quarantine.KEPT}"
        assert fail(uri).endswith(f"kept in {place}")
        assert storage.read_json(f"{place}/counts.json")["in"] == 2


def test_at_its_limit_mixed_example_gen_keeps_the_records_as_they_came(tmp_path):
    build.write_jsonl(tmp_path / "a.jsonl", [{"a": 1}])
    (tmp_path / "b.jsonl").write_bytes(b'{"a": \xff}\n{"a"\n')
    outputs = {
        "examples": [build.empty_artifact(standard_artifacts.Examples, tmp_path / "examples")],
        "quarantine": [build.empty_artifact(Quarantine, tmp_path / "aside" / "7")],
    }
    properties = MixedExampleGen(str(tmp_path), quarantine_limit=0.5).exec_properties
    with pytest.raises(BranchlineError, match=r"2 of 3 records .* is kept in .*/aside/7-kept"):
        Executor().Do({}, outputs, properties)
    lines, counts = build.read_quarantine(tmp_path / "aside" / "7-kept")
    assert sorted(line["record"] for line in lines) == [b'{"a"', b'{"a": \xff}']
    assert counts["quarantined"] == {"invalid_utf8": 1, "malformed_json": 1}
