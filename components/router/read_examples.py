"""Finds the files of Examples artifacts and reads them by batches, however they were written."""

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows
from tfx import types
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from branchline.components.files.tfrecords import Batch, read_framed
from branchline.components.mixed_example_gen.open_file import COMPRESSIONS, opened
from branchline.schemas import BranchlineError

_TF_EXAMPLE = example_gen_pb2.FORMAT_TF_EXAMPLE
_PIECE = 1 << 18


class Source(NamedTuple):
    """A file of examples.

    Attributes:
        path: Where it is.
        ending: That of its name which tells how it is compressed, given to a name that does not.
    """

    path: str
    ending: str | None


def check_format(examples: types.Artifact) -> None:
    """Rejects an artifact that does not hold tf.train.Examples in TFRecords.

    Raises:
        BranchlineError: Names what it holds.
    """
    payload = examples_utils.get_payload_format(examples)
    if payload != _TF_EXAMPLE:
        raise BranchlineError(
            f"{examples.uri}: got examples of the payload format "
            f"{example_gen_pb2.PayloadFormat.Name(payload)}, expected FORMAT_TF_EXAMPLE; set the "
            "payload_format of the component that makes them"
        )
    file_format = examples_utils.get_file_format(examples)
    if not file_format.startswith("tfrecord"):
        raise BranchlineError(
            f"{examples.uri}: got examples in files of the format {file_format!r}, expected "
            "TFRecords, compressed by gzip or not"
        )


def find_sources(artifacts: Sequence[types.Artifact]) -> dict[str, list[Source]]:
    """Finds all files of the splits of Examples artifacts: split → where they are.

    A split may be in some of the artifacts only, and a folder may be without a file.
    """
    sources: dict[str, list[Source]] = {}
    for artifact in artifacts:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            found = sources.setdefault(split, [])
            pattern = f"{artifact_utils.get_split_uri([artifact], split).rstrip('/')}/*"
            paths = [each.path for each in FileSystems.match([pattern])[0].metadata_list]
            ending = _ending(artifact, paths)
            found.extend(Source(path, ending) for path in paths)
    return sources


def _ending(artifact: types.Artifact, paths: list[str]) -> str | None:
    """Tells by the names' endings; by the artifact's word only where no name has one."""
    silent = not any(path.endswith(COMPRESSIONS) for path in paths)
    stated = artifact.has_custom_property("file_format")
    is_gzip = stated and examples_utils.get_file_format(artifact) == "tfrecords_gzip"
    return ".gz" if silent and is_gzip else None


class ReadExamples(beam.PTransform):
    """Reads serialized examples: (split, a list of as many as `Batch` puts together).

    Args:
        sources: Split → where its files are.
    """

    def __init__(self, sources: Mapping[str, Sequence[Source]]) -> None:
        super().__init__()
        self._sources = [(split, source) for split, some in sources.items() for source in some]

    def expand(self, input_or_inputs: beam.Pipeline) -> beam.PCollection:
        """Adds the reads to the pipeline."""
        return (
            input_or_inputs
            | "Files" >> beam.Create(self._sources)  # spreads them over the workers
            | "Examples" >> beam.ParDo(_ReadFiles())
        )


class _ReadFiles(beam.DoFn):
    """Small files of a split share a batch."""

    def start_bundle(self) -> None:
        self._batches = defaultdict[str, Batch](Batch)

    def process(self, element: tuple[str, Source]) -> Iterator[tuple[str, list[bytes]]]:
        split, source = element
        batch, number = self._batches[split], 0
        with opened(*source) as file:
            try:
                for example in read_framed(io.BufferedReader(file, _PIECE)):
                    number += 1
                    if full := batch.add(example):
                        yield split, full
            except BranchlineError:
                raise
            except Exception as error:
                raise BranchlineError(
                    f"{source.path}: after {number} examples, this is no file of TFRecords, or a "
                    f"damaged one: {type(error).__name__}: {error}"
                ) from error

    def finish_bundle(self) -> Any:
        for split, batch in self._batches.items():
            if rest := batch.take():
                yield GlobalWindows.windowed_value_at_end_of_window((split, rest))
