"""Accumulates one path's gradients over several steps."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Accumulator:
    """Sums gradients until there are `size` of them.

    Args:
        trained: variables whose gradients come.
        size: number of steps per update.
    """

    def __init__(self, trained: Sequence[keras.Variable], size: int):
        self.size = size
        self._trained = list(trained)
        self._count = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._sums = [tf.Variable(tf.zeros_like(v.value), trainable=False) for v in trained]
        self._place = {id(v): i for i, v in enumerate(trained)}
        self._touched: list[keras.Variable] = []

    @property
    def variables(self) -> list[tf.Variable]:
        """Sums and their number, for checkpoints."""
        return [self._count, *self._sums]

    @property
    def full(self) -> tf.Tensor:
        """Whether there are `size` gradients, bool []."""
        return self._count >= self.size

    def add(self, pairs: Sequence[tuple]) -> None:
        """Adds one step's (gradient, variable) pairs; the same variables at every step."""
        self._touched = [v for _, v in pairs]
        for gradient, variable in pairs:
            self._sums[self._place[id(variable)]].assign_add(tf.convert_to_tensor(gradient))
        self._count.assign_add(1)

    def take(self) -> list[tuple[tf.Tensor, keras.Variable]]:
        """Returns mean gradients with their variables, and starts anew."""
        sums = [self._sums[self._place[id(v)]] for v in self._touched]
        means = [s / tf.cast(self.size, s.dtype) for s in sums]
        with tf.control_dependencies(means):
            for s in sums:
                s.assign(tf.zeros_like(s))
            self._count.assign(0)
        return list(zip(means, self._touched, strict=True))
