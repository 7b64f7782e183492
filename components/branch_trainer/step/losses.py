"""Losses of a path: a mean over the rows that have a label, per head, weighted and summed."""

import math
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.contrastive_loss import ContrastiveLoss
from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.step.in_replica import (
    num_replicas,
    over_replicas,
)


def label_of(head: Head, labels: Any) -> Any:
    """Returns the head's label: `labels` itself, or its entry under the head's key.

    Raises:
        KeyError: the entry is absent; names those there are.
    """
    if not isinstance(labels, dict):
        return labels
    for key in [head.label] if isinstance(head.label, str) else head.label:
        if key not in labels:
            raise KeyError(
                f"Head {head.name!r} needs the label {key!r}; there are {sorted(labels)}"
            )
        labels = labels[key]
    return labels


def rows_with_label(label: tf.Tensor, missing: float) -> tf.Tensor:
    """Returns bool [batch]: no entry of the row's label is the `missing` value.

    Args:
        label: [batch, ...].
        missing: the value, NaN included.
    """
    present = tf.logical_not(tf.math.is_nan(label)) if math.isnan(missing) else label != missing
    return tf.reduce_all(tf.reshape(present, [tf.shape(label)[0], -1]), axis=1)


def has_label(head: Head, labels: Any) -> tf.Tensor | None:
    """Returns bool [batch]; None where no label can be missing."""
    if head.missing is None:
        return None
    return rows_with_label(tf.convert_to_tensor(label_of(head, labels)), head.missing)


def like_rows(values: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns values [batch, …] with dimensions of size 1 behind, so that they are `rank`."""
    return tf.reshape(values, tf.concat([tf.shape(values), [1] * (rank - values.shape.rank)], 0))


def _as_float(values: tf.Tensor) -> tf.Tensor:
    return values if values.dtype == tf.float64 else tf.cast(values, tf.float32)


def head_loss(
    head: Head,
    labels: Any,
    output: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    rows: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the mean loss of one head over the rows that have its label.

    As in Keras, `sample_weight` multiplies each loss and does not enter the divisor.

    Args:
        head: whose loss to compute.
        labels: label tensor [batch, ...] or nested dict of them.
        output: of the head, [batch, ...].
        sample_weight: float [batch] or [batch, ...], as far as the loss per example has dimensions.
        rows: bool [batch], those that count as having a label; None: all.

    Returns:
        float32 []; 0 if no row has a label.

    Raises:
        KeyError: the label is absent.
        ValueError: label and output do not fit the loss, or a loss that is one number for the batch
            meets missing labels, weights or several replicas.
    """
    losses, present = head_losses(head, labels, output, rows)
    if losses.shape.rank == 0 and num_replicas() > 1:
        raise ValueError(
            f"Loss of head {head.name!r} is one number for the batch, which the replicas of a "
            "strategy cannot put together; it has to give a loss per example, [batch, ...]"
        )
    if present is not None or sample_weight is not None:
        losses = weighted_losses(head, losses, present, sample_weight)
    entries = tf.cast(tf.size(losses), tf.float32)
    if present is not None:
        present = tf.cast(present, tf.float32)
        num_rows = tf.cast(tf.size(present), tf.float32)
        # Not times their mean, which is NaN for no rows at all.
        entries *= tf.math.divide_no_nan(tf.reduce_sum(present), num_rows)
    return tf.math.divide_no_nan(tf.reduce_sum(losses), over_replicas(entries))


def head_losses(
    head: Head, labels: Any, output: tf.Tensor, rows: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns losses [batch, ...] (or [] if the loss is made so) and which rows have a label.

    Args:
        head: whose losses to compute.
        labels: label tensor [batch, ...] or nested dict of them.
        output: of the head, [batch, ...].
        rows: bool [batch], those that count as having a label; None: all.
    """
    label = tf.convert_to_tensor(label_of(head, labels))
    present = has_label(head, labels)
    if present is not None:
        label = tf.where(like_rows(present, label.shape.rank), label, tf.zeros_like(label))
    if rows is not None:
        present = rows if present is None else rows & present
    loss_fn: Any = head.loss.call if isinstance(head.loss, keras.losses.Loss) else head.loss
    if isinstance(head.loss, ContrastiveLoss):
        loss_fn = partial(head.loss.in_batch, rows=present, layer=head.layer)
    try:
        losses = tf.convert_to_tensor(loss_fn(label, _as_float(output)))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Loss of head {head.name!r} does not fit: label {label.dtype.name} {label.shape}, "
            f"output {output.dtype.name} {output.shape}: {error}"
        ) from error
    return tf.cast(losses, tf.float32), present


def weighted_losses(
    head: Head, losses: tf.Tensor, present: tf.Tensor | None, weight: tf.Tensor | None
) -> tf.Tensor:
    """Returns losses [batch, ...] times weights, 0 where there is no label."""
    if losses.shape.rank == 0:
        raise ValueError(
            f"Loss of head {head.name!r} is one number for the batch; with missing labels, "
            "sample_weight or a gate it has to give a loss per example, [batch, ...]"
        )
    if weight is not None:
        losses *= like_rows(tf.cast(weight, tf.float32), losses.shape.rank)
    if present is not None:
        losses = tf.where(like_rows(present, losses.shape.rank), losses, 0.0)
    return losses
