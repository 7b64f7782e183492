"""Words the numbers of a run for the console."""

from collections.abc import Mapping
from typing import Any

from branchline.components.run_report.wording import duration, number


def counts(fields: Mapping[str, Any]) -> str:
    r"""How many records, quarantined records, examples and metrics a component reports.

    >>> counts({"records": 25118, "quarantined": 12})
    '25\u202f118 records, 12 quarantined'
    """
    parts = [
        f"{number(fields[key])} {word}"
        for key, word in (
            ("records", "records"),
            ("quarantined", "quarantined"),
            ("examples", "examples"),
        )
        if fields.get(key) is not None
    ]
    parts += [f"{name} {number(value)}" for name, value in fields.get("metrics", {}).items()]
    route = fields.get("route")
    return ", ".join([f"{route}:"] * bool(route and parts) + parts).replace(":,", ":")


def training(fields: Mapping[str, Any], *, losses: bool = True) -> str:
    """How far training is.

    >>> training({"step": 500, "steps": 2000, "losses": {"text": 0.314159}, "eta_seconds": 9})
    'step 500/2000, loss text 0.3142, 9.0 s left'
    """
    if "steps" not in fields:
        return ""
    parts = [f"step {fields.get('step', 0)}/{fields['steps']}"]
    if losses and fields.get("losses"):
        parts.append(
            "loss " + " ".join(f"{route} {loss:.4g}" for route, loss in fields["losses"].items())
        )
    if fields.get("examples_per_second") is not None:
        parts.append(f"{number(round(fields['examples_per_second']))} examples/s")
    if fields.get("eta_seconds") is not None and fields.get("step", 0) < fields["steps"]:
        parts.append(f"{duration(fields['eta_seconds'])} left")
    return ", ".join(parts)
