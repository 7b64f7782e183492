"""Losses that compare the rows of a batch with each other."""

from typing import Any

import keras
import tensorflow as tf


class ContrastiveLoss(keras.losses.Loss):
    """A loss per example that depends on the other examples of the batch, and on the head's layer.

    A head calls `in_batch`. Rows without a label, and in mixed batches those of other heads, must
    change nothing. What a batch is, is what runs at once: with accumulation a part of it, with a
    strategy a replica's share.
    """

    def in_batch(
        self, label: tf.Tensor, output: tf.Tensor, *, rows: tf.Tensor | None, layer: keras.Layer
    ) -> tf.Tensor:
        """Returns losses, float [batch].

        Args:
            label: [batch, ...]; what a row without one has means nothing.
            output: of the head, [batch, ...].
            rows: bool [batch], those that count; None: all.
            layer: the head's, with its weights.
        """
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Is not called: a loss of labels and outputs alone needs no class of its own."""
        raise TypeError(f"{type(self).__name__} needs a Head, whose layer it reads")
