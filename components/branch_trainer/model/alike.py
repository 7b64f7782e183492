"""Tells which paths of a model compute alike, so that one trace serves them all.

A trace of a step takes a third of a second, whatever it computes; of a hundred branches of one
shape, one is traced, and the others run its graph with their own variables.
"""

import functools
import json
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.private_api import sublayers_of

if TYPE_CHECKING:
    from branchline.components.branch_trainer.model.branched_model import BranchedModel

# Whose configuration and attributes say all that they do. A recipe's module is `branchline_…`.
_TOLD = (
    "keras.src.layers.",
    "keras.src.losses.",
    "keras.src.models.",
    "keras.src.ops.",
    "branchline.components.branch_trainer.",
)
_UNTOLD = (
    "keras.src.layers.preprocessing.",
    "keras.src.layers.core.lambda_layer",
    "branchline.components.branch_trainer.recipe.saved_encoder",  # has tables of its own
)
_VALUES = (None, "__ellipsis__", "__keras_tensor__", "__slice__")  # in a configuration
_BOOKS = {"_called", "_lock", "_losses", "_parent_path", "_path", "build", "built", "name"}
_BOOKS |= {"output_names", "quantize"}
# As tuples: a union of types takes several times as long to compare with.
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_ARRAYS = (tf.Tensor, np.ndarray)
_SEQUENCES = (list, tuple)
_SCALARS = (bool, int, float, str)


def path_likeness(model: "BranchedModel", path: str, features: Any) -> str | None:
    """Describes what a path computes, but for the names and values of its variables.

    Labels are left out: which of them a head takes is for the caller to add.

    Args:
        model: The model, whose layers on the path are built.
        path: Its name.
        features: The `tf.TypeSpec`s of the features.

    Returns:
        A text that is equal for paths that compute alike, if the features are handed over in the
        order of `tf.nest.flatten`; None where that cannot be told, as for a layer that is not
        Keras's own or branchline's, or holds a tensor that a trace would take for a constant.
    """
    parts, heads = list(model.parts_of(path).values()), model.heads_of(path)
    layers = list(_operations(parts))
    if not all(map(_is_told, layers)):
        return None
    place = {id(variable): i for i, variable in enumerate(model.state_of(path))}
    try:
        configs = [keras.saving.serialize_keras_object(part) for part in parts]
        if not all(map(_is_told_by_its_config, _dicts(configs))):
            return None
        held = [_held_by(layer, place) for layer in layers]
        losses = [[_describe_loss(head), head.loss_weight, head.missing] for head in heads]
        names = _numbered(layers, features)
        described = _renamed([configs, held, losses, model.paths[path].features], names)
        return json.dumps([described, _shapes(model, path), _structure(names, features)])
    except (NotImplementedError, TypeError, ValueError):  # without configuration, or not in JSON
        return None


def _operations(parts: Iterable[keras.Layer]) -> Iterator[keras.Operation]:
    for part in parts:
        for layer in sublayers_of(part):
            yield layer
            within = getattr(layer, "operations", ())
            yield from (each for each in within if not isinstance(each, keras.Layer))


def _is_told(it: object) -> bool:
    module = type(it).__module__
    return module.startswith(_TOLD) and not module.startswith(_UNTOLD)


def _describe_loss(head: Head) -> Any:
    loss: Any = head.loss
    if isinstance(loss, _FUNCTIONS):
        return _plain(loss)
    if not _is_told(loss):
        raise TypeError(f"{loss} need not be what it says")
    # The configuration of Keras's Huber lacks its delta.
    return [type(loss).__name__, _held(loss)]


def _held_by(layer: keras.Operation, place: dict[int, int]) -> list:
    """Tells what a layer holds beside its configuration, and which of the path's variables."""
    if not isinstance(layer, keras.Layer):
        return [type(layer).__name__, _held(layer)]
    dtypes = [layer.compute_dtype, layer.variable_dtype]  # whatever the policy is called
    places = [place.get(id(variable)) for variable in layer.variables]
    return [type(layer).__name__, dtypes, places, _held(layer)]


