"""Labels of routed examples: names as numbers, their shape, and the scale of regressions."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.routing.class_names import class_index
from branchline.components.routing.has_label import has_label
from branchline.schemas import BranchlineError, Route, Target

if TYPE_CHECKING:
    from branchline.components.branch_trainer.streams.read_rows import Rows


class Scale(NamedTuple):
    """Mean and standard deviation of a regression's labels; a head learns (label − mean) / std."""

    mean: float = 0.0
    std: float = 1.0


def dense_label(values: tf.Tensor | tf.SparseTensor, target: Target) -> tf.Tensor:
    """Gives a label its shape [batch, *shape], filled with the target's `missing`.

    Names become the numbers of their classes, int64. Counts and whole numbers of a regression
    become float64, which holds times in milliseconds exactly.

    Raises:
        tf.errors.InvalidArgumentError: A text is no name of a class.
    """
    if target.classes:
        values = _numbers_of(values, target.classes)
    if target.is_number and target.dtype == "int":
        values = tf.cast(values, tf.float64)
    if not isinstance(values, tf.SparseTensor):
        return tf.reshape(values, [-1, *target.shape])
    shape = tf.stack([values.dense_shape[0], target.num_values])
    missing = tf.cast(target.missing or 0, values.dtype)
    filled = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape), missing)
    return tf.reshape(filled, [-1, *target.shape])


def _numbers_of(names: tf.Tensor | tf.SparseTensor, classes: tuple[str, ...]) -> Any:
    texts = names.values if isinstance(names, tf.SparseTensor) else names
    numbers = class_index(tf.reshape(texts, [-1]), classes)
    expected = f"got a label that is none of the classes {', '.join(classes)}"
    with tf.control_dependencies([tf.debugging.assert_non_negative(numbers, expected)]):
        numbers = tf.reshape(numbers, tf.shape(texts))
    if isinstance(names, tf.SparseTensor):
        return tf.SparseTensor(names.indices, numbers, names.dense_shape)
    return numbers


def scales_of(rows: "Rows", route: Route) -> dict[str, Scale]:
    """Measures the labels of regressions over all entries there are; other labels keep theirs.

    Counts are taken by their ratio to the mean one: the scale has a mean of 0, and that for `std`.

    Raises:
        BranchlineError: There is no row, none that has one of the labels, or none that counts.
    """
    if not rows.count:
        raise BranchlineError(f"route {route.name!r} has no example in train; it cannot be trained")
    if route.weight is not None and not np.any(rows.labels[route.weight]):
        raise BranchlineError(
            f"the weight {route.weight!r} of all {rows.count} examples of route {route.name!r} in "
            "train is 0; it cannot be trained"
        )
    scales = {}
    for key, target in route.labels.items():
        values = np.reshape(np.asarray(rows.labels[key]), [-1, target.num_values])
        values = values[has_label(values, target)]
        if not len(values):
            raise BranchlineError(
                f"none of the {rows.count} examples of route {route.name!r} in train has the label "
                f"{key!r}; it cannot be learnt"
            )
        scales[key] = Scale()
        if target.is_scaled:
            values = values.astype(np.float64)
            scales[key] = Scale(float(values.mean()), float(values.std()) or 1.0)
        if target.task == "count":
            scales[key] = Scale(0.0, float(values.mean()) or 1.0)
    return scales
