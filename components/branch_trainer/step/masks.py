"""Gradient masks: entries of variables that are trained fully, partly, or not at all."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf


class Masks:
    """The masks of one path's variables.

    Args:
        mask_fn: variable → mask that broadcasts to its shape, or None to train all of it. Called
            once per variable.
        variables: that the path trains.

    Raises:
        ValueError: a mask does not broadcast; names variable and shapes.
    """

    def __init__(self, mask_fn: Callable, variables: Sequence[keras.Variable]):
        self._masks: dict[int, np.ndarray] = {}
        for variable in variables:
            mask = mask_fn(variable)
            if mask is not None:
                self._masks[id(variable)] = _broadcast(np.asarray(mask, np.float32), variable)

    def covers(self, variable: keras.Variable) -> bool:
        """Returns whether the variable has a mask."""
        return id(variable) in self._masks

    def masked(self, gradient, variable: keras.Variable):
        """Returns the gradient times its mask."""
        if not self.covers(variable):
            return gradient
        mask = tf.constant(self._masks[id(variable)], gradient.dtype)
        dense = tf.convert_to_tensor(gradient)
        # Not a product alone: 0 × inf is NaN.
        return tf.where(mask == 0, tf.zeros_like(dense), dense * mask)

    def keeping(self, variables: Sequence[keras.Variable], update_fn: Callable[[], None]) -> None:
        """Runs an update and puts back the entries whose mask is 0.

        An optimizer moves them all the same, by momentum of an earlier time and by weight decay.

        Args:
            variables: that the update changes.
            update_fn: does it.
        """
        before = [(v, tf.identity(v.value)) for v in variables if self.covers(v)]
        with tf.control_dependencies([old for _, old in before]):
            update_fn()
        for variable, old in before:
            variable.assign(tf.where(self._masks[id(variable)] == 0, old, variable.value))


def _broadcast(mask: np.ndarray, variable: keras.Variable) -> np.ndarray:
    try:
        return np.broadcast_to(mask, variable.shape)
    except ValueError as error:
        raise ValueError(
            f"The mask of {variable.path!r} has shape {mask.shape}, which does not broadcast to "
            f"the variable's {tuple(variable.shape)}"
        ) from error
