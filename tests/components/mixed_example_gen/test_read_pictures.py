"""Pictures beside the records: they take the place of their paths, and no path leads out."""

import json
import os

import builders as build
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from branchline.components.mixed_example_gen.declared import declared_by, read_declared
from branchline.components.mixed_example_gen.find_files import (
    RecordFile,
    find_files,
    fingerprint_of,
)
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.schemas import Image, Route, RoutingTable, when

TABLE = RoutingTable(
    Route(
        "scan",
        when.present("scan"),
        features={"scan": Image(2, 2, stored="path")},
        label="y",
        task="binary",
    )
)
DECLARED = read_declared(declared_by(TABLE, None))
INSIDE = {"scans/a.png": b"\x89PNG a", "b.jpg": b"\xff\xd8 b", "scans/é ü.bmp": b"BM c"}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "records"
    (folder / "scans").mkdir(parents=True)
    for name, content in INSIDE.items():
        (folder / name).write_bytes(content)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "scans" / "empty.png").write_bytes(b"")
    return folder


OUTSIDE = [
    "../secret.png",
    "scans/../../secret.png",
    "link.png",
    "/etc/hostname",
    "file:///etc/hostname",
    "s3://bucket/x.png",
    "scans",
    "scans/absent.png",
    "scans/empty.png",
    "a\x00b.png",
    ".",
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_picture_takes_the_place_of_its_path_and_no_path_leads_out(folder, form):
    paths = [*INSIDE, "./scans/../b.jpg", *OUTSIDE]
    rows = [{"scan": path, "y": 1, "note": "n"} for path in paths]
    file = folder / f"r.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        build.write_jsonl(file, rows)
    found = list(read_records(RecordFile(str(file), form), DECLARED))
    assert len(found) == len(paths)  # none is lost
    for path, parsed in zip(paths, found, strict=True):
        if path in OUTSIDE:
            assert (parsed.record, parsed.reason) == (None, "picture_missing"), path
            assert path[:9] in parsed.detail
            assert json.loads(parsed.raw)["scan"] == path  # as it came
        else:
            content = INSIDE[os.path.normpath(path)]
            assert parsed.record == {"scan": [content], "y": [1], "note": ["n"]}


def test_a_number_is_no_path(folder):
    build.write_jsonl(folder / "r.jsonl", [{"scan": 5, "y": 1}, {"y": 1}, {"scan": None}])
    number, *absent = read_records(RecordFile(str(folder / "r.jsonl"), "jsonl"), DECLARED)
    assert (number.reason, number.record) == ("wrong_type", None)
    assert [parsed.record for parsed in absent] == [
        {"y": [1]},
        {},
    ]  # the Router says what is missing


def test_a_changed_picture_is_other_data_and_no_file_of_records(folder):
    build.write_jsonl(folder / "r.jsonl", [{"scan": "b.jpg", "y": 1}])
    before = fingerprint_of([str(folder)])
    assert fingerprint_of([str(folder)]) == before
    (folder / "b.jpg").write_bytes(b"\xff\xd8 another")
    assert fingerprint_of([str(folder)]) != before
    files, others = find_files([str(folder)])
    assert [os.path.basename(file.path) for file in files] == ["r.jsonl"]
    assert others == []
