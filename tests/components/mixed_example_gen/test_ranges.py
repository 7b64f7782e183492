"""D19: a large file of lines is read in ranges, and nothing shows that it was."""

import codecs
import json

import builders as build
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tfx.types import standard_artifacts

from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen import component, ranges
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.components.mixed_example_gen.ranges import ranges_of

LINES = st.sampled_from(
    [b'{"a": 1}', b"", b"  ", b"{", b'{"a": "' + b"x" * 40 + b'"}', b'{"a": 2}\r', b"\xff"]
)


@pytest.fixture(scope="module")
def small():
    """Ranges of a few lines, read by pieces of less than one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "RANGE_BYTES", 60)
        patch.setattr(ranges, "_PIECE", 7)
        yield


@given(st.lists(LINES, max_size=30), st.sampled_from([b"", b"\n"]), st.booleans())
@example([b'{"a": 1}'] * 30, b"", True)
@settings(deadline=None, max_examples=150)
def test_the_ranges_of_a_file_hold_what_the_file_holds(tmp_path_factory, small, lines, end, mark):
    content = codecs.BOM_UTF8 * mark + b"\n".join(lines) + end
    path = tmp_path_factory.mktemp("d19") / "a.jsonl"
    path.write_bytes(content)
    file = RecordFile(str(path), "jsonl")

    parts = list(ranges_of(file, len(content)))

    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop is None
    assert all(part.lines == content[: part.start].count(b"\n") for part in parts)
    found = [
        parsed._replace(offset=parsed.offset + part.lines, byte=parsed.byte + part.start)
        for part in parts
        for parsed in read_records(file, Declared(), part.start, part.stop)
    ]
    assert found == list(read_records(file, Declared()))
    if len(content) > 150:  # the longest line and a bit more
        assert len(parts) > 1


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl.gz", "a.json", "a.parquet", "utf16.jsonl"])
def test_what_cannot_be_divided_is_read_whole(tmp_path, small, name):
    path = tmp_path / name
    path.write_bytes(codecs.BOM_UTF16_LE + b'{\0"\0a\0"\0:\0001\0}\0\n\0' * 40)
    (part,) = ranges_of(RecordFile(str(path), name.split(".")[1]), path.stat().st_size)
    assert (part.start, part.stop, part.lines) == (0, None, 0)


def ingest(root, folder):
    examples = build.empty_artifact(standard_artifacts.Examples, root / "examples")
    aside = build.empty_artifact(Quarantine, root / "aside")
    properties = component.MixedExampleGen(str(folder)).exec_properties
    component.Executor().Do({}, {"examples": [examples], "quarantine": [aside]}, properties)
    lines, counts = build.read_quarantine(root / "aside")
    rows = [sorted(build.read_split(examples, split)) for split in ("train", "eval")]
    return rows, sorted(lines, key=lambda line: line["offset"]), counts


def test_examples_and_quarantine_are_the_same_whether_a_file_is_divided_or_not(
    tmp_path, monkeypatch
):
    (tmp_path / "records").mkdir()
    rows = [json.dumps({"a": i, "t": "x" * (i % 50)}) if i % 7 else "{" for i in range(200)]
    (tmp_path / "records" / "a.jsonl").write_text("\n".join(rows))
    whole = ingest(tmp_path / "whole", tmp_path / "records")
    monkeypatch.setattr(ranges, "RANGE_BYTES", 500)
    monkeypatch.setattr(ranges, "_PIECE", 100)
    assert ingest(tmp_path / "divided", tmp_path / "records") == whole
    assert whole[2]["in"] == 200
