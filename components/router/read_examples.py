"""Finds the files of Examples artifacts and reads them, however they were written."""

from collections.abc import Sequence
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from branchline.schemas import BranchlineError

_TF_EXAMPLE = example_gen_pb2.FORMAT_TF_EXAMPLE
_ENDINGS = (".gz", ".bz2", ".zst", ".deflate")  # by which Beam tells


class Source(NamedTuple):
    """Files of one split of one artifact.

    Attributes:
        pattern: Of their names.
        compression: One of Beam's `CompressionTypes`.
    """

    pattern: str
    compression: str


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
            if paths:
                found.append(Source(pattern, _compression(artifact, paths)))
    return sources


def _compression(artifact: types.Artifact, paths: list[str]) -> str:
    """Tells by the names' endings; by the artifact's word only where no name has one."""
    silent = not any(path.endswith(_ENDINGS) for path in paths)
    stated = artifact.has_custom_property("file_format")
    if silent and stated and examples_utils.get_file_format(artifact) == "tfrecords_gzip":
        return CompressionTypes.GZIP
    return CompressionTypes.AUTO


class ReadExamples(beam.PTransform):
    """Reads the serialized examples of one split."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__()
        self._sources = sources

    def expand(self, input_or_inputs: beam.Pipeline) -> beam.PCollection:
        """Adds the reads to the pipeline."""
        read = [
            input_or_inputs
            | f"Read[{number}]"
            >> beam.io.ReadFromTFRecord(source.pattern, compression_type=source.compression)
            for number, source in enumerate(self._sources)
        ]
        if not read:
            return input_or_inputs | "Nothing" >> beam.Create([])
        return read[0] if len(read) == 1 else read | "All" >> beam.Flatten()
