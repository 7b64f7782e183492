"""Weights of routed examples: how much each counts in the losses of its route."""

import tensorflow as tf


def dense_weight(values: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    """Gives a weight its shape [batch], float32.

    Args:
        values: [batch, width], one value a row.

    Raises:
        tf.errors.InvalidArgumentError: A row has none or several, or one that is negative, NaN or
            infinite.
    """
    if isinstance(values, tf.SparseTensor):
        num_rows, weights = values.dense_shape[0], values.values
        # As many values as rows, and each the first of its row.
        one_each = tf.equal(tf.size(weights, tf.int64), num_rows)
        one_each &= tf.reduce_all(tf.equal(values.indices[:, 1], 0))
    else:
        one_each, weights = values.shape[1:].num_elements() == 1, tf.reshape(values, [-1])
    weights = tf.cast(weights, tf.float32)
    fine = tf.math.is_finite(weights) & (weights >= 0)
    expected = "expected one weight a row, a finite number from 0 on"
    checks = [
        tf.debugging.Assert(one_each, [expected]),
        tf.debugging.Assert(tf.reduce_all(fine), [expected, weights]),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(weights)
