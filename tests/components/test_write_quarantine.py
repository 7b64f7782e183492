"""A quarantine holds all lines, some of each reason as samples, and the sums of the counts."""

import apache_beam as beam
import builders as build
import pyarrow.parquet
import pytest
from apache_beam.testing.test_pipeline import TestPipeline

from branchline.components import write_quarantine
from branchline.components.quarantine import count


def line(number, reason):
    record = b"%04d" % number
    return {
        "record": record,
        "reason": reason,
        "detail": "d",
        "source": "f",
        "offset": number,
        "byte": 0,
    }


def write(folder, lines, counts):
    with TestPipeline() as pipeline:
        _ = {
            "lines": pipeline | "Lines" >> beam.Create(lines),
            "counts": pipeline | "Counts" >> beam.Create(counts),
            "files": pipeline | "Files" >> beam.Create([]),
        } | write_quarantine.WriteQuarantine(str(folder), "Step")
    return build.read_quarantine(folder)


@pytest.mark.parametrize("limit", ["_MOST_ROWS", "_MOST_BYTES"])
def test_lines_are_written_some_at_a_time_and_all_of_them(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(write_quarantine, limit, 10)
    wanted = [line(number, "odd" if number % 2 else "even") for number in range(50)]
    found, counts = write(tmp_path, wanted, [count("in", number=40), count("in", number=10)])
    rows = sorted(found, key=lambda row: row["offset"])
    assert rows == [each | {"component": "Step"} for each in wanted]
    assert (counts["in"], counts["written"]) == (50, {"quarantine": 50})
    samples = {
        reason: [row["offset"] for row in rows] for reason, rows in counts["samples"].items()
    }
    assert samples == {"even": [0, 2, 4, 6, 8], "odd": [1, 3, 5, 7, 9]}
    (path,) = tmp_path.glob("records-*.parquet")
    assert pyarrow.parquet.ParquetFile(path).num_row_groups > 4


def test_a_quarantine_of_nothing_is_one_file_without_rows(tmp_path):
    lines, counts = write(tmp_path, [], [count("in", number=3)])
    assert lines == []
    assert counts == {"in": 3, "out": {}, "quarantined": {}, "samples": {}}
    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == ["counts.json", "records-00000-of-00001.parquet"]
