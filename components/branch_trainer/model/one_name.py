"""Makes variables in half of the time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


@contextmanager
def one_name() -> Iterator[None]:
    """Gives all variables that are made meanwhile one name in TensorFlow; Keras's stay as they are.

    TensorFlow makes a kernel for every name of a variable, which takes as long as all the rest.
    Variables of a distribution strategy, which tells its variables apart by name, are left alone.
    """
    with tf.variable_creator_scope(_create):
        yield


def _create(next_creator: Callable[..., Any], **options: Any) -> Any:
    if tf.distribute.has_strategy():
        return next_creator(**options)
    with tf.name_scope("branchline/"):  # with the slash it stands for the whole name so far
        return next_creator(**options | {"name": "variable"})
