"""What a step that failed is told as: with its path, its place and its batch."""

import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


def told_failure(error: Any, path: str, step: int, batch: Any) -> tf.errors.OpError:
    """Returns what TensorFlow raised with step, path and batch in its message.

    Args:
        error: what TensorFlow raised.
        path: whose step or stream it was.
        step: steps taken before.
        batch: of the step; None: the stream could not be read.
    """
    if batch is None:
        told = f"The stream of path {path!r} could not be read on"
        what = "expected batches that its dataset can make; look at what it reads and maps"
    else:
        told = f"A step on path {path!r} failed"
        what = (
            f"Its batch, which failed_batch({path!r}) returns: {'; '.join(describe_batch(batch))}. "
            "Are all labels below the number of classes and all ids below the table's size?"
        )
    # Without the calls by which the graph was made, which the error that it is raised from has.
    cause = re.sub(r'\n  File "[^\n]*|\n(?=\n)', "", error.message)
    message = f"{told} after {step} steps: {cause}\n{what}"
    return type(error)(error.node_def, error.op, message)


def describe_batch(batch: Any, name: str = "") -> Iterator[str]:
    """Tells of each tensor of a batch its dtype, shape, and least and greatest number.

    >>> list(describe_batch(({"x": tf.constant([[3], [9]])}, tf.constant([0.5, 1.0]))))
    ["[0]['x'] int32 [2, 1] from 3 to 9", '[1] float32 [2] from 0.5 to 1.0']
    """
    if isinstance(batch, dict):
        for key, value in batch.items():
            yield from describe_batch(value, f"{name}[{key!r}]")
    elif isinstance(batch, list | tuple):
        for number, value in enumerate(batch):
            yield from describe_batch(value, f"{name}[{number}]")
    else:
        told = f"{name} {batch.dtype.name} {list(batch.shape)}"
        numbers = isinstance(batch, tf.Tensor) and (
            batch.dtype.is_integer or batch.dtype.is_floating
        )
        if numbers and tf.size(batch) > 0:
            told += f" from {tf.reduce_min(batch).numpy()} to {tf.reduce_max(batch).numpy()}"
        yield told
