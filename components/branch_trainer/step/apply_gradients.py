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


def sum_of_table(gradient: tf.IndexedSlices, num_rows: int) -> tf.IndexedSlices:
    """Returns the same gradient with a place for each row of a table, in their order.

    A row without a gradient has the number `num_rows`, which no row has. For a table that is not
    much larger than the batch this is quicker than to look for the rows. Only in a graph, where
    `update` can tell it from `sum_of_rows`.
    """
    indices = gradient.indices
    values = tf.math.unsorted_segment_sum(gradient.values, indices, num_rows)
    touched = tf.math.unsorted_segment_sum(tf.ones_like(indices), indices, num_rows) > 0
    numbers = tf.where(touched, tf.range(num_rows, dtype=indices.dtype), num_rows)
    return tf.IndexedSlices(values, numbers, gradient.dense_shape)


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
        rows, values = _Rows(gradient, variable), gradient.values
        mean, square = rows.of(mean_slot), rows.of(square_slot)
        mean += (values - mean) * (1 - optimizer.beta_1)
        square += (tf.square(values) - square) * (1 - optimizer.beta_2)
        rows.write(mean_slot, mean)
        rows.write(square_slot, square)
        change = mean * alpha / (tf.sqrt(square) + optimizer.epsilon)
        rows.write(variable.value, rows.of(variable.value) - change)


def sgd(optimizer, pairs: Sequence[Pair]) -> None:
    """Updates the rows of sparse gradients, without counting."""
    for gradient, variable in pairs:
        assert isinstance(gradient, tf.IndexedSlices)
        rows = _Rows(gradient, variable)
        rate = tf.cast(optimizer.learning_rate, variable.dtype)
        change = -rate * gradient.values
        if optimizer.momentum:
            (slot,) = slots_of(optimizer, variable)
            momentum = rows.of(slot) * optimizer.momentum + change
            rows.write(slot, momentum)
            change = optimizer.momentum * momentum + change if optimizer.nesterov else momentum
        rows.write(variable.value, rows.of(variable.value) + change)


class _Rows:
    """The rows of a table and of its slots that a gradient is about."""

    def __init__(self, gradient: tf.IndexedSlices, table: keras.Variable):
        self._numbers, self._touched = gradient.indices, None
        # In a graph, it is not known how many rows `tf.unique` finds.
        if not tf.executing_eagerly() and gradient.indices.shape[0] is not None:
            touched = tf.less(gradient.indices, table.shape[0])
            self._touched = tf.reshape(touched, [-1] + [1] * (len(table.shape) - 1))

    def of(self, slot: tf.Variable) -> tf.Tensor:
        return tf.gather(slot, self._numbers) if self._touched is None else slot.read_value()

    def write(self, slot: tf.Variable, values: tf.Tensor) -> None:
        if self._touched is None:
            slot.scatter_update(tf.IndexedSlices(values, self._numbers))
        else:
            slot.assign(tf.where(self._touched, values, slot))
