"""Losses of a mixed batch: of all its rows together, or of those of each path."""

import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.step.in_replica import share_of_replica
from branchline.components.branch_trainer.step.losses import head_loss, like_rows


def mixed_loss(model: BranchedModel, batch: tuple, *, training: bool) -> tf.Tensor:
    """Runs a mixed batch and returns its loss: each head's mean over its rows, weighted and summed.

    Args:
        model: the model.
        batch: ((features, path ids int [batch]), labels) and perhaps sample_weight.
        training: whether layers run as in training.

    Returns:
        float32 [].

    Raises:
        KeyError, ValueError: as `head_loss`.
    """
    (features, path_ids), labels, *rest = batch
    outputs = model(features, path=path_ids, training=training)
    return _heads_loss(model, outputs, labels, path_ids, *rest) + _penalties(model)


def route_losses(model: BranchedModel, batch: tuple, *, training: bool) -> list[tf.Tensor]:
    """Runs a mixed batch and returns what the rows of each path give to its loss.

    Args:
        model: the model.
        batch: as of `mixed_loss`.
        training: whether layers run as in training.

    Returns:
        float32 [] for each path, in order, and the layers' own losses last. Their sum is
        `mixed_loss`.

    Raises:
        KeyError, ValueError: as `head_loss`; each loss has to be one per example.
    """
    (features, path_ids), labels, *rest = batch
    outputs = model(features, path=path_ids, training=training)
    parts = []
    for number in range(len(model.paths)):
        weight = tf.cast(tf.cast(path_ids, tf.int32) == number, tf.float32)
        if rest:
            given = tf.cast(rest[0], tf.float32)
            weight = like_rows(weight, given.shape.rank) * given
        parts.append(_heads_loss(model, outputs, labels, path_ids, weight))
    return [*parts, _penalties(model)]


def route_means(
    model: BranchedModel, batch: tuple, *, training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs a mixed batch and returns its loss, and each path's as if its rows were a batch.

    Args:
        model: the model.
        batch: as of `mixed_loss`.
        training: whether layers run as in training.

    Returns:
        `mixed_loss`, float32 []; the paths' losses without the layers' own, float32 [paths], 0 for
        a path without rows; the layers' own, float32 [].

    Raises:
        KeyError, ValueError: as `head_loss`; each loss has to be one per example.
    """
    (features, path_ids), labels, *rest = batch
    outputs = model(features, path=path_ids, training=training)
    weight = rest[0] if rest else None
    means = []
    for number, path in enumerate(model.paths):
        rows = tf.cast(path_ids, tf.int32) == number
        of_heads = [
            head.loss_weight * head_loss(head, labels, outputs[head.name], weight, rows)
            for head in model.heads_of(path)
        ]
        means.append(tf.add_n(of_heads))
    penalties = _penalties(model)
    loss = _heads_loss(model, outputs, labels, path_ids, *rest) + penalties
    return loss, tf.stack(means), penalties


def rows_of_head(model: BranchedModel, head: Head, path_ids: tf.Tensor) -> tf.Tensor | None:
    """Returns which rows of a mixed batch take a path with the head, bool [batch]; None: all."""
    used_by = [i for i, path in enumerate(model.paths) if head in model.heads_of(path)]
    if len(used_by) == len(model.paths):
        return None
    return tf.reduce_any(tf.cast(path_ids, tf.int32)[:, None] == used_by, axis=1)


def _heads_loss(model, outputs, labels, path_ids, weight=None) -> tf.Tensor:
    total = tf.constant(0.0)
    for head in model.heads:
        if head.name not in outputs:
            continue
        rows = rows_of_head(model, head, path_ids)
        total += head.loss_weight * head_loss(head, labels, outputs[head.name], weight, rows)
    return total


def _penalties(model: BranchedModel) -> tf.Tensor:
    losses = [share_of_replica(tf.cast(loss, tf.float32)) for loss in model.losses]
    return tf.add_n([tf.constant(0.0), *losses])
