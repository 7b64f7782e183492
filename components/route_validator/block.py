"""Ends the run where a finding is of a kind that the recipe does not let pass."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from branchline.components.route_validator.validate import Found, describe
from branchline.schemas import BranchlineError, Validation

_LONGEST = 240  # what TFDV says can list many values
_REMEDIES = {
    "anomalies": "correct the records or the schema",
    "drift": "correct the records, or allow more with Validation(drift=…)",
    "skew": "correct the records, or allow more with Validation(skew=…)",
}


class Finding(NamedTuple):
    """What is wrong with a feature of a route, or, where `feature` is "", with its rows."""

    kind: str
    split: str
    route: str
    feature: str
    what: str

    @property
    def where(self) -> str:
        """Names the place, for people."""
        parts = {"route": self.route, "split": self.split, "feature": self.feature}
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


def blocking(by_kind: Mapping[str, Found], split: str, validation: Validation) -> Iterator[Finding]:
    """Yields the findings of a split that end the run.

    That a route has no rows is none of them: the Router's `least_rows` and `scarce` decide it.
    """
    for kind in validation.block:
        for route, (examples, anomalies) in by_kind.get(kind, {}).items():
            for feature, what in describe(anomalies).items() if examples else ():
                yield Finding(kind, split, route, feature, what)


def block(findings: Sequence[Finding]) -> None:
    """Raises an error that tells the first finding, and how many others there are.

    Raises:
        BranchlineError: There is a finding.
    """
    if not findings:
        return
    first, others = findings[0], len(findings) - 1
    what = first.what if len(first.what) <= _LONGEST else f"{first.what[:_LONGEST]} …"
    more = f" ({others} more in the log)" if others else ""
    raise BranchlineError(
        f"{first.where}: {what}{more}; {_REMEDIES[first.kind]}, or take {first.kind!r} out of "
        "Validation.block, and it will only be told"
    )
