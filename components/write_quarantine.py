"""Writes what a Beam step set aside, and the counts of what went in and came out."""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow
import pyarrow.parquet

from branchline.components.files import storage
from branchline.components.files.count_records import count_examples, count_rows
from branchline.components.files.write_files import FileSink, WriteFiles, finish
from branchline.components.quarantine import count

_TEXTS = ("reason", "detail", "source")
_NUM_SAMPLES = 5
_SAMPLE_BYTES = 300
_MOST_ROWS, _MOST_BYTES = 1000, 16 << 20  # that are written at a time
SCHEMA = pyarrow.schema(
    [
        ("record", pyarrow.binary()),
        ("reason", pyarrow.string()),
        ("detail", pyarrow.string()),
        ("source", pyarrow.string()),
        ("offset", pyarrow.int64()),
        ("byte", pyarrow.int64()),
        ("component", pyarrow.string()),
    ]
)


class WriteQuarantine(beam.PTransform):
    """Writes `records-*.parquet` and `counts.json` (see `artifacts.Quarantine`) into `folder`.

    Takes a dict of three collections: "lines", dicts of the columns of `SCHEMA` but for the
    component, "counts", made by `quarantine.count`, at least one, and "files", (split, path) of
    each file of examples.
    """

    def __init__(self, folder: str, component: str) -> None:
        super().__init__()
        self._folder, self._component = folder, component

    def expand(self, input_or_inputs: dict[str, beam.PCollection]) -> Any:
        """Adds the writes to the pipeline."""
        folder = self._folder
        rows = input_or_inputs["lines"] | "ToRow" >> beam.Map(_to_row, self._component)
        written = (
            rows
            | "AsOne" >> beam.Map(lambda row: ("", row))
            | "Write" >> WriteFiles(folder, _name_file, _RowSink)
            | "CountRows" >> beam.MapTuple(_count_rows)
        )
        counted = input_or_inputs["files"] | "CountExamples" >> beam.MapTuple(_count_examples)
        samples: Any = (
            rows
            | "ByReason" >> beam.Map(lambda row: (row["reason"], row))
            | "Sample" >> beam.combiners.Top.SmallestPerKey(_NUM_SAMPLES, key=_place)
        )
        sums = (
            [input_or_inputs["counts"], written, counted]
            | "AllCounts" >> beam.Flatten()
            | "Sum" >> beam.CombinePerKey(sum)  # pyright: ignore[reportArgumentType]
        )
        return (
            [sums, samples]
            | "Told" >> beam.Flatten()
            | "Together" >> beam.Map(lambda pair: ("", pair))
            | "Group" >> beam.GroupByKey()
            | "WriteCounts" >> beam.Map(lambda group: _write_counts(group[1], folder))
        )


def _name_file(_: str, shard: int, total: int) -> str:
    return f"records-{shard:05d}-of-{total:05d}.parquet"


class _RowSink(FileSink):
    """Writes rows as Parquet, some at a time."""

    def open(self, fh: BinaryIO) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(fh, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def write(self, record: tuple[str, dict[str, Any]]) -> None:
        self._rows.append(record[1])
        self._bytes += len(record[1]["record"])
        if len(self._rows) == _MOST_ROWS or self._bytes > _MOST_BYTES:
            self._write_rows()

    def flush(self) -> None:
        self._write_rows()
        self._writer.close()

    def _write_rows(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, SCHEMA))
        self._rows, self._bytes = [], 0


def _count_rows(_: str, path: str) -> tuple[str, int]:
    return count("written", "quarantine", number=count_rows(path))


def _count_examples(split: str, path: str) -> tuple[str, int]:
    return count("written", "examples", split, number=count_examples(path))


def _to_row(line: dict[str, Any], component: str) -> dict[str, Any]:
    unicode = {key: value and as_text(value) for key, value in line.items() if key in _TEXTS}
    return line | unicode | {"component": component}


def as_text(value: bytes | str) -> str:
    r"""A text that any program can show: bytes that are not UTF-8 as `\xNN`.

    >>> as_text(b"caf\xe9")
    'caf\\xe9'
    """
    value = value.encode(errors="backslashreplace") if isinstance(value, str) else value
    return value.decode(errors="backslashreplace")


def _place(line: dict[str, Any]) -> tuple[str, int]:
    return (line["source"] or "", line["offset"] or 0)


def _write_counts(told: Iterable[tuple[str, int | list]], folder: str) -> None:
    """Writes the sums of counts, and the lists of samples of each reason."""
    written: dict[str, Any] = {"in": 0, "out": {}, "quarantined": {}, "samples": {}}
    told = list(told)
    counts = {key: each for key, each in told if not isinstance(each, list)}
    samples = {reason: each for reason, each in told if isinstance(each, list)}
    finish(folder, [] if samples else [_name_file("", 0, 1)], _RowSink)
    for key, number in sorted(counts.items()):
        *path, last = key.split("/")
        place = written
        for name in path:
            place = place.setdefault(name, {})
        place[last] = number
    for reason, lines in sorted(samples.items()):
        short = [line | {"record": as_text(line["record"][:_SAMPLE_BYTES])} for line in lines]
        written["samples"][reason] = short
    storage.write_bytes(f"{folder}/counts.json", json.dumps(written, indent=1).encode())
