"""What one call of the loop's graph did, in variables, so that it outlasts an error."""

import numpy as np
import tensorflow as tf


class CallRecord:
    """Written in the graph as each step goes on, read after the call, whether or not it failed.

    How far the failing step came says what failed: without a batch it was the stream; with figures
    that are not finite it was their check; else it was something that TensorFlow ran for the step.
    """

    def __init__(self):
        self._num_read = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._unchecked = tf.Variable(tf.zeros([3]), trainable=False)
        self._figures = tf.Variable(tf.zeros([0, 3]), shape=[None, 3], trainable=False)

    @property
    def handles(self) -> list[tf.Tensor]:
        """Of its variables."""
        return [v.handle for v in (self._num_read, self._unchecked, self._figures)]

    def start(self, num_steps: tf.Tensor) -> None:
        """Begins anew, for a call of so many steps."""
        self._num_read.assign(0)
        self._unchecked.assign(tf.zeros([3]))
        self._figures.assign(tf.fill([num_steps, 3], -1.0))

    def batch_read(self) -> tf.Operation:
        """Notes that the next step has its batch."""
        return self._num_read.assign_add(1, read_value=False)

    def figures_found(self, figures: tf.Tensor) -> tf.Operation:
        """Notes the figures of the step, float32 [3], before they are checked."""
        return self._unchecked.assign(figures, read_value=False)

    def step_taken(self, number: tf.Tensor, figures: tf.Tensor) -> None:
        """Notes that a step is done.

        Args:
            number: int32 [], of the step in its call.
            figures: float32 [3]: loss, gradient norm, number of rows.
        """
        figures_of_all = self._figures.handle
        tf.raw_ops.ResourceScatterUpdate(resource=figures_of_all, indices=number, updates=figures)

    def taken_figures(self) -> np.ndarray:
        """Returns float32 [taken, 3]: the figures of the steps that are done."""
        figures = self._figures.numpy()
        return figures[figures[:, 2] >= 0]

    def has_batch(self) -> bool:
        """Returns whether the batch of the step after the last one done was read."""
        return int(self._num_read) > len(self.taken_figures())

    def is_finite(self) -> bool:
        """Returns whether the last figures found are finite."""
        return bool(np.all(np.isfinite(self._unchecked.numpy())))
