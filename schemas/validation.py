"""How strictly the data of a run are validated."""

from collections.abc import Sequence
from dataclasses import dataclass

from branchline.schemas.errors import check_share, reject

KINDS = ("anomalies", "drift", "skew")


@dataclass(frozen=True)
class Validation:
    """What is compared with the schema and other statistics, and what ends the run.

    Distances are in [0, 1], and taken per route and feature: of texts and categories the
    L-infinity distance (the greatest difference of a value's share), of numbers the Jensen-Shannon
    divergence of their histograms.

    Args:
        drift: The greatest distance from the statistics of the last blessed run, split by split;
            None compares nothing.
        skew: The greatest distance of the other splits from the split "train"; None compares
            nothing.
        block: Which kinds of findings end the run, of "anomalies" (what differs from the schema),
            "drift" and "skew". The others are only told.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    drift: float | None = None
    skew: float | None = None
    block: Sequence[str] = ()

    def __post_init__(self) -> None:
        for kind in ("drift", "skew"):
            if getattr(self, kind) is not None:
                check_share(f"Validation.{kind}", getattr(self, kind))
        if not isinstance(self.block, list | tuple):
            reject("Validation.block", self.block, 'a list such as ["anomalies", "drift"]')
        for kind in self.block:
            if kind not in KINDS:
                reject("Validation.block", kind, f"one of {', '.join(KINDS)}")
            if kind != "anomalies" and getattr(self, kind) is None:
                reject(f"Validation.{kind}", None, f"a share in [0, 1], as block has {kind!r}")
        object.__setattr__(self, "block", tuple(self.block))
