"""Counts the rows of a batch from which heads learn."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.step.losses import has_label


def label_counts(heads: Sequence[Head], labels: Any, rows: tf.Tensor) -> tf.Tensor:
    """Counts the rows from which each head learns: those that have its label.

    Args:
        heads: whose labels to look at.
        labels: label tensor [batch, ...] or nested dict of them.
        rows: bool [batch], those to count.

    Returns:
        float32 [heads].
    """
    counts = []
    for head in heads:
        present = has_label(head, labels)
        taken = rows if present is None else rows & present
        counts.append(tf.reduce_sum(tf.cast(taken, tf.float32)))
    return tf.stack(counts)
