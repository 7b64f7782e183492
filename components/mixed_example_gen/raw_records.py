"""Finds the records again that a later step set aside, as they came: the text in their files.

An example is not what came: floats are rounded to 32 bits, what was nested is flat, what nobody
declared may be gone.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from branchline.components.files import storage
from branchline.components.mixed_example_gen.declared import read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.read_again import ReadAgain
from branchline.components.write_quarantine import as_text

_FILE = "sources.json"
# Lines that wait to be found together, and about how many bytes they have in all.
MOST_WAITING, BYTES_WAITING = 10_000, 32 << 20
Line = dict[str, Any]
Pair = tuple[Line, bytes]


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

    Takes (line, serialized example) and gives lines. A text is only taken if it still makes the
    very example. For what comes from elsewhere, or has changed or gone since, the line stays as it
    is.

    Lines wait until they are as many as fit into memory, and are then looked for together. For
    those of one file that come in its order, as MixedExampleGen writes them, it is read once more.

    Args:
        sources: What was read, by one MixedExampleGen or several.
    """

    def __init__(self, sources: list[ReadFiles]) -> None:
        super().__init__()
        self._sources = sources

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        """Adds the search to the pipeline."""
        return input_or_inputs | "Find" >> beam.ParDo(Find(self._sources))


class Find(beam.DoFn):
    """Collects lines, and gives them as they came."""

    def __init__(self, sources: list[ReadFiles]) -> None:
        super().__init__()
        self._files = {
            as_text(path): (file, source.declared)
            for source in reversed(sources)
            for path, file in source.files.items()
        }

    def start_bundle(self) -> None:
        """Begins without lines."""
        self._waiting: list[Pair] = []
        self._bytes = 0
        self._path, self._again = "", None

    def process(self, element: Pair) -> Iterator[Line]:
        """Takes a line, and gives those that wait once they are many."""
        line, example = element
        if line["source"] not in self._files or line["offset"] is None:
            yield line
            return
        self._waiting.append(element)
        self._bytes += len(line["record"]) + len(example)
        if len(self._waiting) == MOST_WAITING or self._bytes > BYTES_WAITING:
            yield from self._find()

    def finish_bundle(self) -> Any:
        """Gives the rest."""
        for line in self._find():
            yield GlobalWindows.windowed_value_at_end_of_window(line)

    def _find(self) -> Iterator[Line]:
        waiting, self._waiting, self._bytes = sorted(self._waiting, key=_place), [], 0
        for (path, offset), pairs in itertools.groupby(waiting, _place):
            if self._again is None or path != self._path:
                file, declared = self._files[path]
                self._path, self._again = path, ReadAgain(file, read_declared(declared))
            wanted: dict[bytes, list[Line]] = {}
            for line, example in pairs:
                wanted.setdefault(example, []).append(line)
            for parsed in self._again.at(offset):
                if parsed.record is not None:
                    same = encode_example(parsed.record, path, offset)
                    came = {"record": parsed.raw, "byte": parsed.byte}
                    yield from (line | came for line in wanted.pop(same, ()))
                if not wanted:
                    break
            for lines in wanted.values():
                yield from lines


def _place(pair: Pair) -> tuple[str, int]:
    return pair[0]["source"], pair[0]["offset"]
