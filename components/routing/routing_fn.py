"""Compiles a routing table to TensorFlow operations; the one definition of routing.

The Router runs it on batches of records, the exported model on what it is asked.
"""

from functools import reduce

import tensorflow as tf

from branchline.components.routing.parse_batch import DTYPE_CODES, FLOAT, INT, STRING, Column
from branchline.schemas import RoutingTable
from branchline.schemas import conditions as when


def route_index(table: RoutingTable, columns: dict[str, Column]) -> tf.Tensor:
    """Finds the first route that takes each example.

    Args:
        table: The routes, in order.
        columns: Parsed values of at least the keys that the conditions read.

    Returns:
        int32 [batch], an index into `table.routes`, -1 where no route matches.
    """
    held = tf.stack([holds(route.condition, columns) for route in table.routes], axis=1)
    first = tf.argmax(tf.cast(held, tf.int32), axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_any(held, axis=1), first, -1)


@tf.autograph.experimental.do_not_convert  # AutoGraph does not know match statements
def holds(condition: when.Condition, columns: dict[str, Column]) -> tf.Tensor:
    """Evaluates a condition: bool [batch]."""
    match condition:
        case when.Present(key):
            return columns[key].size > 0
        case when.DType(key, dtype):
            return tf.equal(columns[key].dtype, DTYPE_CODES[dtype])
        case when.IsIn(key, values):
            return reduce(tf.logical_or, [_equals(columns[key], value) for value in values])
        case when.Greater(key, value):
            return _compare(tf.greater, columns[key], value)
        case when.Less(key, value):
            return _compare(tf.less, columns[key], value)
        case when.All(conditions):
            return reduce(tf.logical_and, [holds(each, columns) for each in conditions])
        case when.Any(conditions):
            return reduce(tf.logical_or, [holds(each, columns) for each in conditions])
        case when.Not(inner):
            return tf.logical_not(holds(inner, columns))
    raise TypeError(f"no rule for the condition {condition!r}")


def _one(column: Column, dtype: int) -> tf.Tensor:
    return tf.equal(column.dtype, dtype) & tf.equal(column.size, 1)


def _equals(column: Column, value: when.Scalar) -> tf.Tensor:
    if isinstance(value, str):
        return _one(column, STRING) & tf.equal(column.strings[:, 0], value.encode())
    return _compare(tf.equal, column, value)


def _compare(operation, column: Column, value: float) -> tf.Tensor:
    """Compares whole numbers with whole numbers exactly, floats as the float32 they are stored as.

    0.1 in a recipe and 0.1 in a record are then the same number.
    """
    of_floats = operation(column.floats[:, 0], tf.constant(value, tf.float32))
    if isinstance(value, int):
        of_ints = operation(column.ints[:, 0], tf.constant(int(value), tf.int64))
    else:
        of_ints = operation(tf.cast(column.ints[:, 0], tf.float64), tf.constant(value, tf.float64))
    return (_one(column, FLOAT) & of_floats) | (_one(column, INT) & of_ints)
