"""The loss of quantile regression."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="branchline")
class PinballLoss(keras.losses.Loss):
    """The mean over quantiles q of max(q · error, (q − 1) · error), with error = label − output.

    Its expectation is least where each output is its quantile.

    Args:
        quantiles: Of the outputs, in order.
        name: Of the loss.

    Source: Koenker and Bassett 1978, "Regression quantiles".
    """

    def __init__(self, quantiles: Sequence[float], name: str = "pinball") -> None:
        super().__init__(name=name)
        self.quantiles = tuple(quantiles)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns the losses [batch].

        Args:
            y_true: Labels [batch, 1].
            y_pred: [batch, number of quantiles], crossing or not.
        """
        output = tf.convert_to_tensor(y_pred)
        error = tf.cast(y_true, output.dtype) - output
        quantiles = tf.constant(self.quantiles, output.dtype)
        return tf.reduce_mean(tf.maximum(quantiles * error, (quantiles - 1) * error), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns all arguments."""
        return {"quantiles": self.quantiles, "name": self.name}
