"""Writes the examples of a split into a set of files per route, whatever the number of routes."""

import re
from collections.abc import Mapping
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.value_provider import StaticValueProvider

from branchline.components.files.routed import NO_ROUTE, file_name, split_dir
from branchline.components.files.tfrecords import Compressed, frame
from branchline.schemas import BranchlineError

RoutedExamples = tuple[str, list[bytes]]
# Open at a time; Beam shuffles what comes for further routes. A process may commonly have 1024.
_MOST_FILES = 256
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gz")


class WriteRoutes(beam.PTransform):
    """Writes (route, some of its examples) into the folder of a split; gives the files' paths.

    One sink for all routes: a bundle opens a file for each route that it meets, and these files
    get their names when all are written.

    Args:
        uri: Of the artifact.
        split: Of it.
    """

    def __init__(self, uri: str, split: str) -> None:
        super().__init__()
        self._uri, self._split = uri, split

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        """Adds the write to the pipeline."""
        folder = split_dir(self._uri, self._split)
        return (
            input_or_inputs
            | "Write"
            >> fileio.WriteToFiles(
                path=folder,
                destination=_route,
                sink=_TFRecordSink,
                file_naming=_name,
                shards=1,
                temp_directory=StaticValueProvider(str, f"{_temporary(self._uri)}/{self._split}"),
                max_writers_per_bundle=_MOST_FILES,
            )
            | "Path" >> beam.Map(lambda result: f"{folder}/{result.file_name}")
        )


def _route(element: RoutedExamples) -> str:
    return element[0]


def _name(window: Any, pane: Any, shard: int, total: int, compression: str, route: str) -> str:
    return file_name(route, shard, total)


class _TFRecordSink(fileio.FileSink):
    """Writes lists of records as compressed TFRecords."""

    def create_metadata(self, destination: str, full_file_name: str) -> fileio.FileMetadata:
        return fileio.FileMetadata("application/octet-stream", CompressionTypes.UNCOMPRESSED)

    def open(self, fh: BinaryIO) -> None:
        self._file = Compressed(fh)

    def write(self, record: RoutedExamples) -> None:
        self._file.write(frame(record[1]))

    def flush(self) -> None:
        """Ends the content; Beam calls it once, before it closes the file."""
        self._file.end()


def _temporary(uri: str) -> str:
    # Beside the splits, so that files get their names by a rename on the same disk.
    return f"{uri.rstrip('/')}/.temporary"


def finish(uri: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Checks that every file is in its place, after the pipeline has run, and tidies up.

    A split without an example gets an empty file, because TFX's components fail on a folder
    without any.

    Args:
        uri: Of the artifact.
        counts: Split → route → how many examples were written.

    Raises:
        BranchlineError: Files of a route are missing. (Beam takes a file that it cannot rename for
            one that was renamed before.)
    """
    for split, routes in counts.items():
        found = _shards(split_dir(uri, split))
        for route in sorted(name for name, number in routes.items() if number):
            there, total = found.get(route, (0, 1))
            if there < total:
                raise BranchlineError(
                    f"{split_dir(uri, split)}: got {there} of {total} files of the route "
                    f"{route!r}; the others could not be moved there: is there room and access?"
                )
        if not any(routes.values()):
            folder = split_dir(uri, split)
            if not FileSystems.exists(folder):
                FileSystems.mkdirs(folder)
            FileSystems.create(f"{folder}/{file_name(NO_ROUTE, 0, 1)}").close()
    _remove(_temporary(uri))


def _remove(folder: str) -> None:
    left = [each.path for each in FileSystems.match([f"{folder}/*/*"])[0].metadata_list]
    if left:
        FileSystems.delete(left)
    if FileSystems.exists(folder):  # a store has no folders without an object
        FileSystems.delete([folder])


def _shards(folder: str) -> dict[str, tuple[int, int]]:
    """Route → how many of its files there are in a folder, and how many there should be."""
    found: dict[str, tuple[int, int]] = {}
    for metadata in FileSystems.match([f"{folder}/*"])[0].metadata_list:
        match = _NAME.fullmatch(FileSystems.split(metadata.path)[1])
        if match:
            there, _ = found.get(match[1], (0, 0))
            found[match[1]] = there + 1, int(match[3])
    return found
