"""Finds the records again that a later step set aside, as they came: the text in their files.

An example is not what came: floats are rounded to 32 bits, what was nested is flat, what nobody
declared may be gone.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from branchline.components.files import storage
from branchline.components.mixed_example_gen.declared import read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.schemas import BranchlineError

_log = logging.getLogger(__name__)
_FILE = "sources.json"


class ReadFiles(NamedTuple):
    """The files that MixedExampleGen read, and how; no other file is ever opened.

    Attributes:
        declared: As `declared_by` gives it.
        files: Path → the file.
    """

    declared: str
    files: dict[str, RecordFile]


def write_read_files(folder: str, declared: str, files: Iterable[RecordFile]) -> None:
    """Writes down, beside the quarantine in `folder`, what was read."""
    content = {"declared": declared, "files": [list(file) for file in files]}
    storage.write_bytes(f"{folder}/{_FILE}", json.dumps(content).encode())


def read_read_files(folders: Iterable[str]) -> list[ReadFiles]:
    """Reads what `write_read_files` wrote, where it is."""
    found = []
    for folder in folders:
        if storage.exists(f"{folder}/{_FILE}"):
            content = storage.read_json(f"{folder}/{_FILE}")
            files = [
                RecordFile(path, kind, tuple((name, value) for name, value in partitions))
                for path, kind, partitions in content["files"]
            ]
            found.append(ReadFiles(content["declared"], {file.path: file for file in files}))
    return found


class AsItCame(beam.PTransform):
    """Puts into the lines of a quarantine the text of their records, where it can be found.

    Takes (line, serialized example) and gives lines. The file is read once more; a text is only
    taken if it still makes the very example. For what comes from elsewhere, or has changed or gone
    since, the line stays as it is.

    Args:
        sources: What was read, by one MixedExampleGen or several.
    """

    def __init__(self, sources: list[ReadFiles]) -> None:
        super().__init__()
        self._sources = sources

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        """Adds the search to the pipeline."""
        return (
            input_or_inputs
            | "BySource" >> beam.Map(lambda pair: (pair[0]["source"] or "", pair))
            | "Group" >> beam.GroupByKey()
            | "Find" >> beam.ParDo(_Find(self._sources))
        )


class _Find(beam.DoFn):
    def __init__(self, sources: list[ReadFiles]) -> None:
        super().__init__()
        self._sources = sources

    def process(
        self, element: tuple[str, Iterable[tuple[dict[str, Any], bytes]]]
    ) -> Iterator[dict[str, Any]]:
        path, pairs = element
        of_file = [source for source in self._sources if path in source.files]
        if of_file:
            yield from _read_again(of_file[0].files[path], of_file[0].declared, pairs)
        else:
            yield from (line for line, _ in pairs)


def _read_again(
    file: RecordFile, declared: str, pairs: Iterable[tuple[dict[str, Any], bytes]]
) -> Iterator[dict[str, Any]]:
    wanted: dict[int, list[tuple[dict[str, Any], bytes]]] = {}
    for line, example in pairs:
        wanted.setdefault(line["offset"], []).append((line, example))
    try:
        for parsed in read_records(file, read_declared(declared)):
            if not wanted:
                return
            if parsed.offset in wanted and parsed.record is not None:
                same = encode_example(parsed.record, file.path, parsed.offset)
                came = {"record": parsed.raw, "byte": parsed.byte}
                for line, example in wanted.pop(parsed.offset):
                    yield line | came if example == same else line
    except BranchlineError as error:
        _log.info("what is set aside of %s stays as it was rebuilt: %s", file.path, error)
    yield from (line for lines in wanted.values() for line, _ in lines)
