"""Heads whose labels may be missing: without one in a batch they learn nothing, and stay."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.step.losses import has_label


def heads_alone(heads: Sequence[Head], others: Iterable[keras.Layer]) -> dict[int, tuple[int, ...]]:
    """Finds the variables that can be in a step without having a part in its loss.

    Args:
        heads: of the paths that the step computes.
        others: layers that have a part in every loss.

    Returns:
        id of a variable → positions of the heads that it is part of; only variables for whose
        heads, each of them, labels may be missing, and that are not in `others`.
    """
    always = {id(v) for layer in others for v in layer.trainable_variables}
    places: dict[int, tuple[int, ...]] = {}
    for place, head in enumerate(heads):
        for variable in head.layer.trainable_variables:
            places[id(variable)] = (*places.get(id(variable), ()), place)
            if head.missing is None:
                always.add(id(variable))
    return {key: of_variable for key, of_variable in places.items() if key not in always}


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
