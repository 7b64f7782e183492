"""Accumulates one path's gradients over several steps."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Accumulator:
    """Sums gradients until there are `size` of them.

    Of a table whose gradient comes in the rows of the batch, only those rows of the sum are read
    and written, and the mean comes in the rows of all steps, each once.

    Args:
        trained: variables whose gradients come.
        size: number of steps per update.
        num_heads: of which labels are counted.
    """

    def __init__(self, trained: Sequence[keras.Variable], size: int, num_heads: int):
        self.size = size
        self._trained = list(trained)
        self._count = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._labelled = tf.Variable(tf.zeros([num_heads]), trainable=False)
        self._sums = [tf.Variable(tf.zeros_like(v.value), trainable=False) for v in trained]
        # Of all variables, as which of them have gradients in rows shows in a trace only.
        self._rows = [
            tf.Variable(tf.zeros([0], tf.int64), shape=[None], trainable=False) for _ in trained
        ]
        self._place = {id(v): i for i, v in enumerate(trained)}

    @property
    def variables(self) -> list[tf.Variable]:
        """Sums, the rows that they have, their number, and the labels', for checkpoints."""
        return [self._count, self._labelled, *self._sums, *self._rows]

    @property
    def full(self) -> tf.Tensor:
        """Whether there are `size` gradients, bool []."""
        return self._count >= self.size

    def add(self, pairs: Sequence[tuple], labelled: tf.Tensor) -> None:
        """Adds what one step gives.

        Args:
            pairs: (gradient, variable), the same variables at every step.
            labelled: float32 [heads], number of labels.
        """
        for gradient, variable in pairs:
            place = self._place[id(variable)]
            if not isinstance(gradient, tf.IndexedSlices):
                self._sums[place].assign_add(gradient)
                continue
            rows = self._rows[place]
            self._sums[place].scatter_add(gradient)
            rows.assign(tf.concat([rows.value(), tf.cast(gradient.indices, tf.int64)], 0))
        self._labelled.assign_add(labelled)
        self._count.assign_add(1)

    def take(self, pairs: Sequence[tuple]) -> tuple[list[tuple], tf.Tensor]:
        """Returns mean gradients with their variables, and the number of labels; starts anew.

        Args:
            pairs: those added last, whose kinds the means have.
        """
        means = [
            (self._take_mean(self._place[id(v)], isinstance(g, tf.IndexedSlices)), v)
            for g, v in pairs
        ]
        labelled = tf.identity(self._labelled)
        self._labelled.assign(tf.zeros_like(labelled))
        self._count.assign(0)
        return means, labelled

    def _take_mean(self, place: int, in_rows: bool) -> tf.Tensor | tf.IndexedSlices:
        total, rows = self._sums[place], self._rows[place]
        size = tf.cast(self.size, total.dtype)
        if not in_rows:
            mean = total / size
            with tf.control_dependencies([mean]):
                total.assign(tf.zeros_like(total))
            return mean
        touched, _ = tf.unique(rows.value())
        mean = tf.gather(total, touched) / size
        with tf.control_dependencies([mean]):
            total.scatter_update(tf.IndexedSlices(tf.zeros_like(mean), touched))
            rows.assign(tf.zeros([0], tf.int64))
        return tf.IndexedSlices(mean, touched, tf.shape(total))
