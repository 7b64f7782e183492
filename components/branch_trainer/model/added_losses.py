"""Takes what a layer adds by `add_loss` inside of a `tf.cond` out of it, where it can be used."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.private_api import (
    losses_added_to,
    set_losses_added_to,
    sublayers_of,
)


def with_losses(layer: keras.Layer, run_fn: Callable[[], Any]) -> tuple[Any, list[tf.Tensor]]:
    """Runs a layer and takes from it the losses that it, and the layers in it, add meanwhile.

    Args:
        layer: that is run.
        run_fn: runs it.

    Returns:
        What the function returns, and the losses.
    """
    before = {id(sub): len(losses_added_to(sub)) for sub in sublayers_of(layer)}
    outputs = run_fn()
    added = []
    for sub in sublayers_of(layer):
        first = before.get(id(sub), 0)
        losses = losses_added_to(sub)
        added += losses[first:]
        set_losses_added_to(sub, losses[:first])
    return outputs, added


def cond_with_losses(
    condition: tf.Tensor,
    layer: keras.Layer,
    true_fn: Callable[[], Any],
    false_fn: Callable[[], Any],
) -> Any:
    """Returns what `tf.cond` does; the layer's losses count where the condition holds.

    Args:
        condition: bool [].
        layer: that is run by `true_fn`, and perhaps by `false_fn`.
        true_fn: gives nested tensors.
        false_fn: gives tensors of the same structure.
    """
    kinds: list[tf.TensorSpec] = []

    def when_true():
        outputs, losses = with_losses(layer, true_fn)
        kinds.extend(tf.TensorSpec(loss.shape, loss.dtype) for loss in losses)
        return outputs, losses

    def when_false():
        outputs, _ = with_losses(layer, false_fn)
        return outputs, [tf.zeros(kind.shape, kind.dtype) for kind in kinds]

    outputs, losses = tf.cond(condition, when_true, when_false)  # traced in this order
    for loss in losses:
        layer.add_loss(loss)
    return outputs
