"""Tells what the branch of a route gets of its features, by what Transform makes of them."""

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.transform.groups import output_name
from branchline.components.transform.vocabulary import vocabulary_sizes
from branchline.schemas import (
    BranchlineError,
    Hashed,
    Ids,
    Recipe,
    Route,
    RoutingTable,
    Sequence,
    Tags,
    Text,
)


class Input(NamedTuple):
    """What a branch gets of one feature.

    Attributes:
        shape: Of one row; None for a length that varies from batch to batch, padded with 0.
        dtype: "float32", "int64" or "string".
        vocabulary_size: Greatest index + 1, where the feature is indices: of a vocabulary, of ids
            or of buckets.
        output: The name of the Transform's output that holds it.
    """

    shape: tuple[int | None, ...]
    dtype: str
    vocabulary_size: int | None = None
    output: str = ""


def describe_inputs(
    recipe: Recipe, transform: tft.TFTransformOutput, own_preprocessing: bool
) -> dict[str, dict[str, Input]]:
    """Tells what the branch of each route gets.

    Args:
        recipe: The recipe.
        transform: The Transform's output.
        own_preprocessing: Whether somebody else's `preprocessing_fn` made it: a route's features
            are then the outputs that are named `<route>/…`, and where there are none those named
            like the route's features.

    Raises:
        BranchlineError: No output is one of a route.
    """
    if own_preprocessing:
        outputs = transform.transformed_feature_spec()
        return {
            route.name: _own_inputs(route, recipe.routing, outputs)
            for route in recipe.routing.routes
        }
    sizes = vocabulary_sizes(transform, recipe.routing)
    return {
        route.name: _inputs_by_kind(route, recipe.routing, sizes) for route in recipe.routing.routes
    }


def _inputs_by_kind(
    route: Route, table: RoutingTable, sizes: dict[tuple[str, str], int]
) -> dict[str, Input]:
    inputs = {}
    for key, kind in route.features.items():
        output = output_name(table, route.name, key)
        value = kind.kind if isinstance(kind, Sequence) else kind
        num_indices = None
        if kind.vocabulary:
            num_indices = sizes[route.name, key] + 2  # one for unknown ones, one for none
        elif isinstance(value, Hashed):
            num_indices = value.buckets + 1
        elif isinstance(value, Ids):
            num_indices = value.num_ids + isinstance(kind, Sequence)
        is_text = isinstance(kind, Text) and kind.encoder is not None
        is_padded = isinstance(kind, Text | Tags | Sequence) and not is_text
        shape = (None,) if is_padded else kind.output_shape
        dtype = "string" if is_text else "float32" if num_indices is None else "int64"
        inputs[key] = Input(shape, dtype, num_indices, output)
    return inputs


def _own_inputs(route: Route, table: RoutingTable, outputs: dict[str, Any]) -> dict[str, Input]:
    prefix = f"{route.name}/"
    labels = {prefix + key for key in (*route.labels, route.weight) if key is not None}
    chosen = {
        name.removeprefix(prefix): name
        for name in sorted(outputs)
        if name.startswith(prefix) and name not in labels
    }
    if not chosen:
        columns = {key: table.column(route.name, key) for key in route.features}
        chosen = {key: name for key, name in columns.items() if name in outputs}
    if not chosen:
        raise BranchlineError(
            f"preprocessing_fn: got outputs {', '.join(sorted(outputs))}, expected some named "
            f"{prefix}<feature>, or like the route's features {', '.join(route.features)}"
        )
    inputs = {}
    for key, name in chosen.items():
        spec = outputs[name]
        kind = route.features.get(key)
        if isinstance(spec, tf.io.FixedLenFeature):
            shape = tuple(tf.TensorShape(spec.shape).as_list()) or (1,)
        elif kind is None or kind.num_values is None or isinstance(kind, Text):
            shape = (None,)
        else:  # sparse, because other routes lack it
            shape = getattr(kind, "shape", (kind.num_values,)) or (1,)
        inputs[key] = Input(shape, tf.as_dtype(spec.dtype).name, output=name)
    return inputs


def densify(values: tf.Tensor | tf.SparseTensor, spec: Input) -> tf.Tensor:
    """Gives a transformed feature its rows' shape; what is missing is 0 (or "").

    Args:
        values: [batch, number of values].
        spec: What the branch gets.

    Returns:
        [batch, *spec.shape].
    """
    if None in spec.shape:
        return tf.sparse.to_dense(values) if isinstance(values, tf.SparseTensor) else values
    if isinstance(values, tf.SparseTensor):
        width = tf.TensorShape(spec.shape).num_elements()
        shape = tf.stack([values.dense_shape[0], width])
        values = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape))
    return tf.reshape(values, [-1, *spec.shape])  # pyright: ignore[reportArgumentType]


def input_specs(inputs: dict[str, Input]) -> dict[str, tf.TensorSpec]:
    """Feature → the spec of a batch of it, float32, int64 or string [batch, *shape]."""
    return {key: tf.TensorSpec([None, *spec.shape], spec.dtype) for key, spec in inputs.items()}
