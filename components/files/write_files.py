"""Writes what comes for many destinations into a set of files for each, by one Beam sink."""

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.value_provider import StaticValueProvider

from branchline.components.files.tfrecords import Compressed, frame

# Open at a time; Beam shuffles what comes for further destinations. A process may commonly have
# 1024.
_MOST_FILES = 256


class FileSink(fileio.FileSink):
    """How a file is written; as far as Beam knows it is not compressed.

    Beam calls `open`, then `write` with each (key, content), and then `flush`, once.
    """

    def create_metadata(self, destination: str, full_file_name: str) -> fileio.FileMetadata:
        """What Beam asks for before it opens a file."""
        return fileio.FileMetadata("application/octet-stream", CompressionTypes.UNCOMPRESSED)


class TFRecordSink(FileSink):
    """Writes lists of records as TFRecords, compressed by gzip."""

    def open(self, fh: BinaryIO) -> None:
        """Begins a file."""
        self._file = Compressed(fh)

    def write(self, record: tuple[Any, list[bytes]]) -> None:
        """Adds a list of records."""
        self._file.write(frame(record[1]))

    def flush(self) -> None:
        """Ends the file; Beam closes it."""
        self._file.end()


class WriteFiles(beam.PTransform):
    """Writes (key, content) into files of the key; gives (key, path) of each file.

    A bundle opens a file for each key that it meets, and these files get their names when all are
    written. A key that nothing comes for has no file, see `finish`.

    Args:
        folder: Where the files are; if names have folders, these have to be there.
        name_fn: (key, number of the file, how many there are of the key) → the file's name.
        sink: Writes contents.
    """

    def __init__(
        self,
        folder: str,
        name_fn: Callable[[Any, int, int], str],
        sink: type[FileSink] = TFRecordSink,
    ) -> None:
        super().__init__()
        self._folder, self._name_fn, self._sink = folder.rstrip("/"), name_fn, sink

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        """Adds the write to the pipeline."""
        folder, name_fn = self._folder, self._name_fn

        def name(window: Any, pane: Any, shard: int, total: int, packed: str, key: Any) -> str:
            return name_fn(key, shard, total)

        return (
            input_or_inputs
            | "Write"
            >> fileio.WriteToFiles(
                path=folder,
                destination=_key,
                sink=self._sink,
                file_naming=name,
                shards=1,
                temp_directory=StaticValueProvider(str, _temporary(folder)),
                max_writers_per_bundle=_MOST_FILES,
            )
            | "Path" >> beam.Map(lambda file: (file.destination, f"{folder}/{file.file_name}"))
        )


def _key(element: tuple[Any, Any]) -> Any:
    return element[0]


def _temporary(folder: str) -> str:
    # In the folder, so that files get their names by a rename on the same disk.
    return f"{folder}/.temporary"


def make_folders(folders: Iterable[str]) -> None:
    """Makes folders for `WriteFiles`; a store of objects has none."""
    for folder in folders:
        if not FileSystems.exists(folder):
            FileSystems.mkdirs(folder)


def finish(folder: str, empty: Iterable[str] = (), sink: type[FileSink] = TFRecordSink) -> None:
    """Tidies up after `WriteFiles`, when all is written.

    Args:
        folder: Where it wrote.
        empty: Names of files without content, for readers that fail where there is no file.
        sink: Writes these.
    """
    folder = folder.rstrip("/")
    plain = CompressionTypes.UNCOMPRESSED
    for name in empty:
        with FileSystems.create(f"{folder}/{name}", compression_type=plain) as file:
            writer = sink()
            writer.open(file)
            writer.flush()
    temporary = _temporary(folder)
    left = [each.path for each in FileSystems.match([f"{temporary}/*"])[0].metadata_list]
    if left:
        FileSystems.delete(left)
    if FileSystems.exists(temporary):  # a store has no folders without an object
        FileSystems.delete([temporary])
