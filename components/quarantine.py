"""Writes what a Beam step set aside, and counts what went in and what came out.

Every step of branchline conserves records: in = out + quarantined. The counts say so.
"""

import json
import logging
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from branchline.components.files import storage
from branchline.schemas import BranchlineError

_progress = logging.getLogger("branchline.progress")
# Tags of a step's side outputs; no split or route can have such a name.
LINES, COUNTS = ".lines", ".counts"
NUM_SAMPLES = 5
_SAMPLE_CHARACTERS = 300


def count(what: str, name: str = "", number: int = 1) -> tuple[str, int]:
    """Makes a count for `WriteQuarantine`: `what` is "in", "out" or "quarantined"."""
    return (f"{what}/{name}", number)


class WriteQuarantine(beam.PTransform):
    """Writes `records-*.jsonl.gz` and `counts.json` (see `artifacts.Quarantine`) into `folder`.

    Takes a dict of two collections: "lines", dicts of record, reason, detail, source and offset,
    and "counts", made by `count`.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def expand(self, input_or_inputs: dict[str, beam.PCollection]) -> Any:
        """Adds the writes to the pipeline."""
        lines, counts = input_or_inputs["lines"], input_or_inputs["counts"]
        _ = (
            lines
            | "ToJson" >> beam.Map(json.dumps, sort_keys=True)
            | "WriteRecords"
            >> beam.io.WriteToText(f"{self._folder}/records", file_name_suffix=".jsonl.gz")
        )
        samples: Any = (
            lines
            | "ByReason" >> beam.Map(lambda line: (line["reason"], line))
            | "Sample" >> beam.combiners.Top.SmallestPerKey(NUM_SAMPLES, key=_place)
            | "SamplesAsOne" >> beam.combiners.ToDict()
        )
        return (
            counts
            | "Sum" >> beam.CombinePerKey(sum)  # pyright: ignore[reportArgumentType]
            | "CountsAsOne" >> beam.combiners.ToDict()
            | "WriteCounts" >> beam.Map(_write_counts, AsSingleton(samples), self._folder)
        )


def _place(line: dict[str, Any]) -> tuple[str, int]:
    return (line["source"] or "", line["offset"] or 0)


def _write_counts(counts: dict[str, int], samples: dict[str, list], folder: str) -> None:
    written: dict[str, Any] = {"in": 0, "out": {}, "quarantined": {}, "samples": {}}
    for key, number in sorted(counts.items()):
        what, _, name = key.partition("/")
        if name:
            written[what][name] = number
        else:
            written[what] = number
    for reason, lines in sorted(samples.items()):
        short = [line | {"record": line["record"][:_SAMPLE_CHARACTERS]} for line in lines]
        written["samples"][reason] = short
    storage.write_bytes(f"{folder}/counts.json", json.dumps(written, indent=1).encode())


def read_counts(folder: str) -> dict[str, Any]:
    """Reads the counts of a Quarantine artifact."""
    return storage.read_json(f"{folder}/counts.json")


def log_counts(component: str, counts: dict[str, Any]) -> None:
    """Reports how many records went in, where they came out, and how many were set aside."""
    aside = sum(counts["quarantined"].values())
    _progress.info(
        "%s: %d records in; %s; %d quarantined",
        component,
        counts["in"],
        ", ".join(f"{name}: {number}" for name, number in counts["out"].items()),
        aside,
        extra={"progress": {"component": component, "records": counts["in"], "quarantined": aside}},
    )


def check_limit(all_counts: Iterable[dict[str, Any]], limit: float | None) -> None:
    """Fails when too large a share of the records was set aside.

    Args:
        all_counts: The counts of the steps up to here, the first step's first.
        limit: Greatest share of the first step's records; None for no limit.

    Raises:
        BranchlineError: The share is above `limit`; gives each reason with an example.
    """
    steps = list(all_counts)
    reasons: dict[str, int] = {}
    samples: dict[str, list] = {}
    for counts in steps:
        for reason, number in counts["quarantined"].items():
            reasons[reason] = reasons.get(reason, 0) + number
            samples.setdefault(reason, []).extend(counts["samples"].get(reason, []))
    total, records = sum(reasons.values()), steps[0]["in"]
    if limit is None or total <= limit * records:
        return
    parts = [
        f"{reason} ({number}, such as {describe(samples[reason][0])})"
        for reason, number in sorted(reasons.items(), key=lambda item: -item[1])
    ]
    raise BranchlineError(
        f"{total} of {records} records were quarantined, {total / records:.1%} against a limit of "
        f"{limit:.1%}: {'; '.join(parts)}. Mend the records or the routes, or raise "
        "quarantine_limit."
    )


def describe(line: dict[str, Any]) -> str:
    """Says in a few words where a record came from and what was wrong with it."""
    where = f"{line['source']}:{line['offset']}: " if line["source"] else ""
    return f"{where}{line['detail']}"
