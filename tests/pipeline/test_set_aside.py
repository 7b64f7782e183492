"""What a run set aside becomes files of records again, as it came."""

import csv
import gzip
import json

import builders as build
import pyarrow
import pyarrow.parquet
import pytest
from tfx.types import standard_artifacts

from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen import component
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.pipeline import set_aside
from branchline.pipeline.local import main
from branchline.schemas import RecipeError


@pytest.fixture
def quarantine(tmp_path, monkeypatch):
    """What MixedExampleGen sets aside of a folder with something wrong in every file."""
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b'\xef\xbb\xbfi,"j\nk"\r\n1,2,3\r\n1,2\r\n"a\nb",1,1\r\n')
    (folder / "b.json").write_text('[{"i": 1},\n {"i": [1,\n "x"]}]')
    with gzip.open(folder / "c.jsonl.gz", "wb") as file:
        file.write(b'{"i": "\xff"}\n{"i": 3}\n{"i"\n')
    table = pyarrow.table({"i": pyarrow.array([b"a", b"\xff"]), "j": [[1], [2**62]]})
    pyarrow.parquet.write_table(table.append_column("k", [[1e300, 2.0]]), folder / "d.parquet")
    (folder / "e.tfrecord").write_bytes(b"damaged")
    aside = build.empty_artifact(Quarantine, tmp_path / "aside")
    examples = build.empty_artifact(standard_artifacts.Examples, tmp_path / "examples")
    properties = component.MixedExampleGen(str(folder)).exec_properties
    component.Executor().Do({}, {"examples": [examples], "quarantine": [aside]}, properties)
    monkeypatch.setattr(set_aside, "find_quarantines", lambda *_: [tmp_path / "aside"])
    return tmp_path / "aside"


def test_each_record_stands_where_the_reasons_say_and_reads_as_before(quarantine, tmp_path):
    number = set_aside.write_set_aside(tmp_path / "unused", tmp_path / "mended")

    lines, counts = build.read_quarantine(quarantine)
    told = list(csv.DictReader(open(tmp_path / "mended" / "_reasons.csv", newline="")))
    assert len(told) == len(lines) == sum(counts["quarantined"].values()) == 8
    assert number == 7  # of the damaged file nothing can be written
    files, others = find_files([str(tmp_path / "mended")])
    assert not others
    found = {
        (file.path.rpartition("/")[2], str(parsed.offset)): parsed.reason
        for file in files
        for parsed in read_records(file, Declared())
    }
    wanted = {(each["file"], each["line"]): each["reason"] for each in told if each["file"]}
    assert found == wanted
    assert (tmp_path / "mended" / "0001-a.csv").read_bytes() == (b'i,"j\nk"\n1,2,3\n"a\nb",1,1\n')
    assert json.loads((tmp_path / "mended" / "0002-b.jsonl").read_text()) == {"i": [1, "x"]}


def test_what_is_in_the_folder_is_not_touched(quarantine, tmp_path):
    (tmp_path / "mended").mkdir()
    (tmp_path / "mended" / "mine.txt").write_text("mine")
    with pytest.raises(RecipeError, match="where something is"):
        set_aside.write_set_aside(tmp_path / "unused", tmp_path / "mended")
    assert [path.name for path in (tmp_path / "mended").iterdir()] == ["mine.txt"]


def test_where_nothing_has_run_one_line_says_so(tmp_path, capfd):
    arguments = ["--output", str(tmp_path / "nowhere"), "--set-aside", str(tmp_path / "mended")]
    assert main(arguments) == 2
    assert "where nothing has run yet" in capfd.readouterr().err
    assert not (tmp_path / "mended").exists()


def test_a_folder_with_a_place_for_a_span_is_the_one_after_the_newest(tmp_path):
    (tmp_path / "s-07").mkdir()
    (tmp_path / "s-07" / "a.jsonl").write_text('{"i": 1}\n')
    assert set_aside.name_folder(f"{tmp_path}/s-{{SPAN:2}}") == tmp_path / "s-08"
    assert set_aside.name_folder(f"{tmp_path}/mended") == tmp_path / "mended"
