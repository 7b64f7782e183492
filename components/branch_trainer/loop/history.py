"""What training did, and how far it is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from branchline.components.branch_trainer.loop.loop import Chunk

OPERATIONS, COMPILED = "as operations", "compiled by XLA"  # what `History.loop` says
_MOST = 2000  # entries of a path; it is written whole with every checkpoint


@dataclasses.dataclass
class History:
    """What training did; plain numbers and text.

    Attributes:
        steps: path → steps taken.
        examples: path → examples seen.
        losses: path → (step, mean loss since the last entry), one per loop in which the path was
            trained; of more than 2000, each two become one, so that the oldest span most.
        validation: path → (step, validation loss); of more than 2000, every second is kept.
        stopped: path → why it is no longer trained.
        not_finite: path → the step at which its loss or gradient was not finite, which stopped it.
        counts: path → of each entry in `losses`, of how many steps it is the mean.
        loop: how steps run: "as operations" or "compiled by XLA"; "": still to be decided.
    """

    steps: dict[str, int]
    examples: dict[str, int]
    losses: dict[str, list[tuple[int, float]]]
    validation: dict[str, list[tuple[int, float]]]
    stopped: dict[str, str]
    counts: dict[str, list[int]]
    loop: str = ""
    not_finite: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def start(cls, paths: Sequence[str], validated: Sequence[str]) -> "History":
        """Returns the history of nothing done yet."""
        none_done = dict.fromkeys(paths, 0)
        return cls(
            steps=none_done,
            examples=dict(none_done),
            losses={path: [] for path in paths},
            validation={path: [] for path in validated},
            stopped={},
            counts={path: [] for path in paths},
        )

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
            of_path = chunk.losses[taken == path]
            self.losses[path].append((self.step, float(of_path.mean())))
            self.counts[path].append(len(of_path))
            if len(self.counts[path]) > _MOST:
                self._join_neighbours(path)

    def record_validation(self, path: str, loss: float) -> None:
        """Adds a validation loss of the model as it is."""
        points = self.validation[path]
        points.append((self.step, loss))
        if len(points) > _MOST:
            del points[:-1:2]

    @property
    def active(self) -> list[str]:
        """The paths that are still trained."""
        return [path for path in self.steps if path not in self.stopped]

    def stop_not_finite(self, path: str) -> None:
        """Ends a path whose next batch gives a loss or a gradient that is not finite."""
        self.stopped[path] = f"loss or gradient not finite at step {self.step}"
        self.not_finite[path] = self.step

    def stop_ended(self, path: str, *, with_others: bool) -> None:
        """Ends a path whose stream has no more batch, and perhaps all others with it."""
        self.stopped[path] = f"its stream ended at step {self.step}"
        if with_others:
            told = f"the stream of {path!r} ended at step {self.step}"
            self.stopped |= dict.fromkeys(self.active, told)

    def _join_neighbours(self, path: str) -> None:
        """Makes one entry of each two; of an odd number, the first stays alone."""
        losses, counts = self.losses[path], self.counts[path]
        first = len(losses) % 2
        joined, sums = losses[:first], counts[:first]
        for i in range(first, len(losses), 2):
            (_, one), (step, other) = losses[i : i + 2]
            sums.append(counts[i] + counts[i + 1])
            joined.append((step, (one * counts[i] + other * counts[i + 1]) / sums[-1]))
        self.losses[path], self.counts[path] = joined, sums


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far training is, given once per loop.

    Attributes:
        step: steps taken, of `steps`.
        losses: path → its latest mean loss, for the paths trained so far.
        stopped: path → why it is no longer trained.
        not_finite: as of `History`.
        examples_per_second: over the last loop.
        eta_seconds: until `steps` are taken, at the pace so far.
    """

    step: int
    steps: int
    losses: dict[str, float]
    stopped: dict[str, str]
    not_finite: dict[str, int]
    examples_per_second: float
    eta_seconds: float

    @classmethod
    def of(
        cls, history: History, steps: int, examples_per_second: float, seconds_per_step: float
    ) -> "Progress":
        """Returns how far a training of so many steps is, by its history."""
        return cls(
            step=history.step,
            steps=steps,
            losses={path: losses[-1][1] for path, losses in history.losses.items() if losses},
            stopped=dict(history.stopped),
            not_finite=dict(history.not_finite),
            examples_per_second=examples_per_second,
            eta_seconds=(steps - history.step) * seconds_per_step,
        )
