"""What is served of a head's output."""

import tensorflow as tf

from branchline.schemas import Route, Target

_NAN = float("nan")


def prediction(target: Target, output: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Turns what a head gives into probabilities [batch, …], or values in the label's unit.

    Quantiles come in order.

    Args:
        target: Of the label.
        output: Of its head.
        scale: float64 [2], its `Scale`.

    Returns:
        float32; of a target of whole numbers float64.
    """
    output = tf.reshape(tf.cast(output, tf.float32), [-1, *target.prediction_shape])
    if target.is_multiclass:
        return tf.nn.softmax(output)
    if target.task == "binary":
        return tf.sigmoid(output)
    dtype = _dtype(target)
    scale = tf.cast(scale, dtype)
    if target.task == "count":
        output = tf.exp(output)
    if target.quantiles:
        # Those that cross change places, which makes no pinball loss greater, whatever the head:
        # Chernozhukov et al. 2010, "Quantile and probability curves without crossing".
        output = tf.sort(output, axis=-1)
    return tf.cast(output, dtype) * scale[1] + scale[0]


def no_predictions(route: Route, batch_size: tf.Tensor) -> list[tf.Tensor]:
    """Gives of each label what stands for no prediction, NaN [batch, …]."""
    return [
        tf.fill([batch_size, *target.prediction_shape], tf.constant(_NAN, _dtype(target)))
        for target in route.labels.values()
    ]


def class_name(target: Target, probabilities: tf.Tensor) -> tf.Tensor:
    """Names the most probable class: string [batch, *shape], "" where there is no prediction.

    Args:
        target: With `classes`. Of a binary one the second is named where it has more than 0.5.
        probabilities: float32 [batch, *target.prediction_shape].
    """
    if target.task == "binary":
        number, of_any = tf.cast(probabilities > 0.5, tf.int64), probabilities
    else:
        number, of_any = tf.argmax(probabilities, axis=-1), tf.reduce_sum(probabilities, axis=-1)
    names = tf.constant([*(target.classes or ()), ""])
    none = tf.fill(tf.shape(number), tf.size(names, tf.int64) - 1)
    return tf.gather(names, tf.where(tf.math.is_nan(of_any), none, number))


def _dtype(target: Target) -> tf.DType:
    return tf.float64 if target.whole else tf.float32
