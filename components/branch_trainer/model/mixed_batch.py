"""Computes a batch whose rows take different paths through one model."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.parts import Switch

if TYPE_CHECKING:
    from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.multiplexed import run_multiplexed
from branchline.components.branch_trainer.model.partitioned import run_partitioned
from branchline.components.branch_trainer.model.row_groups import Group, call_group


def run_mixed(
    model: "BranchedModel", features: Any, path_ids: tf.Tensor, training: bool | None
) -> dict[str, tf.Tensor]:
    """Runs every row on its own path.

    A branch sees the rows that take it and no others. One without rows is not run as in training,
    so its BatchNormalization keeps its statistics.

    Args:
        model: whose branches at one switch all give the same shape and dtype.
        features: nested dict of dense or ragged tensors [batch, ...]; rows hold any value in keys
            that their path does not take.
        path_ids: int [batch], positions in `model.paths`.
        training: as in Keras.

    Returns:
        Head name → output [batch, ...], zero in rows of paths without that head.

    Raises:
        ValueError: the branches of a switch give different shapes, or layers with statistics are
            to be trained on a multiplexed batch.
        tf.errors.InvalidArgumentError: a path id is out of range.
    """
    with tf.control_dependencies(_checks(path_ids, len(model.paths))):
        path_ids = tf.cast(path_ids, tf.int32)
    x = features
    for number, stage in enumerate(model.stages):
        groups = _groups(model, stage, first=number == 0)
        x = _run(model, stage.name, groups, x, path_ids, training)
    outputs = {}
    for head in model.heads:
        ids = [i for i, path in enumerate(model.paths) if head in model.heads_of(path)]
        if ids:
            groups = [Group(head, _everything, ids)]
            outputs[head.name] = _run(model, head.name, groups, x, path_ids, training)
    return outputs


def _run(
    model: "BranchedModel",
    name: str,
    groups: list[Group],
    inputs: Any,
    path_ids: tf.Tensor,
    training: bool | None,
) -> Any:
    if path_ids.shape[0] and len(groups[0].path_ids) == len(model.paths):
        return call_group(groups[0], inputs, training)  # all rows do the same
    run = run_partitioned if model.mixed == "partition" else run_multiplexed
    return run(name, groups, inputs, path_ids, len(model.paths), training)


def _checks(path_ids: tf.Tensor, num_paths: int) -> list:
    message = f"A path id is out of range; the model has {num_paths} paths, the ids are"
    in_range = tf.reduce_all((path_ids >= 0) & (path_ids < num_paths))
    check = tf.debugging.Assert(in_range, [message, path_ids], summarize=1000)
    return [] if check is None else [check]


def _everything(inputs: Any) -> Any:
    return inputs


def _groups(model: "BranchedModel", stage: keras.Layer, *, first: bool) -> list[Group]:
    groups: dict[tuple, Group] = {}
    for i, path in enumerate(model.paths.values()):
        is_switch = isinstance(stage, Switch)
        layer = stage.branches[path.choices[stage.name]] if is_switch else stage
        select = path.select if first else _everything
        key = (id(layer), str(path.features) if first else None)
        groups.setdefault(key, Group(layer, select, [])).path_ids.append(i)
    return list(groups.values())
