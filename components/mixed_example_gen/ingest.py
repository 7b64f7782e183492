"""Turns files of records into examples, split, with everything that is no record set aside."""

import bz2
import gzip
import logging
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from branchline.components import quarantine
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.parse_csv import parse_csv
from branchline.components.mixed_example_gen.parse_json import parse_json, parse_jsonl
from branchline.components.mixed_example_gen.read_record import NotARecord, Parsed, Record
from branchline.components.mixed_example_gen.split_records import choose_split
from branchline.schemas import BranchlineError
from branchline.schemas.errors import OFFSET, SOURCE

_log = logging.getLogger(__name__)


def to_example(record: Record, source: str, offset: int) -> tf.train.Example:
    """Makes an example of a record: text, int or float lists, and where it came from."""
    example = tf.train.Example()
    features = example.features.feature
    for key, values in record.items():
        first = values[0]
        if isinstance(first, str):
            features[key].bytes_list.value.extend(str(value).encode() for value in values)
        elif isinstance(first, int):
            features[key].int64_list.value.extend(values)
        else:
            features[key].float_list.value.extend(values)
    features[SOURCE].bytes_list.value.append(source.encode())
    features[OFFSET].int64_list.value.append(offset)
    return example


def read_lines(path: str) -> Iterator[bytes]:
    """Reads a file line by line, whatever its line ends, and decompresses it by its name.

    Raises:
        BranchlineError: The file cannot be read, or is cut off.
    """
    # Beam's own decompression takes a gzip file that is cut off for a shorter one.
    decompress = next((fn for end, fn in _DECOMPRESS.items() if path.endswith(end)), None)
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as content:
            yield from iter((decompress(content) if decompress else content).readline, b"")
    except (OSError, EOFError, zlib.error) as error:
        raise BranchlineError(f"{path}: cannot be read: {error}") from error


_DECOMPRESS = {".gz": gzip.open, ".bz2": bz2.open}


class ReadRecords(beam.DoFn):
    """Reads whole files; tags: a split's name (serialized examples), LINES and COUNTS."""

    def __init__(
        self, splits: Mapping[str, int], split_key: str | None, declared: Declared
    ) -> None:
        super().__init__()
        self._splits, self._split_key, self._declared = dict(splits), split_key, declared

    def process(self, element: RecordFile) -> Iterator[TaggedOutput]:
        """Yields every record of one file."""
        counts: dict[tuple[str, str], int] = {}
        for parsed in self._parse(element, read_lines(element.path)):
            parsed, tag = self._choose_split(parsed)
            if parsed.record is None:
                value = _line(parsed, element)
                key = ("quarantined", parsed.reason)
            else:
                example = to_example(parsed.record, element.path, parsed.offset)
                value, key = example.SerializeToString(deterministic=True), ("out", tag)
            counts[key] = counts.get(key, 0) + 1
            yield TaggedOutput(tag, value)
        total = sum(counts.values())
        for key, number in counts.items():
            yield TaggedOutput(quarantine.COUNTS, quarantine.count(*key, number=number))
        yield TaggedOutput(quarantine.COUNTS, quarantine.count("in", number=total))
        aside = sum(number for (what, _), number in counts.items() if what == "quarantined")
        _log.info("read %s: %d records, %d quarantined", element.path, total, aside)

    def _choose_split(self, parsed: Parsed) -> tuple[Parsed, str]:
        if parsed.record is None:
            return parsed, quarantine.LINES
        try:
            keys = self._declared.keys
            return parsed, choose_split(parsed.record, self._splits, self._split_key, keys)
        except NotARecord as problem:
            set_aside = parsed._replace(record=None, reason=problem.reason, detail=problem.detail)
            return set_aside, quarantine.LINES

    def _parse(self, file: RecordFile, lines: Any) -> Iterator[Parsed]:
        if file.format == "csv":
            return parse_csv(lines, file.path, self._declared)
        return (parse_json if file.format == "json" else parse_jsonl)(lines, self._declared)


def _line(parsed: Parsed, file: RecordFile) -> dict[str, Any]:
    return {
        "record": parsed.raw,
        "reason": parsed.reason,
        "detail": parsed.detail,
        "source": file.path,
        "offset": parsed.offset,
    }


def ingest(
    pipeline: beam.Pipeline,
    files: list[RecordFile],
    splits: Mapping[str, int],
    split_key: str | None,
    declared: Declared,
    split_uris: Mapping[str, str],
    quarantine_uri: str,
) -> None:
    """Adds to `pipeline` all that it takes to write `files` as examples under `split_uris`."""
    read = (
        pipeline
        | "Files" >> beam.Create(files)
        | "Spread" >> beam.Reshuffle()
        | "Read"
        >> beam.ParDo(ReadRecords(splits, split_key, declared)).with_outputs(
            *splits, quarantine.LINES, quarantine.COUNTS
        )
    )
    for split, uri in split_uris.items():
        _ = read[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(
            f"{uri}/data_tfrecord", file_name_suffix=".gz"
        )
    _ = {
        "lines": read[quarantine.LINES],
        "counts": read[quarantine.COUNTS],
    } | "Quarantine" >> quarantine.WriteQuarantine(quarantine_uri)
