"""Balances how fast the routes of mixed batches learn, whatever the scales of their losses.

A route's logit falls when its loss fell, relatively, by more than those of others, and a softmax of
the logits says how much each route counts. A route takes part in a batch if its loss there is not
0: without rows, or without labels in them, it has neither gradient nor logarithm, and its logit
and slots stay as they are.

Source: FAMO, Liu et al. 2023, "FAMO: Fast Adaptive Multitask Optimization" (arXiv:2306.03792),
algorithm 1. `_RATE`, `_DECAY`, `_SMALLEST` and the choice of Adam are those of its authors' code,
https://github.com/Cranial-XIX/FAMO.
"""

import keras
import tensorflow as tf

_RATE = 0.025
_DECAY = 0.01
_SMALLEST = 1e-8


def famo_weights(logits: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
    """Returns by what to multiply each route's loss, or its gradient.

    The paper's c · z/loss, for z = softmax(logits) and c = 1 / Σ z/loss, is this softmax.

    Args:
        logits: float32 [routes].
        losses: float32 [routes], above 0, or 0 for a route that takes no part.

    Returns:
        float32 [routes], with sum 1; 0 where the loss is 0.
    """
    return _softmax(logits - tf.math.log(losses + _SMALLEST), losses != 0)


def famo_gradient(logits: tf.Tensor, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of the logits, decay included.

    Args:
        logits: float32 [routes].
        before: float32 [routes], losses of a batch; 0 for a route that takes no part.
        after: float32 [routes], those of the same batch after the update that it made.

    Returns:
        float32 [routes], of no meaning for a route that takes no part.
    """
    shares = _softmax(logits, before != 0)
    progress = tf.math.log(before + _SMALLEST) - tf.math.log(after + _SMALLEST)
    return shares * (progress - tf.tensordot(shares, progress, 1)) + _DECAY * logits


def _softmax(logits: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    kept = tf.nn.softmax(tf.where(present, logits, logits.dtype.min))
    return tf.where(present, kept, 0.0)


class Famo:
    """The logits of the routes, each with an Adam of its own.

    Of its own, as a route that is rare has its own clock for the bias corrections.

    Args:
        num_routes: how many.
    """

    def __init__(self, num_routes: int):
        self.logits = [keras.Variable(0.0, dtype="float32") for _ in range(num_routes)]
        self.optimizers = [keras.optimizers.Adam(_RATE) for _ in range(num_routes)]
        for optimizer, logit in zip(self.optimizers, self.logits, strict=True):
            optimizer.build([logit])

    @property
    def state(self) -> list[tf.Variable]:
        """Logits, and slots and clocks of their optimizers."""
        slots = [v.value for optimizer in self.optimizers for v in optimizer.variables]
        return [*(logit.value for logit in self.logits), *slots]

    def weights(self, losses: tf.Tensor) -> tf.Tensor:
        """Returns `famo_weights` of these logits.

        Raises:
            tf.errors.InvalidArgumentError: a loss is negative.
        """
        message = "FAMO takes the logarithm of losses; those of the routes are"
        # Not `reduce_all(~(losses < 0))`, of which Grappler makes losses ≥ 0: false for NaN, which
        # is for the step to find.
        tf.debugging.Assert(tf.logical_not(tf.reduce_any(losses < 0)), [message, losses])
        return famo_weights(self._values(), losses)

    def update(self, before: tf.Tensor, after: tf.Tensor) -> tf.Operation:
        """Updates the logits of the routes that take part; arguments as of `famo_gradient`."""
        gradient = famo_gradient(self._values(), before, after)
        fit = (before != 0) & tf.reduce_all(tf.math.is_finite(gradient))
        for i, (optimizer, logit) in enumerate(zip(self.optimizers, self.logits, strict=True)):
            tf.cond(
                fit[i],
                lambda i=i, optimizer=optimizer, logit=logit: _apply(optimizer, gradient[i], logit),
                tf.no_op,
            )
        return tf.no_op()

    def _values(self) -> tf.Tensor:
        return tf.stack([logit.value for logit in self.logits])


def _apply(optimizer: keras.optimizers.Optimizer, gradient: tf.Tensor, logit: keras.Variable):
    optimizer.apply([gradient], [logit])
    return tf.no_op()
