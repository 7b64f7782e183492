"""One step on one path: its gradient, and one update of its variables by its own optimizer."""

from typing import NamedTuple

import keras
import tensorflow as tf

from branchline.components.branch_trainer.losses import path_loss, rows_of
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.settings import PathSettings


class StepResult(NamedTuple):
    """What a step reports.

    Attributes:
        finite: bool [], whether loss and gradient were finite; if not, nothing was updated.
        loss: float32 [], before `loss_weight`.
        gradient_norm: float32 [], global norm before clipping.
        rows: int64 [], examples in the batch.
    """

    finite: tf.Tensor
    loss: tf.Tensor
    gradient_norm: tf.Tensor
    rows: tf.Tensor


class PathStep:
    """Updates the variables of one path; those of other paths keep values and slots.

    All slots are made here, before the first step.

    Args:
        model: built on this path.
        path: its name.
        settings: of this path.

    Raises:
        ValueError: nothing is left to train, `freeze` names an unknown part, or the optimizer was
            built for other variables.
    """

    def __init__(self, model: BranchedModel, path: str, settings: PathSettings):
        self.model = model
        self.path = path
        self.settings = settings
        self.frozen = tuple(settings.freeze)
        self.trained = model.variables_of(path, without=self.frozen)
        if not self.trained:
            raise ValueError(f"Path {path!r} has nothing to train; frozen: {list(self.frozen)}")
        self.optimizer = settings.optimizer or keras.optimizers.Adam()
        if self.optimizer.built:
            raise ValueError(
                f"The optimizer of path {path!r} is already in use; "
                "give each path, and each Trainer, a new one"
            )
        self.optimizer.build(self.trained)
        self.accumulator = _Accumulator(self.trained, settings.accumulate, path)

    @property
    def state(self) -> list[tf.Variable]:
        """Optimizer slots and clock, and accumulated gradients."""
        return [v.value for v in self.optimizer.variables] + self.accumulator.variables

    def __call__(self, batch: tuple) -> StepResult:
        """Takes one step.

        Args:
            batch: (features, labels) or (features, labels, sample_weight).
        """
        variables = [v.value for v in self.trained]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = path_loss(self.model, self.path, batch, training=True, frozen=self.frozen)
            objective = loss * self.settings.loss_weight
        gradients = tape.gradient(objective, variables)
        pairs = [(g, v) for g, v in zip(gradients, self.trained, strict=True) if g is not None]
        if not pairs:
            raise ValueError(f"The loss of path {self.path!r} depends on none of its variables")
        norm = tf.linalg.global_norm([g for g, _ in pairs])
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        tf.cond(finite, lambda: self._update(pairs, norm), tf.no_op)
        return StepResult(finite, loss, norm, rows_of(batch))

    def _update(self, pairs: list[tuple], norm: tf.Tensor) -> tf.Operation:
        if self.settings.accumulate == 1:
            self._apply(pairs, norm)
            return tf.no_op()
        self.accumulator.add(pairs)
        tf.cond(self.accumulator.full, self._apply_accumulated, tf.no_op)
        return tf.no_op()

    def _apply_accumulated(self) -> tf.Operation:
        pairs = self.accumulator.take()
        self._apply(pairs, tf.linalg.global_norm([g for g, _ in pairs]))
        return tf.no_op()

    def _apply(self, pairs: list[tuple], norm: tf.Tensor) -> None:
        gradients = [g for g, _ in pairs]
        if self.settings.clip_value is not None:
            limit = self.settings.clip_value
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
            norm = tf.linalg.global_norm(gradients)
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm, use_norm=norm)
        self.optimizer.apply(gradients, [v for _, v in pairs])


class _Accumulator:
    """Sums a path's gradients until there are `size` of them."""

    def __init__(self, trained: list[keras.Variable], size: int, path: str):
        self.size = size
        self.sums: dict[int, tf.Variable] = {}
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{path}_accumulated")
        if size > 1:
            self.sums = {
                id(v): tf.Variable(tf.zeros_like(v.value), trainable=False) for v in trained
            }

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.count, *self.sums.values()]

    @property
    def full(self) -> tf.Tensor:
        return self.count >= self.size

    def add(self, pairs: list[tuple]) -> None:
        self.touched = [v for _, v in pairs]
        for gradient, variable in pairs:
            self.sums[id(variable)].assign_add(tf.convert_to_tensor(gradient))
        self.count.assign_add(1)

    def take(self) -> list[tuple]:
        """Returns mean gradients with their variables, and starts anew."""
        pairs = [(self.sums[id(v)] / tf.cast(self.size, v.dtype), v) for v in self.touched]
        with tf.control_dependencies([g for g, _ in pairs]):
            for v in self.touched:
                self.sums[id(v)].assign(tf.zeros_like(self.sums[id(v)]))
            self.count.assign(0)
        return pairs
