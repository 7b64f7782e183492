"""Writes what the latest run set aside as files of records, to be mended and read again."""

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet

from branchline.components.mixed_example_gen.find_files import file_format
from branchline.components.mixed_example_gen.open_file import compression_of, opened
from branchline.components.mixed_example_gen.parse_csv import header_line
from branchline.components.mixed_example_gen.read_lines import Lines
from branchline.pipeline.collect_outputs import find_kept, find_latest
from branchline.schemas import BranchlineError, RecipeError

REASONS = "_reasons.csv"  # a name that is no file of records
_LINES = {"jsonl": ".jsonl", "json": ".jsonl", "csv": ".csv", "tsv": ".tsv"}
_COLUMNS = ("file", "line", "reason", "detail", "source", "offset", "component")


def name_folder(path: str) -> Path:
    """The folder that --set-aside names: with {SPAN}, the one of the span after the newest.

    Raises:
        RecipeError: It has a place for a version or a date, but none for a span.
        BranchlineError: What stands in the place of a span is no number.
    """
    folder = Path(path).expanduser()
    if "{" not in path:
        return folder
    from branchline.components.mixed_example_gen.find_spans import next_span  # imports TFX

    return Path(next_span(os.path.abspath(folder)))


def write_set_aside(metadata_path: Path, folder: Path) -> int:
    """Writes a file of records for each file that records were set aside of.

    Rows of CSV and TSV stand under the header of their file; JSON, and rows of tables, are an
    object a line. `_reasons.csv` tells of every record the file and line where it stands now, what
    was wrong with it, and where it came from. Of a rest that could not be read there is no record.

    Args:
        metadata_path: The SQLite file of the pipeline's metadata.
        folder: Is made; there must be nothing in it.

    Returns:
        How many records were written.

    Raises:
        RecipeError: There is something in the folder.
        BranchlineError: There was no run, or it set nothing aside.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"--set-aside: got {folder}, where something is; expected a new folder")
    lines = list(_lines(find_quarantines(metadata_path)))
    if not lines:
        raise BranchlineError("the latest run set nothing aside")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    by_source: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_source.setdefault(line["source"] or "", []).append(line)
    told = []
    for number, (source, of_source) in enumerate(sorted(by_source.items()), 1):
        told += _write_file(unfinished, number, source, of_source)
    with open(unfinished / REASONS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(told)
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)
    return sum(1 for line in told if line["file"])


def find_quarantines(metadata_path: Path) -> list[Path]:
    """Where the latest run's quarantines lie, also those that are kept of a step that failed."""
    return [*find_latest(metadata_path, "branchline.Quarantine"), *find_kept(metadata_path)]


def _lines(quarantines: list[Path]) -> Iterator[dict[str, Any]]:
    for quarantine in quarantines:
        for path in sorted(quarantine.glob("records-*.parquet")):
            yield from pyarrow.parquet.read_table(path).to_pylist()


def _write_file(
    folder: Path, number: int, source: str, lines: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Writes the records of one file, and yields what is told of each."""
    kind = file_format(source) or "jsonl"
    ending = _LINES.get(kind, ".jsonl")
    stem = Path(source).name
    stem = stem[: len(stem) - len(compression_of(stem))]
    name = f"{number:04d}-{Path(stem).stem or 'records'}{ending}"
    content, at = b"", 1
    if ending != ".jsonl":
        with opened(source) as file:
            delimiter = "\t" if kind == "tsv" else ","
            content = header_line(Lines(file, source), source, delimiter) + b"\n"
        at += content.count(b"\n")
    for line in sorted(lines, key=lambda line: line["offset"] or 0):
        record = line["record"]
        if ending == ".jsonl" and kind == "json":
            record = b" ".join(record.splitlines())
        if not record:
            yield line | {"file": "", "line": ""}
            continue
        yield line | {"file": name, "line": at}
        content += record + b"\n"
        at += record.count(b"\n") + 1
    if at > 1:
        (folder / name).write_bytes(content)
