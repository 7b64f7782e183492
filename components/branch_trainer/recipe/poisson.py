"""The loss of Poisson regression, for heads that give the logarithm of a mean."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="branchline")
def poisson_loss_of_logs(label: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Returns exp(output) − label · output of each example, the mean over its entries.

    That is the negative logarithm of the likelihood, but for what does not depend on the output.

    Args:
        label: [batch, ...], from 0 on; as many entries as the output's.
        output: [batch, ...], the logarithm of the mean.

    Returns:
        float32 [batch].
    """
    label = tf.reshape(tf.cast(label, output.dtype), tf.shape(output))
    losses = tf.nn.log_poisson_loss(label, output)
    return tf.reduce_mean(losses, axis=list(range(1, output.shape.rank)))
