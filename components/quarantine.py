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


def count(what: str, *names: str, number: int = 1) -> tuple[str, int]:
    """Makes a count for `WriteQuarantine`.

    Args:
        what: "in", "out" or "quarantined".
        names: Of a split, of a split and a route, or of a reason.
        number: How many records.

    >>> count("out", "train", "text", number=3)
    ('out/train/text', 3)
    """
    return ("/".join((what, *names)), number)


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
        *path, last = key.split("/")
        place = written
        for name in path:
            place = place.setdefault(name, {})
        place[last] = number
    for reason, lines in sorted(samples.items()):
        short = [line | {"record": line["record"][:_SAMPLE_CHARACTERS]} for line in lines]
        written["samples"][reason] = short
    storage.write_bytes(f"{folder}/counts.json", json.dumps(written, indent=1).encode())


def read_counts(folder: str) -> dict[str, Any]:
    """Reads the counts of a Quarantine artifact."""
    return storage.read_json(f"{folder}/counts.json")


def number_out(out: int | dict[str, Any]) -> int:
    """How many examples came out, over all splits and routes.

    >>> number_out({"train": {"text": 3, "scan": 1}, "eval": 2})
    6
    """
    return sum(map(number_out, out.values())) if isinstance(out, dict) else out


def log_counts(component: str, counts: dict[str, Any]) -> None:
    """Reports how many records went in, where they came out, and how many were set aside."""
    aside = sum(counts["quarantined"].values())
    _progress.info(
        "%s: %d records in; %s; %d quarantined",
        component,
        counts["in"],
        ", ".join(f"{split}: {number_out(out)}" for split, out in counts["out"].items()),
        aside,
        extra={"progress": {"component": component, "records": counts["in"], "quarantined": aside}},
    )


def check_limit(all_counts: Iterable[dict[str, Any]], records: int, limit: float | None) -> None:
    """Fails when too large a share of the records was set aside.

    Args:
        all_counts: The counts of the steps up to here.
        records: How many came into the first of these steps.
        limit: Greatest share of them; None for no limit.

    Raises:
        BranchlineError: The share is above `limit`; gives each reason with an example.
    """
    reasons: dict[str, int] = {}
    samples: dict[str, list] = {}
    for counts in all_counts:
        for reason, number in counts["quarantined"].items():
            reasons[reason] = reasons.get(reason, 0) + number
            samples.setdefault(reason, []).extend(counts["samples"].get(reason, []))
    total = sum(reasons.values())
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
