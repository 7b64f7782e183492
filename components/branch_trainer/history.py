"""What training did, and how far it is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from branchline.components.branch_trainer.loop import Chunk


@dataclasses.dataclass
class History:
    """What training did; plain numbers and text.

    Attributes:
        steps: path → steps taken.
        examples: path → examples seen.
        losses: path → (step, mean loss since the last entry), one per loop in which the path was
            trained.
        validation: path → (step, validation loss).
        stopped: path → why it is no longer trained.
    """

    steps: dict[str, int]
    examples: dict[str, int]
    losses: dict[str, list[tuple[int, float]]]
    validation: dict[str, list[tuple[int, float]]]
    stopped: dict[str, str]

    @classmethod
    def start(cls, paths: Sequence[str], validated: Sequence[str]) -> "History":
        """Returns the history of nothing done yet."""
        none_done = dict.fromkeys(paths, 0)
        losses = {path: [] for path in paths}
        return cls(none_done, dict(none_done), losses, {path: [] for path in validated}, {})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "History":
        """Makes a history of what `dataclasses.asdict` gave, after JSON made tuples lists."""
        for points in (values["losses"], values["validation"]):
            points.update({path: [tuple(p) for p in of_path] for path, of_path in points.items()})
        return cls(**values)

    @property
    def step(self) -> int:
        """Steps taken on all paths."""
        return sum(self.steps.values())

    def record(self, routes: Sequence[str], chunk: Chunk) -> None:
        """Adds what one call of the loop did.

        Args:
            routes: path of each step taken in it.
            chunk: its figures.
        """
        taken = np.array(routes)
        trained = [path for path in self.steps if path in set(routes)]
        for path in trained:
            here = taken == path
            self.steps[path] += int(here.sum())
            self.examples[path] += int(chunk.rows[here].sum())
        for path in trained:
            self.losses[path].append((self.step, float(chunk.losses[taken == path].mean())))


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far training is, given once per loop.

    Attributes:
        step: steps taken, of `steps`.
        losses: path → its latest mean loss, for the paths trained so far.
        stopped: path → why it is no longer trained.
        examples_per_second: over the last loop.
        eta_seconds: until `steps` are taken, at the pace so far.
    """

    step: int
    steps: int
    losses: dict[str, float]
    stopped: dict[str, str]
    examples_per_second: float
    eta_seconds: float
