"""Reads routed examples as what the branches get: parsed and transformed, once.

A route's part of the Transform's graph runs here; TensorFlow leaves out the rest of it.
"""

import functools
from collections.abc import Callable, Mapping
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
        labels: Label → int64, float32 or float64 [count, *shape], filled with the target's
            `missing`.
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
    """Reads the examples of routes, all by one traced function, however many routes there are.

    Args:
        table: The routes.
        inputs: Route → what its branch gets.
        transform: The Transform's output.
    """

    def __init__(
        self,
        table: RoutingTable,
        inputs: Mapping[str, Mapping[str, Input]],
        transform: tft.TFTransformOutput,
    ) -> None:
        self._table, self._inputs = table, inputs
        self._loader = saved_transform_io_v2.SavedModelLoader(transform.transform_savedmodel_dir)
        self._specs = transform.raw_feature_spec()
        self._parse = tf.function(
            self._parse_all, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def read(self, route: str, files: list[str], budget: int) -> Rows:
        """Reads a route's examples in order.

        Args:
            route: Its name.
            files: Its files.
            budget: Bytes that its features may take in memory.
        """
        parse_fn = functools.partial(self.parse, route)
        features: list[Columns] | None = []
        labels: list[Columns] = []
        for serialized in _batches(tf.constant(sorted(files), tf.string)):
            parsed, of_batch = parse_fn(serialized)
            labels.append(of_batch)
            if features is not None:
                features.append(parsed)
                budget -= num_bytes(parsed)
                features = None if budget < 0 else features
        joined = _joined(labels) if labels else dict.fromkeys(self._table[route].labels, [])
        count = len(next(iter(joined.values())))
        return Rows(count, joined, _joined(features) if features else None, files, parse_fn)

    def parse(self, route: str, serialized: tf.Tensor) -> tuple[Columns, Columns]:
        """Parses and transforms a batch of a route's examples.

        Args:
            route: Its name.
            serialized: string [batch].

        Returns:
            Features and labels, as `Rows` has them.
        """
        transformed, raw = self._parse(serialized)
        features = {
            key: _rows_of(transformed[spec.output], spec)
            for key, spec in self._inputs[route].items()
        }
        targets, fields = self._table[route].labels, self._table.fields(route)
        labels = {key: dense_label(raw[fields[key].column], targets[key]) for key in targets}
        return features, labels

    def _parse_all(self, serialized: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parses and transforms any routes' examples.

        Returns:
            Output of the Transform → its values, and column of a label → its values.
        """
        raw: dict[str, Any] = tf.io.parse_example(serialized, self._specs)
        outputs = {spec.output for of_route in self._inputs.values() for spec in of_route.values()}
        transformed = self._loader.apply_transform_model(raw)
        labels = {
            field.column
            for name in self._table.names
            for field in self._table.fields(name).values()
            if field.is_label
        }
        return {name: transformed[name] for name in outputs}, {name: raw[name] for name in labels}


def serialized_rows(files: list[str]) -> tf.data.Dataset:
    """Streams the records of TFRecord files, gzip, in order."""
    return tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def _batches(files: tf.Tensor) -> tf.data.Dataset:
    """Streams what is in files, `BATCH` records at a time; one trace serves all routes."""
    return tf.data.TFRecordDataset(files, compression_type="GZIP").batch(BATCH)


def num_bytes(columns: Columns) -> int:
    """Estimates what columns take in memory."""
    parts = tf.nest.flatten(columns, expand_composites=True)
    return sum(int(tf.size(part)) * (part.dtype.size or _STRING) for part in parts)


def padded(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    """Makes ragged values dense."""
    return values.to_tensor() if isinstance(values, tf.RaggedTensor) else values


def dense_label(values: tf.Tensor | tf.SparseTensor, target: Target) -> tf.Tensor:
    """Gives a label its shape [batch, *shape], filled with the target's `missing`.

    Whole numbers of a regression become float64, which holds times in milliseconds exactly.
    """
    if target.whole:
        values = tf.cast(values, tf.float64)
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
