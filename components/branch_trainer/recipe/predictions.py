"""What is served of a head's output."""

from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.parts import Head
from branchline.schemas import Route, Target

_NAN = float("nan")


def prediction(target: Target, output: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Turns what a head gives into probabilities [batch, …], or values in the label's unit.

    Quantiles come in order. Of a target with `top_k` see `best_items`.

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
    if target.task in ("binary", "multilabel"):
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
        tf.fill([batch_size, *_shape(target)], tf.constant(_NAN, _dtype(target)))
        for target in route.labels.values()
    ]


def best_items(target: Target, head: Head, output: tf.Tensor) -> tf.Tensor:
    """Gives the items that fit best and their scores, float64 [batch, 2, top_k], the best first.

    Args:
        target: With `top_k`.
        head: Whose layer is an `ItemQuery`.
        output: Of that head.
    """
    layer: Any = head.layer
    best = tf.math.top_k(layer.scores(output), target.top_k)
    return tf.stack([tf.cast(of, tf.float64) for of in (best.indices, best.values)], axis=1)


def items_and_scores(predicted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Parts what `best_items` gives.

    Returns:
        The items, int64 [batch, top_k], -1 where there is no prediction; and their scores, float32
        [batch, top_k], NaN there.
    """
    items, scores = tf.unstack(predicted, axis=1)
    items = tf.where(tf.math.is_nan(items), tf.constant(-1.0, items.dtype), items)
    return tf.cast(items, tf.int64), tf.cast(scores, tf.float32)


def item_name(target: Target, items: tf.Tensor) -> tf.Tensor:
    """Names items: string [batch, top_k], "" where there is no prediction."""
    names = tf.constant(["", *(target.names or ())])
    return tf.gather(names, items + 1)


def class_name(target: Target, probabilities: tf.Tensor) -> tf.Tensor:
    """Names the most probable class: string [batch, *shape], "" where there is no prediction.

    Of a multilabel target it names every class that has 0.5 at least, in its place: string
    [batch, num_classes], "" for the others.

    Args:
        target: With `classes`. Of a binary one the second is named where it has more than 0.5.
        probabilities: float32 [batch, *target.prediction_shape].
    """
    if target.is_set:
        return tf.where(probabilities >= 0.5, tf.constant([*(target.names or ())]), "")
    if target.task == "binary":
        number, of_any = tf.cast(probabilities > 0.5, tf.int64), probabilities
    else:
        number, of_any = tf.argmax(probabilities, axis=-1), tf.reduce_sum(probabilities, axis=-1)
    names = tf.constant([*(target.names or ()), ""])
    none = tf.fill(tf.shape(number), tf.size(names, tf.int64) - 1)
    return tf.gather(names, tf.where(tf.math.is_nan(of_any), none, number))


def _dtype(target: Target) -> tf.DType:
    return tf.float64 if target.whole or target.top_k else tf.float32


def _shape(target: Target) -> tuple[int, ...]:
    return (2, target.top_k) if target.top_k else target.prediction_shape
