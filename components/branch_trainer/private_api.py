"""All that we use of Keras and TensorFlow without a public name, and what we do without it.

`tests/components/branch_trainer/test_private_api.py` fails when a name goes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

_EXCLUDED = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
_SLOTS = {"Adam": ("_momentums", "_velocities"), "SGD": ("momentums",)}


def sublayers_of(layer: Any) -> list[keras.Layer]:
    """Returns a layer and all layers in it, each once; without Keras's list, by its attributes."""
    if hasattr(layer, "_flatten_layers"):
        return layer._flatten_layers()
    return list({id(sub): sub for sub in layers_among_attributes(layer)}.values())


def layers_among_attributes(value: Any) -> Iterator[keras.Layer]:
    """Gives the layers in a value: itself, and those in its attributes, lists and dicts.

    Args:
        value: A layer, or what a layer holds.
    """
    if isinstance(value, keras.Layer):
        yield value
        for each in (getattr(value, "layers", []), *vars(value).values()):
            if isinstance(each, keras.Layer | list | tuple | dict):
                yield from layers_among_attributes(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from layers_among_attributes(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from layers_among_attributes(each)


def own_statistics_of(layer: Any) -> list[keras.Variable]:
    """Returns what a layer itself, not layers in it, made as not trainable; no random state.

    Without Keras's list, weights that somebody froze one by one are among them.
    """
    if hasattr(layer, "_non_trainable_variables"):
        return layer._non_trainable_variables
    return own_untrained_weights_of(layer)


def own_untrained_weights_of(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the weights of a layer, not of layers in it, that are not trained."""
    inner = {id(v) for sub in sublayers_of(layer) if sub is not layer for v in sub.variables}
    return [v for v in layer.weights if not v.trainable and id(v) not in inner]


def losses_added_to(layer: Any) -> list[tf.Tensor]:
    """Returns the list that a layer's own `add_loss` appends to; without it, an empty one."""
    return getattr(layer, "_losses", [])


def set_losses_added_to(layer: Any, losses: list[tf.Tensor]) -> None:
    """Replaces that list."""
    if hasattr(layer, "_losses"):
        layer._losses = losses


def has_known_slots(optimizer: Any) -> bool:
    """Returns whether `slots_of` finds slots; without, Keras updates the variables."""
    names = _SLOTS.get(type(optimizer).__name__, ())
    known = all(hasattr(optimizer, name) for name in names)
    return bool(names) and known and hasattr(optimizer, "_get_variable_index")


def slots_of(optimizer: Any, variable: keras.Variable) -> list[tf.Variable]:
    """Returns Adam's mean and mean square, or SGD's momentum, of a variable.

    Args:
        optimizer: A Keras Adam or SGD that is built, and that `has_known_slots`.
        variable: That it trains.
    """
    place = optimizer._get_variable_index(variable)
    return [getattr(optimizer, name)[place].value for name in _SLOTS[type(optimizer).__name__]]


def rate_of(optimizer: Any) -> Any:
    """Returns an optimizer's schedule, or the variable with its learning rate; else None."""
    return getattr(optimizer, "_learning_rate", None)


def excluded_from_decay(optimizer: Any) -> list:
    """Returns what `exclude_from_weight_decay` was told, in a form to compare; else Nones."""
    return [getattr(optimizer, name, None) for name in _EXCLUDED]


def copy_exclusion(source: Any, target: Any) -> None:
    """Tells an optimizer what `exclude_from_weight_decay` told another."""
    for name in _EXCLUDED:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def uncast_value(variable: Any) -> tf.Variable:
    """Returns a Keras variable's own values, which `value` casts, and so reads, where it has to."""
    value = getattr(variable, "_value", None)
    return variable.value if value is None else value


def traced_shapes(run_fn: Callable, spec: Any) -> dict[str, tf.TensorShape]:
    """Runs a function on tensors that have no values, and returns the shapes of what it gives.

    Without TensorFlow's graphs of functions, in a `tf.function`, which cannot lift out the
    variables of a MirroredStrategy.

    Args:
        run_fn: tensors → name → tensor.
        spec: nested `tf.TypeSpec`s of the tensors.
    """
    graph_class = getattr(getattr(tf, "__internal__", None), "FuncGraph", None)
    if graph_class is None:
        traced = tf.function(run_fn, autograph=False).get_concrete_function(spec)
        return {name: output.shape for name, output in traced.structured_outputs.items()}
    with graph_class("traced_shapes").as_default():
        outputs = run_fn(tf.nest.map_structure(_placeholder, spec, expand_composites=True))
        return {name: output.shape for name, output in outputs.items()}


def _placeholder(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.compat.v1.placeholder(spec.dtype, spec.shape)


def inputs_of(dataset: Any) -> list[tf.data.Dataset]:
    """Returns the datasets that a dataset is made of; without TensorFlow's list, none."""
    return dataset._inputs() if hasattr(dataset, "_inputs") else []


def sum_no_gradients(optimizer: Any) -> None:
    """Lets an optimizer apply gradients that are sums over the replicas already."""
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs
