"""What training did, and how far it is."""

import dataclasses


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

    @property
    def step(self) -> int:
        """Steps taken on all paths."""
        return sum(self.steps.values())


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far training is, given once per loop.

    Attributes:
        step: steps taken, of `steps`.
        losses: path → its latest mean loss, for the paths trained so far.
        examples_per_second: over the last loop.
        eta_seconds: until `steps` are taken, at the pace so far.
    """

    step: int
    steps: int
    losses: dict[str, float]
    examples_per_second: float
    eta_seconds: float
