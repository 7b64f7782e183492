"""Updates embedding tables, and their slots, in the rows that a batch touched only."""

import keras
import tensorflow as tf


def updates_rows(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether rows of `variable` can be updated alone, that is: by Adam or SGD as such.

    Weight decay, averages, constraints, and clipping inside the optimizer concern all rows.

    Args:
        optimizer: of the path.
        variable: with a sparse gradient.
    """
    if type(optimizer) not in (keras.optimizers.Adam, keras.optimizers.SGD):
        return False
    whole = ("weight_decay", "use_ema", "clipnorm", "clipvalue", "global_clipnorm", "amsgrad")
    return variable.constraint is None and not any(getattr(optimizer, w, None) for w in whole)


def sum_of_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns the same gradient with each row once."""
    rows, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def update_rows(
    optimizer: keras.optimizers.Optimizer, gradient: tf.IndexedSlices, variable: keras.Variable
) -> None:
    """Does to the rows of `gradient` what the optimizer does to a variable; call before it counts.

    Rows that are not touched keep their slots: momentum does not move them, and does not fade.

    Args:
        optimizer: one that `updates_rows`.
        gradient: each row once.
        variable: the table [vocabulary, width].

    Source: LazyAdam of TensorFlow Addons.
    """
    rate = tf.cast(optimizer.learning_rate, variable.dtype)
    if isinstance(optimizer, keras.optimizers.SGD):
        _sgd(optimizer, gradient, variable, rate)
    else:
        _adam(optimizer, gradient, variable, rate)


def _slot(slots: list, optimizer: keras.optimizers.Optimizer, variable: keras.Variable):
    return slots[optimizer._get_variable_index(variable)].value


def _sgd(optimizer, gradient, variable, rate) -> None:
    values, rows = gradient.values, gradient.indices
    if not optimizer.momentum:
        variable.value.scatter_sub(tf.IndexedSlices(rate * values, rows))
        return
    slot = _slot(optimizer.momentums, optimizer, variable)
    momentum = tf.gather(slot, rows) * optimizer.momentum - rate * values
    slot.scatter_update(tf.IndexedSlices(momentum, rows))
    change = optimizer.momentum * momentum - rate * values if optimizer.nesterov else momentum
    variable.value.scatter_add(tf.IndexedSlices(change, rows))


def _adam(optimizer, gradient, variable, rate) -> None:
    values, rows = gradient.values, gradient.indices
    step = tf.cast(optimizer.iterations.value + 1, variable.dtype)
    unbias = tf.sqrt(1 - optimizer.beta_2**step) / (1 - optimizer.beta_1**step)
    mean_slot = _slot(optimizer._momentums, optimizer, variable)
    square_slot = _slot(optimizer._velocities, optimizer, variable)
    mean, square = tf.gather(mean_slot, rows), tf.gather(square_slot, rows)
    mean += (values - mean) * (1 - optimizer.beta_1)
    square += (values * values - square) * (1 - optimizer.beta_2)
    mean_slot.scatter_update(tf.IndexedSlices(mean, rows))
    square_slot.scatter_update(tf.IndexedSlices(square, rows))
    change = mean * rate * unbias / (tf.sqrt(square) + optimizer.epsilon)
    variable.value.scatter_sub(tf.IndexedSlices(change, rows))
