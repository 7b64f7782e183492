"""Reads routed examples as what the branches get: parsed and transformed, once.

A route's part of the Transform's graph runs here; TensorFlow leaves out the rest of it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2

from branchline.components.branch_trainer.inputs import Input, densify
from branchline.components.routing.has_label import has_label
from branchline.schemas import BranchlineError, Route, RoutingTable, Target

BATCH = 4096  # rows parsed at a time
_STRING = 32  # bytes that a string is taken to need

Columns = dict[str, Any]


class Scale(NamedTuple):
    """Mean and standard deviation of a regression's labels; a head learns (label − mean) / std."""

    mean: float = 0.0
    std: float = 1.0


class Rows(NamedTuple):
    """The training rows of one route.

    Attributes:
        count: How many there are.
        labels: Label → int64 or float32 [count, *shape], filled with the target's `missing`.
        features: Feature → [count, …], dense or ragged; None if they did not fit the budget.
        files: TFRecords, gzip, of routed examples.
        parse_fn: Serialized examples [batch] → features and labels, as above.
    """

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    labels: Columns
    features: Columns | None
    files: list[str]
    parse_fn: Callable[[tf.Tensor], tuple[Columns, Columns]]


class RowReader:
    """Reads the examples of routes; those of routes that read the same share one trace.

    Args:
        table: The routes.
        inputs: Route → what its branch gets.
        transform: The Transform's output.
        own_preprocessing: Whether it is somebody else's `preprocessing_fn`'s, whose outputs may
            hang on any column.
    """

    def __init__(
        self,
        table: RoutingTable,
        inputs: Mapping[str, Mapping[str, Input]],
        transform: tft.TFTransformOutput,
        own_preprocessing: bool,
    ) -> None:
        self._table, self._inputs = table, inputs
        self._loader = saved_transform_io_v2.SavedModelLoader(transform.transform_savedmodel_dir)
        self._specs = transform.raw_feature_spec()
        self._own_preprocessing = own_preprocessing
        self._traces: dict[Any, Any] = {}

    def read(self, route: str, files: list[str], budget: int) -> Rows:
        """Reads a route's examples in order.

        Args:
            route: Its name.
            files: Its files.
            budget: Bytes that its features may take in memory.
        """
        parse_fn = self.parse_fn(route)
        features: list[Columns] | None = []
        labels: list[Columns] = []
        for serialized in serialized_rows(files).batch(BATCH):
            parsed, of_batch = parse_fn(serialized)
            labels.append(of_batch)
            if features is not None:
                features.append(parsed)
                budget -= num_bytes(parsed)
                features = None if budget < 0 else features
        joined = _joined(labels) if labels else dict.fromkeys(self._table[route].labels, [])
        count = len(next(iter(joined.values())))
        return Rows(count, joined, _joined(features) if features else None, files, parse_fn)

    def parse_fn(self, route: str) -> Callable[[tf.Tensor], tuple[Columns, Columns]]:
        """Gives the function that parses and transforms a batch of a route's examples.

        Returns:
            Serialized examples string [batch] → features as `Rows` has them, and labels.
        """
        inputs, fields = self._inputs[route], self._table.fields(route).values()
        labels = {f.key: (f.column, self._table[route].labels[f.key]) for f in fields if f.is_label}
        columns = {f.column for f in fields if not f.is_label} | {"_route"}
        columns = frozenset(self._specs if self._own_preprocessing else columns)
        how = (columns, tuple(inputs.items()), tuple(labels.items()))
        if how not in self._traces:
            self._traces[how] = tf.function(
                lambda rows: self._parse(rows, columns, inputs, labels),
                input_signature=[tf.TensorSpec([None], tf.string)],
                autograph=False,
            )
        return self._traces[how]

    def _parse(
        self,
        serialized: tf.Tensor,
        columns: Collection[str],
        inputs: Mapping[str, Input],
        labels: Mapping[str, tuple[str, Target]],
    ) -> tuple:
        wanted = {*columns, *(column for column, _ in labels.values())}
        specs = {name: self._specs[name] for name in sorted(wanted)}
        raw: dict[str, Any] = tf.io.parse_example(serialized, specs)
        transformed = self._loader.apply_transform_model({name: raw[name] for name in columns})
        features = {key: _rows_of(transformed[spec.output], spec) for key, spec in inputs.items()}
        return features, {key: dense_label(raw[name], t) for key, (name, t) in labels.items()}


def serialized_rows(files: list[str]) -> tf.data.Dataset:
    """Streams the records of TFRecord files, gzip, in order."""
    return tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")


def num_bytes(columns: Columns) -> int:
    """Estimates what columns take in memory."""
    parts = tf.nest.flatten(columns, expand_composites=True)
    return sum(int(tf.size(part)) * (part.dtype.size or _STRING) for part in parts)


def padded(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    """Makes ragged values dense."""
    return values.to_tensor() if isinstance(values, tf.RaggedTensor) else values


def dense_label(values: tf.Tensor | tf.SparseTensor, target: Target) -> tf.Tensor:
    """Gives a label its shape [batch, *shape], filled with the target's `missing`."""
    if not isinstance(values, tf.SparseTensor):
        return tf.reshape(values, [-1, *target.shape])
    shape = tf.stack([values.dense_shape[0], target.num_values])
    missing = tf.cast(target.missing or 0, values.dtype)
    filled = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape), missing)
    return tf.reshape(filled, [-1, *target.shape])


def _rows_of(values: Any, spec: Input) -> tf.Tensor | tf.RaggedTensor:
    if None in spec.shape and isinstance(values, tf.SparseTensor):
        return tf.RaggedTensor.from_sparse(values)
    return densify(values, spec)


def _joined(parts: list[Columns]) -> Columns:
    return tf.nest.map_structure(lambda *of_part: tf.concat(of_part, axis=0), *parts)


def scales_of(rows: Rows, route: Route) -> dict[str, Scale]:
    """Measures the labels of regressions over all entries there are; other labels keep theirs.

    Raises:
        BranchlineError: There is no row, or none that has one of the labels.
    """
    if not rows.count:
        raise BranchlineError(f"route {route.name!r} has no example in train; it cannot be trained")
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
        if target.task == "regression":
            values = values.astype(np.float64)
            scales[key] = Scale(float(values.mean()), float(values.std()) or 1.0)
    return scales
