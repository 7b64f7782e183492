"""Keras's Adam and SGD in fewer rows, and its Adam in fewer operations.

An embedding table, and its slots, are updated in the rows that a batch touched only. Whole
variables get from `adam` what Keras's gives them, to the last bit, but the factors that hang on
the clock alone are computed once for all of them: they are most of what Keras runs for a small
variable.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from branchline.components.branch_trainer.private_api import has_known_slots, slots_of

Pair = tuple[tf.Tensor | tf.IndexedSlices, keras.Variable]


def is_plain(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether the functions here can update `variable`: by Adam or SGD as such.

    Weight decay, averages, constraints, and clipping inside the optimizer concern all rows.

    Args:
        optimizer: of the path.
        variable: that it trains.
    """
    is_known = type(optimizer) in (keras.optimizers.Adam, keras.optimizers.SGD)
    if not is_known or not has_known_slots(optimizer):
        return False
    more = ("weight_decay", "use_ema", "clipnorm", "clipvalue", "global_clipnorm", "amsgrad")
    return variable.constraint is None and not any(getattr(optimizer, m, None) for m in more)


def sum_of_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns the same gradient with each row once."""
    rows, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def apply(optimizer: keras.optimizers.Optimizer, pairs: Sequence[Pair]) -> None:
    """Does what `optimizer.apply` does: here where that is possible, else by Keras.

    Args:
        optimizer: built.
        pairs: (gradient, variable); a sparse gradient, with each row once, only of a variable that
            is plain.
    """
    is_adam = isinstance(optimizer, keras.optimizers.Adam)
    ours = [
        (g, v)
        for g, v in pairs
        if isinstance(g, tf.IndexedSlices) or (is_adam and is_plain(optimizer, v))
    ]
    done = {id(v) for _, v in ours}
    rest = [(g, v) for g, v in pairs if id(v) not in done]
    update(optimizer, ours)
    if rest:
        optimizer.apply([g for g, _ in rest], [v for _, v in rest])
    else:
        optimizer.iterations.assign_add(1)


def update(optimizer: keras.optimizers.Optimizer, pairs: Sequence[Pair]) -> None:
    """Does what the optimizer does to variables, or to the rows of sparse gradients; counts not.

    Rows that are not touched keep their slots: momentum does not move them, and does not fade.

    Args:
        optimizer: to which all the variables are plain.
        pairs: (gradient, variable); a sparse gradient with each row once.

    Source of the updates by rows: LazyAdam of TensorFlow Addons.
    """
    by_dtype: dict[str, list[Pair]] = {}
    for gradient, variable in pairs:
        by_dtype.setdefault(variable.dtype, []).append((gradient, variable))
    update_fn = sgd if isinstance(optimizer, keras.optimizers.SGD) else adam
    for of_dtype in by_dtype.values():
        update_fn(optimizer, of_dtype)


def adam(optimizer, pairs: Sequence[Pair]) -> None:
    """Updates variables of one dtype, without counting."""
    dtype = pairs[0][1].dtype
    step = tf.cast(optimizer.iterations.value + 1, dtype)
    power_1 = tf.pow(tf.cast(optimizer.beta_1, dtype), step)
    power_2 = tf.pow(tf.cast(optimizer.beta_2, dtype), step)
    alpha = tf.cast(optimizer.learning_rate, dtype) * tf.sqrt(1 - power_2) / (1 - power_1)
    for gradient, variable in pairs:
        mean_slot, square_slot = slots_of(optimizer, variable)
        if not isinstance(gradient, tf.IndexedSlices):
            mean_slot.assign_add((gradient - mean_slot) * (1 - optimizer.beta_1))
            square_slot.assign_add((tf.square(gradient) - square_slot) * (1 - optimizer.beta_2))
            change = mean_slot * alpha / (tf.sqrt(square_slot) + optimizer.epsilon)
            variable.value.assign_sub(change)
            continue
        values, rows = gradient.values, gradient.indices
        mean, square = tf.gather(mean_slot, rows), tf.gather(square_slot, rows)
        mean += (values - mean) * (1 - optimizer.beta_1)
        square += (tf.square(values) - square) * (1 - optimizer.beta_2)
        mean_slot.scatter_update(tf.IndexedSlices(mean, rows))
        square_slot.scatter_update(tf.IndexedSlices(square, rows))
        change = mean * alpha / (tf.sqrt(square) + optimizer.epsilon)
        variable.value.scatter_sub(tf.IndexedSlices(change, rows))


def sgd(optimizer, pairs: Sequence[Pair]) -> None:
    """Updates the rows of sparse gradients, without counting."""
    for gradient, variable in pairs:
        assert isinstance(gradient, tf.IndexedSlices)
        values, rows = gradient.values, gradient.indices
        rate = tf.cast(optimizer.learning_rate, variable.dtype)
        if not optimizer.momentum:
            variable.value.scatter_sub(tf.IndexedSlices(rate * values, rows))
            continue
        (slot,) = slots_of(optimizer, variable)
        momentum = tf.gather(slot, rows) * optimizer.momentum - rate * values
        slot.scatter_update(tf.IndexedSlices(momentum, rows))
        change = optimizer.momentum * momentum - rate * values if optimizer.nesterov else momentum
        variable.value.scatter_add(tf.IndexedSlices(change, rows))
