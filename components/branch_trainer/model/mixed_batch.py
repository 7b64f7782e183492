"""Computes a batch whose rows take different paths through one model."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.added_losses import cond_with_losses
from branchline.components.branch_trainer.model.layer_state import statistics_of
from branchline.components.branch_trainer.model.parts import Head, Switch

if TYPE_CHECKING:
    from branchline.components.branch_trainer.model.branched_model import BranchedModel

_PLAIN = (
    keras.layers.Dense,
    keras.layers.Embedding,
    keras.layers.Flatten,
    keras.layers.Activation,
    keras.layers.Identity,
)


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
        return _call(groups[0], inputs, training)  # all rows do the same
    run = run_partitioned if model.mixed == "partition" else run_multiplexed
    return run(name, groups, inputs, path_ids, training)


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


def _call(group: Group, inputs: Any, training: bool | None) -> Any:
    # Always: layers inside take the value that was last given to any layer of the model's call.
    return group.layer(group.select(inputs), training=training)


def _group_of_row(groups: list[Group], path_ids: tf.Tensor) -> tf.Tensor:
    """Returns int32 [batch]: the number of the group that a row is in, or their count if none."""
    group_of = {path: number for number, group in enumerate(groups) for path in group.path_ids}
    table = [group_of.get(path, len(groups)) for path in range(max(group_of) + 1)]
    # Paths behind the table's end are in no group either.
    return tf.gather(tf.constant([*table, len(groups)]), tf.minimum(path_ids, len(table)))


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
    outputs = _call(group, one_row, training=False)
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
    name: str, groups: list[Group], inputs: Any, path_ids: tf.Tensor, training: bool | None
) -> Any:
    """Runs each group on its own rows and puts them back in order; rows in no group are zero.

    Args:
        name: of the stage, for errors.
        groups: of paths.
        inputs: nested tensors [batch, ...].
        path_ids: int32 [batch].
        training: as in Keras.

    Returns:
        Nested tensors [batch, ...].

    Raises:
        ValueError: the groups give different shapes.
    """
    number = _group_of_row(groups, path_ids)
    rows = tf.dynamic_partition(tf.range(tf.size(number)), number, len(groups) + 1)
    parts = []
    for group, mine in zip(groups, rows, strict=False):
        taken = tf.nest.map_structure(lambda t, mine=mine: tf.gather(t, mine), inputs)
        if _runs_without_rows(group.layer):
            parts.append(_call(group, taken, training))
            continue
        parts.append(
            cond_with_losses(
                tf.size(mine) > 0,
                group.layer,
                lambda group=group, taken=taken: _call(group, taken, training),
                lambda group=group: _without_rows(group, inputs),
            )
        )
    _check_same(name, parts)
    parts.append(
        tf.nest.map_structure(
            lambda t: tf.zeros(tf.concat([[tf.size(rows[-1])], tf.shape(t)[1:]], 0), t.dtype),
            parts[0],
        )
    )
    return tf.nest.map_structure(lambda *of_part: tf.dynamic_stitch(rows, of_part), *parts)


def run_multiplexed(
    name: str, groups: list[Group], inputs: Any, path_ids: tf.Tensor, training: bool | None
) -> Any:
    """Runs each group on all rows and selects; rows in no group are zero.

    To a group, every row that is not its own is a copy of one that is, so that what is not selected
    is finite wherever the selected is, and its gradient zero (`tf.where` alone would give NaN).

    Args:
        name: of the stage, for errors.
        groups: of paths.
        inputs: nested tensors [batch, ...].
        path_ids: int32 [batch].
        training: as in Keras.

    Returns:
        Nested tensors [batch, ...].

    Raises:
        ValueError: the groups give different shapes, or one keeps statistics and `training`.
    """
    number = _group_of_row(groups, path_ids)
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
                lambda group=group, safe=safe: _call(group, safe, training),
                lambda group=group, safe=safe: _zeros_of(group, safe),
            )
        )
    _check_same(name, parts)
    return tf.nest.map_structure(lambda *of_group: _select(number, of_group), *parts)


def _zeros_of(group: Group, inputs: Any) -> Any:
    blank = tf.nest.map_structure(tf.zeros_like, inputs)
    outputs = _call(group, blank, training=False)
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


def _check_same(name: str, parts: list) -> None:
    kinds = [[(t.dtype.name, str(t.shape[1:])) for t in tf.nest.flatten(part)] for part in parts]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(
            f"The branches at {name!r} give {kinds}; a mixed batch needs the same shape and dtype"
        )
