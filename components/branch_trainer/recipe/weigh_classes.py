"""Weighs the losses of a head by the classes of its labels."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.recipe.check_heads import head_of
from branchline.components.branch_trainer.streams.read_rows import Rows
from branchline.schemas import BranchlineError, RoutingTable, Target
from branchline.schemas.class_weights import BALANCED


@keras.saving.register_keras_serializable(package="branchline")
class WeightedByClass(keras.losses.Loss):
    """A loss per example, times the weight of the example's class. As Keras's `class_weight`.

    Args:
        loss: A Keras loss, or `f(label, output)` → loss per example [batch].
        weights: Of each class.
        name: Of the loss.
    """

    def __init__(
        self, loss: Callable, weights: tuple[float, ...], name: str = "weighted_by_class"
    ) -> None:
        super().__init__(name=name)
        self.loss = loss
        self.weights = tuple(weights)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns the losses, float32 [batch]."""
        loss_fn = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        losses = tf.convert_to_tensor(loss_fn(y_true, y_pred))
        number = tf.cast(tf.reshape(y_true, tf.shape(losses)), tf.int32)
        return losses * tf.gather(tf.constant(self.weights, losses.dtype), number)

    def get_config(self) -> dict[str, Any]:
        """Returns all arguments, the loss as its config."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "weights": self.weights, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedByClass":
        """Makes the loss again."""
        loss: Any = keras.saving.deserialize_keras_object(config.pop("loss"))
        return cls(loss, **config)


def weigh_classes(model: BranchedModel, table: RoutingTable, rows: Mapping[str, Rows]) -> None:
    """Gives the heads of targets with a `class_weight` losses that are weighted so.

    Args:
        model: Its heads fit the routes' labels.
        table: The routes.
        rows: Route → its training rows, by which "balanced" goes.

    Raises:
        BranchlineError: A head is that of several routes whose weights differ.
    """
    found: dict[int, tuple[Any, tuple[float, ...] | None, str]] = {}
    for name, of_route in rows.items():
        for key, target in table[name].labels.items():
            head = head_of(model, table[name], key)
            weights = _weights(target, np.asarray(of_route.labels[key]))
            _, before, other = found.setdefault(id(head), (head, weights, name))
            if weights != before:
                raise BranchlineError(
                    f"build_model: head {head.name!r} is that of the routes {other!r} and "
                    f"{name!r}, whose classes have other weights, {before} and {weights}; give "
                    "each a head of its own, or both the same class_weight"
                )
    for head, weights, _ in found.values():
        if weights is not None:
            head.loss = WeightedByClass(head.loss, weights)


def _weights(target: Target, labels: np.ndarray) -> tuple[float, ...] | None:
    """Returns the weight of each class; "balanced" as scikit-learn does.

    Each class that there is then has the same sum of weights, and the mean weight is 1.
    """
    if target.class_weight != BALANCED:
        return target.class_weight  # pyright: ignore[reportReturnType]
    counts = np.bincount(labels[labels >= 0], minlength=target.num_classes or 2)
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return tuple(np.where(present, weights, 1.0).tolist())
