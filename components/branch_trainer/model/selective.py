"""Layers whose part in training or in the model hangs on a condition that is known at run time.

In a `Trainer`, the weights of one whose variable `on` is 0 get no update at all: no momentum, no
weight decay. Under a condition given with the call they get one with zeros for gradients.
"""

from collections.abc import Iterable

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.added_losses import cond_with_losses
from branchline.components.branch_trainer.private_api import sublayers_of


class _Wrapper(keras.layers.Layer):
    """Holds a layer and a condition variable, which is no weight to train and is saved."""

    def __init__(self, layer: keras.Layer, *, on: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.start_on = on
        self.on = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="on"
        )
        self.on.assign(int(on))
        self.built = True

    def get_config(self):
        """Returns the wrapped layer and its first condition, as configs."""
        layer = keras.saving.serialize_keras_object(self.layer)
        return super().get_config() | {"layer": layer, "on": self.start_on}

    @classmethod
    def from_config(cls, config):
        """Makes the wrapper again."""
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)

    def _condition(self, when) -> tf.Tensor:
        return self.on.value > 0 if when is None else tf.cast(when, tf.bool)


@keras.saving.register_keras_serializable(package="branchline")
class Selective(_Wrapper):
    """Lets gradients through a layer, to its weights and to what comes before, or stops them.

    The output is the layer's either way. The condition is `when` of a call, or else the variable
    `on`: `selective.on.assign(0)` between two steps needs no new trace.

    Args:
        layer: any Keras layer.
        on: whether gradients pass at first.
    """

    def call(self, inputs, when=None):
        """Runs the layer.

        Args:
            inputs: of the layer.
            when: bool [] whether gradients pass; None: as `on` says.
        """
        passes = self._condition(when)
        outputs = self.layer(inputs)
        return tf.nest.map_structure(lambda y: _gate_gradient(y, passes), outputs)


@tf.custom_gradient
def _gate_gradient(values: tf.Tensor, passes: tf.Tensor):
    def backward(upstream):
        return tf.where(passes, upstream, tf.zeros_like(upstream)), None

    return tf.identity(values), backward


@keras.saving.register_keras_serializable(package="branchline")
class Conditional(_Wrapper):
    """Runs a layer only when a condition holds, and passes the inputs on when it does not.

    A layer that does not run costs nothing, forward or backward, and its statistics stay. The
    condition is `when` of a call, or else the variable `on`; no value of it needs a new trace.

    Args:
        layer: a built Keras layer whose output has the shape and dtype of its input.
        on: whether the layer runs at first.
    """

    def call(self, inputs, when=None):
        """Runs the layer or not.

        Args:
            inputs: of the layer.
            when: bool [] whether it runs; None: as `on` says.
        """
        passes = self._condition(when)
        return cond_with_losses(passes, self, lambda: self.layer(inputs), lambda: inputs)


def conditions_in(layers: Iterable[keras.Layer]) -> dict[int, tuple[tf.Variable, ...]]:
    """Returns id of a variable → the `on` of every `Selective` and `Conditional` around it.

    Args:
        layers: to look through, with the layers in them.
    """
    found = {id(sub): sub for layer in layers for sub in sublayers_of(layer)}
    around: dict[int, tuple[tf.Variable, ...]] = {}
    for wrapper in (sub for sub in found.values() if isinstance(sub, _Wrapper)):
        for variable in wrapper.layer.trainable_variables:
            around[id(variable)] = (*around.get(id(variable), ()), wrapper.on.value)
    return around
