"""Reads a route's transformed examples as batches of features and labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.transform.preprocessing import output_name, vocabulary_name
from branchline.schemas import BranchlineError, Categorical, Recipe, Route, Target, Text

_IN_MEMORY = 100_000  # rows; of more, so many are shuffled at a time


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
    features, labels = _parse(serialized, route, inputs)
    return tf.nest.map_structure(_padded, features), labels


def _parse(serialized: tf.Tensor, route: Route, inputs: dict[str, Input]) -> tuple[Any, Any]:
    """Parses as `parse_batch`, features of varying length as ragged tensors."""
    specs: dict = {output_name(route.name, key): spec.dtype for key, spec in inputs.items()}
    for key, target in route.labels.items():
        specs[output_name(route.name, key)] = _LABEL_DTYPES[target.dtype]
    parsed: dict[str, Any] = tf.io.parse_example(
        serialized, {name: tf.io.VarLenFeature(tf.as_dtype(dtype)) for name, dtype in specs.items()}
    )
    features: dict[str, Any] = {}
    for key, spec in inputs.items():
        values = parsed[output_name(route.name, key)]
        ragged = None in spec.shape
        features[key] = tf.RaggedTensor.from_sparse(values) if ragged else densify(values, spec)
    labels = {
        key: _dense_label(parsed[output_name(route.name, key)], target)
        for key, target in route.labels.items()
    }
    return features, labels if route.label is None else labels[route.label]


def _padded(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    return values.to_tensor() if isinstance(values, tf.RaggedTensor) else values


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


def read_once(
    files: list[str], route: Route, inputs: dict[str, Input], *, batch_size: int
) -> tf.data.Dataset:
    """Streams a route's examples once, in order.

    Args:
        files: TFRecord files, gzip.
        route: The examples' route.
        inputs: The route's inputs.
        batch_size: Rows in a batch, but for the last.

    Returns:
        A dataset of (features, labels) as `parse_batch` gives them.
    """
    batches = _serialized(files).batch(batch_size)
    return batches.map(lambda rows: parse_batch(rows, route, inputs))


def read_shuffled(
    files: list[str],
    route: Route,
    inputs: dict[str, Input],
    *,
    batch_size: int,
    seed: int,
    count: int,
    skip: int = 0,
    labels_fn: Callable[[Any], Any] = lambda labels: labels,
) -> tf.data.Dataset:
    """Streams a route's examples without end, each epoch in another order, in full batches.

    Up to 100 000 are parsed once and kept in memory; more are parsed anew in every epoch, and
    shuffled within as many.

    Args:
        files: TFRecord files, gzip.
        route: The examples' route.
        inputs: The route's inputs.
        batch_size: Rows in a batch.
        seed: Of the orders.
        count: How many examples there are, without those skipped.
        skip: How many examples at the beginning to leave out.
        labels_fn: Makes of the labels what the losses take.

    Returns:
        A dataset of features as `parse_batch` gives them, and what `labels_fn` made of the labels.
    """

    def parse(rows: tf.Tensor) -> tuple[Any, Any]:
        features, labels = _parse(rows, route, inputs)
        return features, labels_fn(labels)

    serialized = _serialized(files).skip(skip)
    if count > _IN_MEMORY:
        shuffled = serialized.shuffle(_IN_MEMORY, seed=seed).repeat()
        batches = shuffled.batch(batch_size, drop_remainder=True)
        return batches.map(parse).map(lambda *of_batch: tf.nest.map_structure(_padded, of_batch))
    parts = list(serialized.batch(4096).map(parse))
    columns = tf.nest.map_structure(lambda *of_part: tf.concat(of_part, axis=0), *parts)

    def order(epoch: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform(
            [count], seed=tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        return tf.argsort(draws, stable=True)

    def gather(rows: tf.Tensor) -> tuple[Any, Any]:
        return tf.nest.map_structure(lambda column: _padded(tf.gather(column, rows)), columns)

    # Row numbers are shuffled and batched, and many batches gathered at a time where no feature
    # has to be padded: a row is never handled alone.
    rows = tf.data.Dataset.counter().map(order)
    if any(isinstance(column, tf.RaggedTensor) for column in tf.nest.flatten(columns)):
        return rows.rebatch(batch_size, drop_remainder=True).map(gather)
    blocks = rows.rebatch(16 * batch_size, drop_remainder=True).map(gather)
    return blocks.rebatch(batch_size, drop_remainder=True)


def _serialized(files: list[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")
