"""Counts what goes into a step and what comes out of it or is set aside, and holds it to that.

Every step of branchline conserves records: in = out + quarantined. The counts say so, and beside
them what is in the written files is counted once more; a step whose numbers differ fails.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from branchline.components.files import storage
from branchline.schemas import BranchlineError

_progress = logging.getLogger("branchline.progress")
# Tags of a step's side outputs; no split or route can have such a name.
LINES, COUNTS = ".lines", ".counts"


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


def read_counts(folder: str) -> dict[str, Any]:
    """Reads the counts of a Quarantine artifact."""
    return storage.read_json(f"{folder}/counts.json")


def number_out(out: int | dict[str, Any]) -> int:
    """How many examples came out, over all splits and routes.

    >>> number_out({"train": {"text": 3, "scan": 1}, "eval": 2})
    6
    """
    return sum(map(number_out, out.values())) if isinstance(out, dict) else out


def check_conserved(component: str, counts: dict[str, Any], before: int | None = None) -> None:
    """Checks that nothing was lost, and nothing came twice, by the counts and by the files.

    Args:
        component: Names the step in the error.
        counts: Of the step.
        before: How many examples the step before put out; None if that is not known.

    Raises:
        BranchlineError: Numbers do not add up; says which.
    """
    out, aside = number_out(counts["out"]), sum(counts["quarantined"].values())
    written, wrong = counts.get("written", {}), []
    if out + aside != counts["in"]:
        wrong.append(f"{counts['in']} records came in, {out} went out, {aside} were quarantined")
    for split, of_split in counts["out"].items():
        found = written.get("examples", {}).get(split, 0)
        if found != number_out(of_split):
            told = f"hold {found} examples, not {number_out(of_split)}"
            wrong.append(f"the files of the split {split!r} {told}")
    if written.get("quarantine", 0) != aside:
        wrong.append(f"the quarantine's files hold {written.get('quarantine', 0)}, not {aside}")
    if before is not None and before != counts["in"]:
        wrong.append(f"the step before put out {before} examples, {counts['in']} came in")
    if wrong:
        raise BranchlineError(
            f"{component}: records were lost or came twice: {'; '.join(wrong)}. Run it again; if "
            "it happens again, the disk or branchline is at fault"
        )


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


def check_limit(
    all_counts: Iterable[dict[str, Any]],
    records: int,
    limit: float,
    reason_limits: Mapping[str, float],
) -> None:
    """Fails when too large a share of the records was set aside.

    Args:
        all_counts: The counts of the steps up to here.
        records: How many came into the first of these steps.
        limit: Greatest share of them.
        reason_limits: Reason → greatest share for it alone.

    Raises:
        BranchlineError: A share is above its limit; gives each reason with an example.
    """
    reasons: dict[str, int] = {}
    samples: dict[str, list] = {}
    for counts in all_counts:
        for reason, number in counts["quarantined"].items():
            reasons[reason] = reasons.get(reason, 0) + number
            samples.setdefault(reason, []).extend(counts["samples"].get(reason, []))
    total = sum(reasons.values())
    parts = {
        reason: f"{reason} ({number}, such as {describe(samples[reason][0])})"
        for reason, number in sorted(reasons.items(), key=lambda item: -item[1])
    }
    for reason, share in reason_limits.items():
        number = reasons.get(reason, 0)
        if number > share * records:
            raise BranchlineError(
                f"{number} of {records} records were quarantined as {reason}, "
                f"{number / records:.1%} against a limit of {share:.1%}: {parts[reason]}. Mend the "
                "records or the routes, or raise reason_limits."
            )
    if total <= limit * records:
        return
    raise BranchlineError(
        f"{total} of {records} records were quarantined, {total / records:.1%} against a limit of "
        f"{limit:.1%}: {'; '.join(parts.values())}. Mend the records or the routes, or raise "
        "quarantine_limit."
    )


def describe(line: dict[str, Any]) -> str:
    """Says in a few words where a record came from and what was wrong with it."""
    where = f"{line['source']}:{line['offset']}: " if line["source"] else ""
    return f"{where}{line['detail']}"