def _held(it: object) -> dict[str, Any]:
    """Finds the plain values among an object's attributes: its configuration may lack some."""
    plain = {
        name: _plain(value)
        for name, value in vars(it).items()
        if name not in _BOOKS and not name.startswith(("_self_", "_build", "_inbound", "_outbound"))
    }
    return {name: value for name, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    """Gives what JSON can write of a value, None for what it cannot.

    Raises:
        TypeError: It is a tensor or an array.
    """
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        plain = {str(key): _plain(each) for key, each in value.items()}
        return {key: each for key, each in plain.items() if each is not None} or None
    if isinstance(value, _SEQUENCES):
        items = [_plain(each) for each in value]
        return items if any(each is not None for each in items) else None
    if isinstance(value, types.FunctionType) and value.__closure__ is None:
        ours = value.__module__.startswith("keras.src.")
        return f"{value.__module__}.{value.__qualname__}" if ours else f"function {id(value)}"
    if isinstance(value, _FUNCTIONS):
        return f"function {id(value)}"
    if isinstance(value, _ARRAYS):
        raise TypeError("a trace takes tensors and arrays for constants")
    return None


def _shapes(model: "BranchedModel", path: str) -> list:
    """Describes the path's variables; who sets a constraint on one says so in no configuration."""
    return [
        [v.dtype, list(v.shape), v.trainable, _rule(v.constraint), _rule(v.regularizer)]
        for v in model.state_of(path)
    ]


def _rule(rule: Any) -> Any:
    """Describes a constraint or a regularizer of a variable, if there is one."""
    ours = type(rule).__module__.startswith("keras.src.")
    return keras.saving.serialize_keras_object(rule) if ours else rule and f"{id(rule)}"


def _dicts(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _dicts(each)
    elif isinstance(value, _SEQUENCES):
        for each in value:
            yield from _dicts(each)


def _is_told_by_its_config(described: dict) -> bool:
    kind = described.get("class_name")
    module = described.get("module") or ""
    return kind in _VALUES or f"{module}.".startswith(("keras.", "branchline."))


def _numbered(layers: Iterable[keras.Operation], features: Any) -> dict[str, str]:
    """Gives the names of layers numbers, and the keys of features those of their inputs."""
    unique = dict.fromkeys(layer.name for layer in layers)
    names = {name: f"#{number}" for number, name in enumerate(unique)}
    for key in _keys(features):
        if key.replace("/", "_") in names:
            names.setdefault(key, names[key.replace("/", "_")])
    return names


def _keys(features: Any) -> Iterator[str]:
    if isinstance(features, dict):
        for key, value in features.items():
            yield key
            yield from _keys(value)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Replaces names of layers where Keras's configurations have them, and nowhere else.

    A dict becomes pairs in the order of its keys, in which Keras takes a dict apart. A key with a
    lone value is no name: a layer may be called "dropout", and a GRU has an argument of that name.
    """
    if isinstance(value, dict):
        return [
            [key, names.get(value[key], value[key]) if key == "name" else value[key]]
            if isinstance(value[key], _SCALARS)
            else [names.get(key, key), _renamed(value[key], names)]
            for key in sorted(value)
        ]
    if isinstance(value, _SEQUENCES):
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [names.get(value[0], value[0]), *value[1:]]  # the history of a tensor
        return [_renamed(each, names) for each in value]
    return value


def _structure(names: dict[str, str], features: Any) -> Any:
    if isinstance(features, dict):
        return [[names.get(k, k), _structure(names, features[k])] for k in sorted(features)]
    if isinstance(features, list | tuple):
        return [_structure(names, each) for each in features]
    is_tensor = isinstance(features, tf.TensorSpec)
    return f"{features.dtype.name} {features.shape}" if is_tensor else str(features)
