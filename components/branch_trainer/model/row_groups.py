"""Groups of rows that do the same at one stage of a model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Group(NamedTuple):
    """Paths that do the same at one stage.

    Attributes:
        layer: what they run.
        select: takes what it needs out of the inputs.
        path_ids: of the paths.
    """

    layer: keras.Layer
    select: Callable[[Any], Any]
    path_ids: list[int]


def call_group(group: Group, inputs: Any, training: bool | None) -> Any:
    """Runs a group's layer on what it takes of the inputs; `training` as in Keras."""
    # Always: layers inside take the value that was last given to any layer of the model's call.
    return group.layer(group.select(inputs), training=training)


def group_of_row(groups: list[Group], path_ids: tf.Tensor, num_paths: int) -> tf.Tensor:
    """Returns int32 [batch]: the number of the group that a row is in, or their count if none."""
    group_of = {path: number for number, group in enumerate(groups) for path in group.path_ids}
    table = [group_of.get(path, len(groups)) for path in range(num_paths)]
    return path_ids if table == list(range(num_paths)) else tf.gather(tf.constant(table), path_ids)


def check_same(name: str, parts: list) -> None:
    """Checks that all groups of a stage give the same dtypes and shapes.

    Raises:
        ValueError: they do not; names the stage.
    """
    kinds = [[(t.dtype.name, str(t.shape[1:])) for t in tf.nest.flatten(part)] for part in parts]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(
            f"The branches at {name!r} give {kinds}; a mixed batch needs the same shape and dtype"
        )
