"""The head of classes that have an order."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="branchline")
class OrderedClasses(keras.layers.Layer):
    """Proportional odds: one score of an example, and thresholds that part it into classes.

    P(class ≤ k) = sigmoid(threshold[k] − score). The thresholds increase, since each is the one
    before plus a positive gap. The output is the logarithm of each class's probability, so what
    takes logits takes it: their softmax is the probabilities, and Keras's crossentropy of logits is
    the exact negative logarithm of the likelihood.

    Before training all classes are equally probable at a score of 0.

    Args:
        num_classes: How many there are, at least 3.
        **layer: Arguments of every Keras layer.

    Source: McCullagh 1980, "Regression models for ordinal data". The weights are shared by all
    thresholds, as in CORAL (Cao, Mirjalili and Raschka 2020, arXiv:1901.07884).
    """

    def __init__(self, num_classes: int, **layer: Any) -> None:
        super().__init__(**layer)
        self.num_classes = num_classes

    def build(self, input_shape: Any) -> None:
        """Makes the weights: of the score [width, 1], the first threshold [1], and gaps [K − 2]."""
        shares = np.arange(1, self.num_classes) / self.num_classes
        thresholds = np.log(shares / (1 - shares))
        gaps = np.log(np.expm1(np.diff(thresholds)))  # softplus of these
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], 1))
        self.first = self.add_weight(
            name="first", shape=(1,), initializer=_constant(thresholds[:1])
        )
        self.gaps = self.add_weight(name="gaps", shape=gaps.shape, initializer=_constant(gaps))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the logarithms of the probabilities [batch, num_classes].

        Args:
            inputs: [batch, width].
        """
        above = self.thresholds - tf.matmul(inputs, tf.cast(self.kernel, inputs.dtype))  # [b, K-1]
        # P(k) = sigmoid(b) − sigmoid(a) = sigmoid(b) · sigmoid(−a) · (1 − exp(a − b)); the last
        # factor is sigmoid(gap) for b − a = softplus(gap). No difference of near numbers is taken.
        none = tf.zeros_like(above[:, :1])
        below_upper = tf.concat([tf.math.log_sigmoid(above), none], axis=1)
        above_lower = tf.concat([none, tf.math.log_sigmoid(-above)], axis=1)
        gap = tf.math.log_sigmoid(tf.cast(self.gaps, inputs.dtype))
        return below_upper + above_lower + tf.pad(gap, [[1, 1]])

    @property
    def thresholds(self) -> tf.Tensor:
        """The thresholds [num_classes − 1], increasing, of the layer's compute type."""
        gaps = tf.nn.softplus(tf.cast(self.gaps, self.compute_dtype))
        first = tf.cast(self.first, self.compute_dtype)
        return tf.cumsum(tf.concat([first, gaps], axis=0))

    def get_config(self) -> dict[str, Any]:
        """Returns all arguments."""
        return super().get_config() | {"num_classes": self.num_classes}


def _constant(values: np.ndarray) -> Callable:
    return lambda shape, dtype: keras.ops.reshape(keras.ops.cast(values, dtype), shape)
