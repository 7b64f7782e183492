"""Example gates: which examples of a batch take part in the backward pass, by their loss.

The forward pass runs on the whole batch as in inference, then forward and backward on the examples
let through only: with a share s of them, about 1/3 + s of the work of an ordinary step.

Source: Jiang et al. 2019, "Accelerating Deep Learning by Focusing on the Biggest Losers"
(arXiv:1910.00762).
"""

from collections.abc import Callable

import tensorflow as tf

Gate = Callable[[tf.Tensor], tf.Tensor]


def hardest(share: float) -> Gate:
    """Returns a gate for the examples of highest loss.

    Args:
        share: of the batch, in (0, 1]; at least one example passes.

    Raises:
        ValueError: the share is out of range.
    """
    _check_share(share)

    def gate(losses: tf.Tensor) -> tf.Tensor:
        return tf.argsort(tf.argsort(-losses, stable=True)) < _count(losses, share)

    return gate


def without_outliers(share: float) -> Gate:
    """Returns a gate that leaves out the examples of highest loss.

    Args:
        share: of the batch that is left out, in (0, 1).

    Raises:
        ValueError: the share is out of range.
    """
    _check_share(share)

    def gate(losses: tf.Tensor) -> tf.Tensor:
        return tf.argsort(tf.argsort(losses, stable=True)) < _count(losses, 1 - share)

    return gate


def between(low: float, high: float) -> Gate:
    """Returns a gate for the examples whose loss is in [low, high]."""
    return lambda losses: (losses >= low) & (losses <= high)


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share={share}, expected a number in (0, 1]")


def _count(losses: tf.Tensor, share: float) -> tf.Tensor:
    size = tf.cast(tf.size(losses), tf.float32)
    return tf.cast(tf.math.ceil(size * share - 1e-4), tf.int32)
