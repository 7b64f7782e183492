"""Drops a batch whose loss or gradient is not finite: its step ends before it changes anything."""

from collections.abc import Callable

import tensorflow as tf

_MESSAGE = "The loss or the gradient is not finite"


def checked(
    loss: tf.Tensor,
    norm: tf.Tensor,
    rows: tf.Tensor,
    put_back: Callable[[], tf.Operation] | None = None,
    report_fn: Callable[[tf.Tensor], tf.Operation] | None = None,
) -> tf.Tensor:
    """Returns a step's figures; what may happen only if they are finite has to depend on them.

    Args:
        loss: float32 [], before `loss_weight` and without leaks.
        norm: float32 [], the gradient's global norm before clipping.
        rows: number [], of the batch.
        put_back: undoes what the forward pass did to the layers' state, if they are not finite.
        report_fn: is given the figures before they are checked, for who has to know why a step
            ended.

    Returns:
        float32 [3]: loss, norm, and the number of examples.

    Raises, where it runs:
        tf.errors.InvalidArgumentError: they are not finite.
    """
    figures = tf.stack([loss, norm, tf.cast(rows, tf.float32)])
    first = [report_fn(figures)] if report_fn else []
    if put_back:
        finite = tf.reduce_all(tf.math.is_finite(figures))
        first.append(tf.cond(finite, lambda: True, lambda: _false_after(put_back)))
    # First, because an error ends what goes on beside it.
    with tf.control_dependencies(first):
        return tf.debugging.check_numerics(figures, _MESSAGE)


def _false_after(put_back: Callable[[], tf.Operation]) -> tf.Tensor:
    put_back()
    return tf.constant(False)
