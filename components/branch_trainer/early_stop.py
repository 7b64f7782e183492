"""Validation per path, and for each path its own end of training with its own best weights."""

from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.losses import path_loss
from branchline.components.branch_trainer.mixed_losses import mixed_loss
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.settings import EarlyStop
from branchline.components.branch_trainer.streams import rows_of


class Validator:
    """Computes validation losses.

    Args:
        model: the model.
        datasets: path → finite dataset of batches, read from its start each time.

    Raises:
        ValueError: a dataset is infinite.
    """

    def __init__(self, model: BranchedModel, datasets: dict[str, tf.data.Dataset]):
        endless = [
            p for p, d in datasets.items() if d.cardinality() == tf.data.INFINITE_CARDINALITY
        ]
        if endless:
            raise ValueError(f"Validation data must be finite; that of {endless} repeats for ever")
        self.datasets = datasets
        self._loss_fns = {path: _loss_fn(model, path, d) for path, d in datasets.items()}

    def __call__(self, path: str) -> float:
        """Returns the loss of `path`, a mean over batches weighted by their rows.

        Raises:
            ValueError: the dataset is empty.
        """
        total, rows = 0.0, 0
        for batch in self.datasets[path]:
            loss, size = self._loss_fns[path](*batch)
            total += float(loss) * int(size)
            rows += int(size)
        if not rows:
            raise ValueError(f"The validation data of path {path!r} is empty")
        return total / rows


def _loss_fn(model: BranchedModel, path: str, dataset: Any):
    def loss_and_rows(*batch):
        if path in model.paths:
            return path_loss(model, path, batch, training=False), rows_of(batch)
        return mixed_loss(model, batch, training=False), rows_of(batch)

    signature = tuple(dataset.element_spec)
    return tf.function(loss_and_rows, input_signature=signature, autograph=False)


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
        self._now = [v.value for v in own_state]
        self.copies = [tf.Variable(v, trainable=False) for v in self._now]

    def observe(self, loss: float) -> bool:
        """Takes the loss of one validation; returns whether the path should stop."""
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
        if remembered <= today:
            return remembered
        _copy(todays, self._now)
        return today


def _copy(sources, targets) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
