"""Scales the loss for half precision, as the optimizer asks."""

from typing import Any

import keras
import tensorflow as tf


class LossScale:
    """The scale of a `keras.optimizers.LossScaleOptimizer`; 1, and no operation, for any other.

    Args:
        optimizer: that holds the scale, and is handed gradients of the scaled loss.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self._optimizer: Any = optimizer
        self.on = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss to differentiate."""
        return self._optimizer.scale_loss(loss) if self.on else loss

    def unscaled(self, gradients: list) -> list:
        """Returns the gradients of the loss as it is; None where there is none."""
        if not self.on:
            return gradients
        return [g if g is None else tf.convert_to_tensor(g) * (1 / self._as(g)) for g in gradients]

    def rescaled(self, gradient: Any) -> tf.Tensor:
        """Returns what the optimizer is handed."""
        return tf.convert_to_tensor(gradient) * self._as(gradient)

    def without_overflow(self, norm: tf.Tensor) -> tf.Tensor:
        """Returns 0 for a norm that is not finite because of the scale, which the optimizer mends.

        A scale of 1 or less makes nothing larger: what is not finite then stays so.
        """
        if not self.on:
            return norm
        overflow = ~tf.math.is_finite(norm) & (self._optimizer.dynamic_scale > 1.0)
        return tf.where(overflow, 0.0, norm)

    def _as(self, gradient: Any) -> tf.Tensor:
        return tf.cast(self._optimizer.dynamic_scale.value, gradient.dtype)
