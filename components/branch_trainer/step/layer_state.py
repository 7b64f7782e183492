"""What layers change while they run: statistics, random state. A refused step puts it back."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from branchline.components.branch_trainer.step.replicas import OneReplica


class LayerState:
    """Variables that no optimizer changes, but the forward pass may.

    Args:
        variables: of the layers that run; the trainable ones are passed over.
        replicas: what runs the layers; each replica has values of its own.
    """

    def __init__(self, variables: Iterable[keras.Variable], replicas: "OneReplica"):
        unique = {id(v): v for v in variables if not v.trainable}
        self._variables = [v.value for v in unique.values()]
        self._replicas = replicas

    def remember(self) -> Callable[[], tf.Operation] | None:
        """Reads the values, without a copy, and returns what puts them back; None: there are none.

        Call it before the forward pass.
        """
        if not self._variables:
            return None
        values = self._replicas.run(lambda: [tf.identity(v) for v in self._variables])

        def put_back() -> tf.Operation:
            self._replicas.run(self._assign, values)
            return tf.no_op()

        return put_back

    def _assign(self, values: list[tf.Tensor]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
