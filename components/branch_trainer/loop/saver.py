"""Saves a training when it is time, and goes on from what was saved."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.loop.checkpoint import Checkpoints
from branchline.components.branch_trainer.loop.early_stop import BestWeights
from branchline.components.branch_trainer.loop.history import History

_WORTH_KEEPING = 10  # seconds of training, unless it is said how often to write checkpoints
_REST = 19  # times what writing one took, likewise


class Saver:
    """The checkpoints of one training, and when the next one is due.

    Args:
        directory: see `Checkpoints`, as for variables and identity.
        variables: all that training changes, without the best weights.
        identity: what has to be the same to go on.
        best: path → its best weights so far.
        is_writer: whether this process writes.
        wait: whether the next one waits until it is worth its time; False: none does.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        variables: Mapping[str, Sequence[tf.Variable]],
        identity: Mapping[str, Any],
        best: Mapping[str, BestWeights],
        *,
        is_writer: bool,
        wait: bool,
    ):
        copies = [v for of_path in best.values() for v in of_path.copies]
        self.checkpoints = Checkpoints(directory, {**variables, "best weights": copies}, identity)
        self._best = best
        self._is_writer = is_writer
        self._rest = _REST if wait else 0
        self._save_from = time.monotonic() + _WORTH_KEEPING if wait else 0.0
        self.is_behind = True  # whether anything happened since the last one; set by who trains

    def is_due(self) -> bool:
        """Returns whether to write one now is worth its time."""
        return time.monotonic() >= self._save_from

    def save(self, history: History) -> None:
        """Writes a checkpoint, if anything happened since the last one."""
        if not self._is_writer or not self.is_behind:
            return
        early = {path: [b.best, b.waited, b.updates] for path, b in self._best.items()}
        started = time.monotonic()
        progress = {"history": dataclasses.asdict(history), "early_stop": early}
        self.checkpoints.save(history.step, progress)
        now = time.monotonic()
        self.is_behind, self._save_from = False, now + self._rest * (now - started)

    def clear(self) -> None:
        """Removes what an earlier training left."""
        if self._is_writer:
            self.checkpoints.clear()

    def restore(self) -> History | None:
        """Goes on from the newest checkpoint, and returns its history; None: there is none."""
        progress = self.checkpoints.restore()
        if progress is None:
            return None
        for path, figures in progress["early_stop"].items():
            best = self._best[path]
            best.best, best.waited, best.updates = figures
        self.is_behind = False
        return History.from_json(progress["history"])
