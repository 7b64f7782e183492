"""Reads a route's transformed examples as batches of features and labels."""

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.transform.preprocessing import output_name, vocabulary_name
from branchline.schemas import BranchlineError, Categorical, Recipe, Route, Target, Text

_SHUFFLE_BUFFER = 100_000


class Input(NamedTuple):
    """What a branch gets of one feature.

    Attributes:
        shape: Of one row; None for a length that varies from batch to batch, padded with 0.
        dtype: "float32", "int64" or "string".
        vocabulary_size: Greatest index + 1, where the feature is an index into a vocabulary.
    """

    shape: tuple[int | None, ...]
    dtype: str
    vocabulary_size: int | None = None


def describe_inputs(
    recipe: Recipe, transform: tft.TFTransformOutput, own_preprocessing: bool
) -> dict[str, dict[str, Input]]:
    """Tells what the branch of each route gets.

    Args:
        recipe: The recipe.
        transform: The Transform's output.
        own_preprocessing: Whether the recipe brought its own `preprocessing_fn`; the features are
            then what it named `<route>/…`.
    """
    describe = _own_inputs if own_preprocessing else _inputs_by_kind
    return {route.name: describe(route, transform) for route in recipe.routing.routes}


def _inputs_by_kind(route: Route, transform: tft.TFTransformOutput) -> dict[str, Input]:
    inputs = {}
    for position, (key, kind) in enumerate(route.features.items()):
        if isinstance(kind, Text | Categorical):
            words = transform.vocabulary_size_by_name(vocabulary_name(route.name, position))
            shape = (None,) if isinstance(kind, Text) else (1,)
            inputs[key] = Input(shape, "int64", words + 2)  # one for unknown ones, one for none
        else:
            shape = getattr(kind, "shape", (kind.num_values,)) or (1,)
            inputs[key] = Input(shape, "int64" if kind.dtype == "int" else "float32")
    return inputs


def _own_inputs(route: Route, transform: tft.TFTransformOutput) -> dict[str, Input]:
    prefix = output_name(route.name, "")
    labels = [output_name(route.name, key) for key in route.labels]
    inputs = {}
    for name, spec in sorted(transform.transformed_feature_spec().items()):
        if name.startswith(prefix) and name not in labels:
            fixed = isinstance(spec, tf.io.FixedLenFeature)
            shape = (tuple(tf.TensorShape(spec.shape).as_list()) or (1,)) if fixed else (None,)
            inputs[name.removeprefix(prefix)] = Input(shape, tf.as_dtype(spec.dtype).name)
    if not inputs:
        got = ", ".join(sorted(transform.transformed_feature_spec()))
        raise BranchlineError(
            f"preprocessing_fn: got outputs {got}, expected some named {prefix}<feature>"
        )
    return inputs


def parse_batch(
    serialized: tf.Tensor, route: Route, inputs: dict[str, Input]
) -> tuple[dict[str, tf.Tensor], tf.Tensor | dict[str, tf.Tensor]]:
    """Parses transformed examples of one route.

    Args:
        serialized: string [batch].
        route: Their route.
        inputs: What to read of the features.

    Returns:
        Feature → tensor [batch, *shape], and the labels: int64 or float32 [batch] of a route with
        `label=`, else key → int64 or float32 [batch, *shape of the target], filled with the
        target's `missing` (-1 or NaN) in rows that lack it.
    """
    specs: dict = {output_name(route.name, key): spec.dtype for key, spec in inputs.items()}
    for key, target in route.labels.items():
        specs[output_name(route.name, key)] = _LABEL_DTYPES[target.dtype]
    parsed: dict[str, Any] = tf.io.parse_example(
        serialized, {name: tf.io.VarLenFeature(tf.as_dtype(dtype)) for name, dtype in specs.items()}
    )
    features = {
        key: densify(parsed[output_name(route.name, key)], spec) for key, spec in inputs.items()
    }
    labels = {
        key: _dense_label(parsed[output_name(route.name, key)], target)
        for key, target in route.labels.items()
    }
    return features, labels if route.label is None else labels[route.label]


_LABEL_DTYPES = {"float": "float32", "int": "int64"}


def _dense_label(values: tf.SparseTensor, target: Target) -> tf.Tensor:
    shape = tf.stack([values.dense_shape[0], target.num_values])
    missing = tf.cast(target.missing or 0, values.dtype)
    filled = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape), missing)
    return tf.reshape(filled, [-1, *target.shape])


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


def read_stream(
    files: list[str],
    route: Route,
    inputs: dict[str, Input],
    *,
    batch_size: int,
    seed: int | None = None,
    skip: int = 0,
) -> tf.data.Dataset:
    """Streams batches of a route's examples.

    Args:
        files: TFRecord files, gzip.
        route: The examples' route.
        inputs: The route's inputs.
        batch_size: Rows in a batch.
        seed: Shuffles and repeats without end, every batch full; None reads once, in order.
        skip: How many examples at the beginning to leave out.

    Returns:
        A dataset of (features, labels) as `parse_batch` gives them.
    """
    serialized = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP").skip(skip)
    if seed is not None:
        serialized = serialized.cache().shuffle(_SHUFFLE_BUFFER, seed=seed).repeat()
    batches = serialized.batch(batch_size, drop_remainder=seed is not None)
    parsed = batches.map(lambda rows: parse_batch(rows, route, inputs))
    return parsed.prefetch(4)
