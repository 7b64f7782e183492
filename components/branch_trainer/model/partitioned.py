"""Runs each branch on its own rows of a batch."""

from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.added_losses import cond_with_losses
from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.model.row_groups import (
    Group,
    call_group,
    check_same,
    group_of_row,
)

_PLAIN = (
    keras.layers.Dense,
    keras.layers.Embedding,
    keras.layers.Flatten,
    keras.layers.Activation,
    keras.layers.Identity,
)


def _runs_without_rows(layer: keras.Layer) -> bool:
    """Returns whether a layer is known to run on no rows, and to keep no statistics of them."""
    if isinstance(layer, Head):
        return _runs_without_rows(layer.layer)
    if type(layer) is keras.Sequential:
        return all(map(_runs_without_rows, layer.layers))
    return isinstance(layer, _PLAIN)


def _without_rows(group: Group, inputs: Any) -> Any:
    """Returns outputs [0, ...], by inference on a made-up row: only their shape counts.

    The row is as long as those of the batch, in dimensions of any size, so that the outputs are as
    long as those of other branches.
    """
    one_row = tf.nest.map_structure(_blank_row, inputs)
    outputs = call_group(group, one_row, training=False)
    return tf.nest.map_structure(lambda t: tf.stop_gradient(t)[:0], outputs)


def _blank_row(tensor: tf.Tensor) -> tf.Tensor:
    if isinstance(tensor, tf.RaggedTensor):
        row = tf.zeros([1] * tensor.shape.rank, tensor.dtype)
        return tf.RaggedTensor.from_tensor(row)  # pyright: ignore[reportAttributeAccessIssue]
    sizes = tf.shape(tensor)
    known = [sizes[i] if size is None else size for i, size in enumerate(tensor.shape)]
    row = tf.zeros([1, *known[1:]], tensor.dtype)
    row.set_shape([1, *tensor.shape[1:]])
    return row


def run_partitioned(
    name: str,
    groups: list[Group],
    inputs: Any,
    path_ids: tf.Tensor,
    num_paths: int,
    training: bool | None,
) -> Any:
    """Runs each group on its own rows and puts them back in order; rows in no group are zero.

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
        ValueError: the groups give different shapes.
    """
    number = group_of_row(groups, path_ids, num_paths)
    some_in_none = sum(len(group.path_ids) for group in groups) < num_paths
    rows = tf.dynamic_partition(tf.range(tf.size(number)), number, len(groups) + some_in_none)
    parts = []
    for group, mine in zip(groups, rows, strict=False):
        taken = tf.nest.map_structure(lambda t, mine=mine: tf.gather(t, mine), inputs)
        if _runs_without_rows(group.layer):
            parts.append(call_group(group, taken, training))
            continue
        parts.append(
            cond_with_losses(
                tf.size(mine) > 0,
                group.layer,
                lambda group=group, taken=taken: call_group(group, taken, training),
                lambda group=group: _without_rows(group, inputs),
            )
        )
    check_same(name, parts)
    if some_in_none:
        parts.append(
            tf.nest.map_structure(
                lambda t: tf.zeros(tf.concat([[tf.size(rows[-1])], tf.shape(t)[1:]], 0), t.dtype),
                parts[0],
            )
        )
    return tf.nest.map_structure(lambda *of_part: tf.dynamic_stitch(rows, of_part), *parts)
