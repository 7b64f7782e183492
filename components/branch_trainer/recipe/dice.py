"""The dice loss of segmentation masks, per example, right on empty masks too."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="branchline")
def dice_loss(label: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Returns 1 − 2 |label ∩ output| / (|label| + |output|) of each example.

    It is 0 where both are empty, for which Keras's `Dice` gives 1.

    Args:
        label: [batch, ...], 0 or 1; as many entries as the output's.
        output: probabilities [batch, ...].

    Returns:
        float32 [batch], in [0, 1].

    Source: Milletari et al. 2016, "V-Net" (arXiv:1606.04797), here with plain sums.
    """
    label = tf.reshape(tf.cast(label, output.dtype), tf.shape(output))  # [b, 8, 8] on [b, 8, 8, 1]
    entries = list(range(1, output.shape.rank))
    common = tf.reduce_sum(label * output, axis=entries)
    size = tf.reduce_sum(label + output, axis=entries)
    smallest = tf.constant(1e-6, output.dtype)
    return 1 - (2 * common + smallest) / (size + smallest)


@keras.saving.register_keras_serializable(package="branchline")
def dice_loss_of_logits(label: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Returns the `dice_loss` of sigmoid(output), for heads that give logits."""
    return dice_loss(label, tf.sigmoid(output))
