"""For each path its own end of training, with its own best weights."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.loop.history import History
from branchline.components.branch_trainer.loop.tensorboard import TensorBoard
from branchline.components.branch_trainer.loop.validator import Validator
from branchline.components.branch_trainer.settings import EarlyStop
from branchline.components.branch_trainer.step.replicas import OneReplica


class EarlyStops:
    """Validates the paths, and ends the training of each that has stopped improving.

    Args:
        validator: of all paths that are validated.
        best: path → its best weights, for those that stop early.
        optimizers: path → its optimizer, whose clock counts its updates.
        replicas: that come to one decision.
        tensorboard: where losses are written beside the history; None: nowhere.
    """

    def __init__(
        self,
        validator: Validator,
        best: Mapping[str, "BestWeights"],
        optimizers: Mapping[str, Any],
        replicas: OneReplica,
        tensorboard: TensorBoard | None,
    ):
        self._validator = validator
        self._best = best
        self._optimizers = optimizers
        self._replicas = replicas
        self._tensorboard = tensorboard

    def validate(self, history: History) -> None:
        """Validates the paths that are still trained, and says in the history which one stops."""
        for path in self._validator.datasets:
            if path in history.stopped:
                continue
            loss = self._loss(path)
            self._record(history, path, loss)
            if path in self._best and self._best[path].observe(loss, self._updates(path)):
                history.stopped[path] = f"no improvement until step {history.step}"

    def settle(self, history: History) -> None:
        """Leaves the better weights in the model, and the losses of its last state in history."""
        for path, best in self._best.items():
            self._record(history, path, best.settle(lambda path=path: self._loss(path)))
        for path in self._validator.datasets:
            last = history.validation[path][-1:]
            if path not in self._best and (not last or last[0][0] < history.step):
                self._record(history, path, self._loss(path))

    def _record(self, history: History, path: str, loss: float) -> None:
        history.record_validation(path, loss)
        if self._tensorboard:
            self._tensorboard.write_validation(history.step, path, loss)

    def _updates(self, path: str) -> int:
        """Returns how often the path was updated; a step may only gather its gradient."""
        return int(np.array(self._optimizers[path].iterations))

    def _loss(self, path: str) -> float:
        """Returns the first worker's: statistics differ, and all have to come to one decision."""
        return self._replicas.of_all(self._validator(path))[0]


class BestWeights:
    """Remembers the best state of one path's own branches, and says when it has stopped improving.

    The shared layers go on being trained by other paths, so the remembered branches may not suit
    them later: `settle` takes them back only where they are better with the shared layers as they
    are then.

    Args:
        own_state: variables on this path and no other.
        rule: when to stop.
    """

    def __init__(self, own_state: list[keras.Variable], rule: EarlyStop):
        self.rule = rule
        self.best = float("inf")
        self.waited = 0
        self.updates = 0
        self._now = [v.value for v in own_state]
        self.copies = [tf.Variable(v, trainable=False) for v in self._now]

    def observe(self, loss: float, updates: int) -> bool:
        """Takes the loss of one validation; returns whether the path should stop.

        Args:
            loss: of the path.
            updates: its updates so far. Without one since the last validation, this one says
                nothing about the path, and is passed over.
        """
        if updates <= self.updates:
            return False
        self.updates = updates
        if loss < self.best - self.rule.min_delta:
            self.best, self.waited = loss, 0
            _copy(self._now, self.copies)
        else:
            self.waited += 1
        return self.waited >= self.rule.patience

    def settle(self, validate_fn) -> float:
        """Leaves the better of today's and the remembered branches in the model; returns its loss.

        Args:
            validate_fn: () → validation loss of the model as it is.
        """
        today = validate_fn()
        if self.best == float("inf"):
            return today
        todays = [v.numpy() for v in self._now]
        _copy(self.copies, self._now)
        remembered = validate_fn()
        if remembered <= today or np.isnan(today):
            return remembered
        _copy(todays, self._now)
        return today


def _copy(sources, targets) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
