"""Runs each branch on all rows of a batch, and selects."""

from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.added_losses import cond_with_losses
from branchline.components.branch_trainer.model.row_groups import (
    Group,
    call_group,
    check_same,
    group_of_row,
)
from branchline.components.branch_trainer.model.statistics import statistics_of


def run_multiplexed(
    name: str,
    groups: list[Group],
    inputs: Any,
    path_ids: tf.Tensor,
    num_paths: int,
    training: bool | None,
) -> Any:
    """Runs each group on all rows and selects; rows in no group are zero.

    To a group, every row that is not its own is a copy of one that is, so that what is not selected
    is finite wherever the selected is, and its gradient zero (`tf.where` alone would give NaN).

    Args:
        name: of the stage, for errors.
        groups: of paths.
        inputs: nested tensors [batch, ...].
        path_ids: int32 [batch].
        num_paths: that there are.
        training: as in Keras.

    Returns:
        Nested tensors [batch, ...].

    Raises:
        ValueError: the groups give different shapes, or one keeps statistics and `training`.
    """
    number = group_of_row(groups, path_ids, num_paths)
    if training and len(groups) > 1:
        _refuse_statistics(name, groups)
    parts = []
    for i, group in enumerate(groups):
        mine = number == i
        ends = tf.cast(tf.concat([mine, [True]], 0), tf.int32)  # a batch may have no row at all
        first = tf.minimum(tf.argmax(ends, output_type=tf.int32), tf.size(number) - 1)
        rows = tf.where(mine, tf.range(tf.size(number)), first)
        safe = tf.nest.map_structure(lambda t, rows=rows: tf.gather(t, rows), inputs)
        parts.append(
            cond_with_losses(
                tf.reduce_any(mine),
                group.layer,
                lambda group=group, safe=safe: call_group(group, safe, training),
                lambda group=group, safe=safe: _zeros_of(group, safe),
            )
        )
    check_same(name, parts)
    return tf.nest.map_structure(lambda *of_group: _select(number, of_group), *parts)


def _zeros_of(group: Group, inputs: Any) -> Any:
    blank = tf.nest.map_structure(tf.zeros_like, inputs)
    outputs = call_group(group, blank, training=False)
    return tf.nest.map_structure(lambda t: tf.zeros_like(tf.stop_gradient(t)), outputs)


def _select(number: tf.Tensor, parts: tuple) -> tf.Tensor:
    selected = tf.zeros_like(parts[0])
    for i, part in enumerate(parts):
        mine = tf.reshape(number == i, [-1] + [1] * (part.shape.rank - 1))
        selected = tf.where(mine, part, selected)
    return selected


def _refuse_statistics(name: str, groups: list[Group]) -> None:
    for group in groups:
        kept = [v.path for v in statistics_of(group.layer)]
        if kept:
            raise ValueError(
                f"{name!r} would mix all rows into the statistics {kept}: train it on uniform "
                "batches, or make the model with mixed='partition'"
            )
