"""The loss of a batch: of all its rows together, of those of each path, or of each example."""

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.step.in_replica import share_of_replica
from branchline.components.branch_trainer.step.losses import (
    head_loss,
    head_losses,
    like_rows,
    weighted_losses,
)
from branchline.components.branch_trainer.streams.seekable import rows_of


def batch_loss(
    model: BranchedModel,
    path: str | None,
    batch: tuple,
    *,
    training: bool,
    frozen: tuple[str, ...] = (),
) -> tf.Tensor:
    """Runs a batch and returns its loss: each head's mean over its rows, weighted and summed.

    The layers' own losses, such as penalties on weights, are in it.

    Args:
        model: the model.
        path: that all rows take; None: of a mixed batch.
        batch: (features, labels) and perhaps sample_weight; of a mixed batch, features are a pair
            (features, path ids int [batch]).
        training: whether layers run as in training.
        frozen: parts that run as in inference.

    Returns:
        float32 [].

    Raises:
        KeyError, ValueError: as `head_loss`.
    """
    features, labels, *rest = batch
    if path is None:
        features, path_ids = features
        outputs = model(features, path=path_ids, training=training, frozen=frozen)
        return _sum([_heads_loss(model, outputs, labels, path_ids, *rest), *_penalties(model)])
    outputs = model(features, path=path, training=training, frozen=frozen)
    losses = [
        head.loss_weight * head_loss(head, labels, outputs[head.name], *rest)
        for head in model.heads_of(path)
    ]
    # Of the path's layers only: model.losses would add the penalties of branches that did not run.
    return _sum([_sum(losses), *_penalties(*model.parts_of(path).values())])


def route_losses(model: BranchedModel, batch: tuple, *, training: bool) -> list[tf.Tensor]:
    """Runs a mixed batch and returns what the rows of each path give to its loss.

    Args:
        model: the model.
        batch: as of `batch_loss`.
        training: whether layers run as in training.

    Returns:
        float32 [] for each path, in order, and the layers' own losses last. Their sum is
        `batch_loss`.

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
    return [*parts, _penalty(model)]


def route_means(
    model: BranchedModel, batch: tuple, *, training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs a mixed batch and returns its loss, and each path's as if its rows were a batch.

    Args:
        model: the model.
        batch: as of `batch_loss`.
        training: whether layers run as in training.

    Returns:
        `batch_loss`, float32 []; the paths' losses without the layers' own, float32 [paths], 0 for
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
    penalty = _penalty(model)
    loss = _heads_loss(model, outputs, labels, path_ids, *rest) + penalty
    return loss, tf.stack(means), penalty


def rows_of_head(model: BranchedModel, head: Head, path_ids: tf.Tensor) -> tf.Tensor | None:
    """Returns which rows of a mixed batch take a path with the head, bool [batch]; None: all."""
    used_by = [i for i, path in enumerate(model.paths) if head in model.heads_of(path)]
    if len(used_by) == len(model.paths):
        return None
    return tf.reduce_any(tf.cast(path_ids, tf.int32)[:, None] == used_by, axis=1)


def _heads_loss(model, outputs, labels, path_ids, weight=None) -> tf.Tensor:
    losses = [
        head.loss_weight
        * head_loss(head, labels, outputs[head.name], weight, rows_of_head(model, head, path_ids))
        for head in model.heads
        if head.name in outputs
    ]
    return _sum(losses)


def _penalties(*layers: keras.Layer) -> list[tf.Tensor]:
    """Returns each loss that layers add, float32 []."""
    losses = [loss for layer in layers for loss in layer.losses]
    return [share_of_replica(tf.cast(loss, tf.float32)) for loss in losses]


def _penalty(model: BranchedModel) -> tf.Tensor:
    """Returns the sum of what all layers add, float32 []; 0 where none does."""
    return tf.add_n([tf.constant(0.0), *_penalties(model)])


def _sum(losses: list[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(losses) if len(losses) > 1 else losses[0]


def example_losses(model: BranchedModel, path: str, batch: tuple) -> tf.Tensor:
    """Returns the loss of each example, in inference: heads weighted and summed.

    Args:
        model: the model.
        path: name of the path that all rows take.
        batch: (features, labels) or (features, labels, sample_weight).

    Returns:
        float32 [batch].
    """
    features, labels, *rest = batch
    outputs = model(features, path=path, training=False)
    total = tf.zeros([rows_of(batch)])
    for head in model.heads_of(path):
        losses, present = head_losses(head, labels, outputs[head.name])
        losses = weighted_losses(head, losses, present, *rest or [None])
        per_row = tf.reduce_mean(tf.reshape(losses, [rows_of(batch), -1]), axis=1)
        total += head.loss_weight * per_row
    return total
