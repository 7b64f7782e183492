"""Turns files of records into examples, split, with everything that is no record set aside."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from branchline.components import quarantine
from branchline.components.files.routed import file_name, split_dir
from branchline.components.files.tfrecords import Batch
from branchline.components.files.write_files import WriteFiles, make_folders
from branchline.components.mixed_example_gen.count_again import UNCOUNTABLE, Tally, check_count
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.encode_example import encode_example, encode_rows
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.open_file import opened
from branchline.components.mixed_example_gen.parse_csv import cell_reader, parse_csv
from branchline.components.mixed_example_gen.parse_json import parse_json, parse_jsonl
from branchline.components.mixed_example_gen.plain_rows import PlainRows, one_by_one
from branchline.components.mixed_example_gen.ranges import Range, ranges_of
from branchline.components.mixed_example_gen.read_lines import Lines
from branchline.components.mixed_example_gen.read_pictures import with_pictures
from branchline.components.mixed_example_gen.read_record import (
    NotARecord,
    Parsed,
    read_record,
)
from branchline.components.mixed_example_gen.read_tables import TABLES, read_table
from branchline.components.mixed_example_gen.split_records import choose_split, choose_splits
from branchline.components.write_quarantine import WriteQuarantine, as_text
from branchline.schemas.splits import Splits, split_names

_log = logging.getLogger(__name__)
WITH_SPLIT_KEY = "with_split_key"
EXAMPLES, TALLIES = ".examples", ".tallies"  # tags, as quarantine.LINES


def read_records(
    file: RecordFile, declared: Declared, start: int = 0, stop: int | None = None
) -> Iterator[Parsed]:
    """Reads every record as `read_some` does, but one by one."""
    return one_by_one(read_some(file, declared, start, stop), declared)


def read_some(
    file: RecordFile, declared: Declared, start: int = 0, stop: int | None = None
) -> Iterator[Parsed | PlainRows]:
    """Reads every record of a file or of a range of it: one by one, or many that are plain.

    Where it is damaged, there is one `Parsed` of "unreadable_rest" for the rest.

    Records get the fields of the folders `name=value` they lie in, if they have none of the name.

    Args:
        file: Where it is, and how to read it.
        declared: What is read of the records.
        start: How many bytes come before the range.
        stop: Where it ends, see `ranges_of`. Places are told as if the file began with it.

    Raises:
        BranchlineError: The file cannot be opened, its storage fails, or its header is wrong.
    """
    with opened(file.path) as content:
        if file.format in TABLES:
            parsed = read_table(content, file.path, file.format, declared)
        else:
            parsed = _parse_lines(Lines(content, file.path, start, stop), file, declared)
        if file.partitions:
            parsed = _with_partitions(parsed, file, declared)
        if declared.paths:
            parsed = with_pictures(one_by_one(parsed, declared), file.path, declared.paths)
        yield from parsed


_DELIMITERS = {"csv": ",", "tsv": "\t"}


def _parse_lines(lines: Lines, file: RecordFile, declared: Declared) -> Iterator[Parsed]:
    if delimiter := _DELIMITERS.get(file.format):
        yield from parse_csv(lines, file.path, declared, delimiter)
    else:
        for parsed in (parse_json if file.format == "json" else parse_jsonl)(lines, declared):
            if not (lines.rest and parsed.reason == "unreadable_rest"):  # it is told once
                yield parsed
    if lines.rest:
        yield lines.rest


def _with_partitions(
    records: Iterator[Parsed | PlainRows], file: RecordFile, declared: Declared
) -> Iterator[Parsed | PlainRows]:
    try:
        cells = {key: cell_reader(key, declared)(cell) for key, cell in file.partitions}
        fields = read_record(cells, declared)
    except NotARecord as problem:
        where = f"the folder's field {problem.detail}"
        wrong = {"record": None, "reason": problem.reason, "detail": where}
        for parsed in one_by_one(records, declared):
            yield parsed if parsed.record is None else parsed._replace(**wrong)
        return
    for some in records:
        if isinstance(some, PlainRows):
            yield some._replace(fields=fields)
        else:
            yield some if some.record is None else some._replace(record=fields | some.record)


class ReadRecords(beam.DoFn):
    """Reads files, or ranges of them.

    Tags: EXAMPLES, (split, serialized examples), LINES, COUNTS, and TALLIES, (path, Tally).
    """

    def __init__(self, splits: Splits, split_key: str | None, declared: Declared) -> None:
        super().__init__()
        self._splits, self._split_key, self._declared = splits, split_key, declared
        self._by_hash = splits if isinstance(splits, Mapping) else {}

    def process(self, element: Range) -> Iterator[TaggedOutput]:
        """Yields every record of one range."""
        file, start, stop, _ = element
        batches = {split: Batch() for split in split_names(self._splits)}
        out, aside = Counter[str](), Counter[str]()
        with_split_key = 0
        read_fn = read_some if self._by_hash else read_records
        for some in read_fn(file, self._declared, start, stop):
            if isinstance(some, PlainRows):
                with_split_key += some.number_with(self._split_key)
                splits, examples = self._split_rows(some), encode_rows(some, file.path)
            else:
                split, parsed = self._choose(placed(some, element))
                if parsed.record is None:
                    aside[parsed.reason] += 1
                    yield TaggedOutput(quarantine.LINES, _line(parsed, file))
                    continue
                with_split_key += self._split_key in parsed.record
                splits = [split]
                examples = [encode_example(parsed.record, file.path, parsed.offset)]
            for split, example in zip(splits, examples, strict=True):
                out[split] += 1
                if full := batches[split].add(example):
                    yield TaggedOutput(EXAMPLES, (split, full))
        for split, batch in batches.items():
            if rest := batch.take():
                yield TaggedOutput(EXAMPLES, (split, rest))
        total = sum(out.values()) + sum(aside.values())
        for what, counts in {"out": out, "quarantined": aside}.items():
            for name, number in counts.items():
                yield TaggedOutput(quarantine.COUNTS, quarantine.count(what, name, number=number))
        yield TaggedOutput(quarantine.COUNTS, quarantine.count("in", number=total))
        if self._split_key:
            told = quarantine.count(WITH_SPLIT_KEY, number=with_split_key)
            yield TaggedOutput(quarantine.COUNTS, told)
        is_countable = not aside.keys() & UNCOUNTABLE
        path = os.fsencode(file.path)  # Beam's coders take no text of bytes that are none
        yield TaggedOutput(TALLIES, (path, Tally(file.format, total, is_countable)))
        _log.info("read %s: %d records, %d quarantined", file.path, total, sum(aside.values()))

    def _split_rows(self, rows: PlainRows) -> list[str]:
        return choose_splits(rows, self._by_hash, self._split_key, self._declared.keys)

    def _choose(self, parsed: Parsed) -> tuple[str, Parsed]:
        if parsed.record is None:
            return "", parsed
        keys = self._declared.keys
        try:
            return choose_split(parsed.record, self._splits, self._split_key, keys), parsed
        except NotARecord as error:
            return "", parsed._replace(record=None, reason=error.reason, detail=error.detail)


def placed(parsed: Parsed, part: Range) -> Parsed:
    """With its place in the file, where that is another than the one in the range."""
    if not part.start:
        return parsed
    byte = (parsed.byte or 0) + part.start
    return parsed._replace(offset=parsed.offset + part.lines, byte=byte)


def _line(parsed: Parsed, file: RecordFile) -> dict[str, Any]:
    return {
        "record": parsed.raw,
        "reason": parsed.reason,
        "detail": parsed.detail,
        "source": as_text(file.path),
        "offset": parsed.offset,
        "byte": parsed.byte,
    }


def name_file(split: str, shard: int, total: int) -> str:
    """Names a file of a split's examples, below the artifact, as TFX's ExampleGen does.

    >>> name_file("train", 0, 1)
    'Split-train/data_tfrecord-00000-of-00001.gz'
    """
    return os.path.join(split_dir("", split), file_name("data_tfrecord", shard, total))


def ingest(
    pipeline: beam.Pipeline,
    files: list[tuple[RecordFile, int]],
    splits: Splits,
    split_key: str | None,
    declared: Declared,
    examples_uri: str,
    quarantine_uri: str,
) -> None:
    """Adds to `pipeline` all that it takes to write `files` as examples.

    With each file stands its size in bytes. When the pipeline has run, `write_files.finish` has to
    complete what it wrote.
    """
    make_folders(split_dir(examples_uri, split) for split in split_names(splits))
    read = (
        pipeline
        | "Files" >> beam.Create(files, reshuffle=False)
        | "Ranges" >> beam.FlatMapTuple(ranges_of)
        | "Spread" >> beam.Reshuffle()
        | "Read"
        >> beam.ParDo(ReadRecords(splits, split_key, declared)).with_outputs(
            EXAMPLES, quarantine.LINES, quarantine.COUNTS, TALLIES
        )
    )
    again = (
        read[TALLIES]
        | "ByFile" >> beam.GroupByKey()
        | "CountAgain" >> beam.FlatMapTuple(check_count)
    )
    _ = {
        "lines": read[quarantine.LINES],
        "counts": (read[quarantine.COUNTS], again) | "Counts" >> beam.Flatten(),
        "files": read[EXAMPLES] | "Write" >> WriteFiles(examples_uri, name_file),
    } | "Quarantine" >> WriteQuarantine(quarantine_uri, "MixedExampleGen")
