"""Tells which paths of a model compute alike, so that one trace serves them all.

A trace of a step takes a third of a second, whatever it computes; of a hundred branches of one
shape, one is traced, and the others run its graph with their own variables.
"""

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from branchline.components.branch_trainer.parts import Head

if TYPE_CHECKING:
    from branchline.components.branch_trainer.model import BranchedModel

_OURS = ("keras", "branchline")
_ANY_CODE = ("Lambda", "function")


def path_likeness(model: "BranchedModel", path: str, features: Any) -> str | None:
    """Describes what a path computes, but for the names and values of its variables.

    Args:
        model: The model.
        path: Its name.
        features: The `tf.TypeSpec`s of the features.

    Returns:
        A text that is equal for paths that compute alike, if the features are handed over in the
        order of `tf.nest.flatten`; None where that cannot be told, as for a layer that is not
        Keras's own or branchline's, whose configuration need not say all that it does.
    """
    configs = model.configs_of(path)
    if configs is None or not all(map(_is_told_by_its_config, _dicts(configs))):
        return None
    described = [configs, model.paths[path].features, _shapes(model, path)]
    names: dict[str, str] = {}
    for found in _dicts(described):
        if isinstance(found.get("name"), str):
            names.setdefault(found["name"], f"#{len(names)}")
    keys = [list(_keys(names, features)), [_spec(spec) for spec in tf.nest.flatten(features)]]
    return json.dumps([_renamed(described, names), keys], sort_keys=True, default=str)


def configs_of(model: "BranchedModel", path: str) -> list | None:
    """Returns the configurations of a path's parts and heads; None if one of them has none."""
    try:
        parts = map(keras.saving.serialize_keras_object, model.parts_of(path).values())
        return [list(parts), [_describe_head(head) for head in model.heads_of(path)]]
    except (NotImplementedError, TypeError, ValueError):
        return None


def _describe_head(head: Head) -> list:
    loss: Any = head.loss
    is_class = isinstance(loss, keras.losses.Loss)
    what = keras.saving.serialize_keras_object(loss) if is_class else f"function {id(loss)}"
    return [what, head.loss_weight, head.missing]


def label_places(heads: list[Head], labels: Any) -> tuple[int, ...]:
    """Tells which of the flattened labels each head takes.

    Args:
        heads: Of a path.
        labels: The `tf.TypeSpec`s of its labels: one, or a nested dict of them.
    """
    places = tf.nest.pack_sequence_as(labels, list(range(len(tf.nest.flatten(labels)))))
    found = []
    for head in heads:
        place = places
        for key in [head.label] if isinstance(head.label, str) else head.label:
            place = place.get(key, -1) if isinstance(place, dict) else place
        found.append(place if isinstance(place, int) else -1)
    return tuple(found)


def _shapes(model: "BranchedModel", path: str) -> list:
    return [[v.dtype, list(v.shape), v.trainable] for v in model.state_of(path)]


def _dicts(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _dicts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _dicts(each)


def _is_told_by_its_config(described: dict) -> bool:
    if described.get("class_name") in (None, "__keras_tensor__"):
        return True
    module = described.get("module") or described.get("registered_name") or ""
    return module.startswith(_OURS) and described["class_name"] not in _ANY_CODE


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Replaces names of layers where Keras's configurations have them, and nowhere else."""
    if isinstance(value, dict):
        return {
            _renamed_key(key, names): names.get(each, each)
            if key == "name" and isinstance(each, str)
            else _renamed(each, names)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [names.get(value[0], value[0]), *value[1:]]  # the history of a tensor
        return [_renamed(each, names) for each in value]
    return value


def _renamed_key(key: str, names: dict[str, str]) -> str:
    """Renames a feature's key, which stands for the layer of its input."""
    return names.get(key.replace("/", "_"), key)


def _keys(names: dict[str, str], features: Any) -> Iterator[str]:
    if isinstance(features, dict):
        for key in sorted(features):
            yield _renamed_key(key, names)
            yield from _keys(names, features[key])


def _spec(spec: Any) -> str:
    return f"{type(spec).__name__} {spec.dtype.name} {spec.shape}"


class Alike(NamedTuple):
    """A function that may share its trace.

    Attributes:
        kind: Equal for functions that compute alike; None for one that shares with none.
        resources: All that it uses, in an order that is the same for all of its kind.
    """

    kind: Hashable | None
    resources: list[tf.Tensor]


def share_traces(
    functions: Sequence[Alike], trace_fn: Callable[[int], Any]
) -> list[tuple[Any, list[tf.Tensor]]]:
    """Traces one function of each kind, and finds what the others hand to its graph.

    Args:
        functions: What is known of each.
        trace_fn: Position → the function's concrete function.

    Returns:
        Of each function: a concrete function, and the captured tensors to call it with.
    """
    traced: dict[Hashable, tuple[Any, Alike]] = {}
    shared = []
    for position, function in enumerate(functions):
        if function.kind not in traced or function.kind is None:
            graph = trace_fn(position)
            shared.append((graph, list(graph.captured_inputs)))
            known = {id(resource) for resource in function.resources}
            # A capture that nobody told of may belong to this function alone.
            if all(id(capture) in known for capture in graph.captured_inputs):
                traced[function.kind] = graph, function
            continue
        graph, first = traced[function.kind]
        pairs = zip(first.resources, function.resources, strict=True)
        own = {id(theirs): mine for theirs, mine in pairs}
        shared.append((graph, [own[id(capture)] for capture in graph.captured_inputs]))
    return shared
