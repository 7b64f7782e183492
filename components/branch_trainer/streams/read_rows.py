"""Reads routed examples as what the branches get: parsed and transformed, once.

A route's part of the Transform's graph runs here; TensorFlow leaves out the rest of it.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.branch_trainer.streams.inputs import Input, densify
from branchline.components.branch_trainer.streams.labels import dense_label
from branchline.components.branch_trainer.streams.read_files import batches_of
from branchline.components.branch_trainer.streams.transform_graph import TransformGraph
from branchline.components.branch_trainer.streams.weights import dense_weight
from branchline.schemas import RoutingTable
from branchline.schemas.fields import Field

BATCH = 4096  # rows parsed at a time, if they are so small:
_BATCH_BYTES = 64 << 20
_STRING = 32  # bytes that a string is taken to need

Columns = dict[str, Any]


class Rows(NamedTuple):
    """The training rows of one route.

    Attributes:
        count: How many there are.
        labels: Label → int64, int8, float32 or float64 [count, *label_shape], filled with the
            target's `missing`; and the key of the weight, if the route has one → float32 [count].
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

    Attributes:
        inputs: As given.
    """

    def __init__(
        self,
        table: RoutingTable,
        inputs: Mapping[str, Mapping[str, Input]],
        transform: tft.TFTransformOutput,
    ) -> None:
        self._table, self.inputs = table, inputs
        self._transform = TransformGraph(transform, inputs)
        self._parse = tf.function(
            self._parse_all, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def read(self, files: Mapping[str, Sequence[str]], budget: int) -> dict[str, Rows]:
        """Reads the examples of routes in order.

        Args:
            files: Route → its files.
            budget: Bytes that the features of all may take in memory.

        Returns:
            Route → its rows; those of a route that does not fit beside those before it stay on
            disk.
        """
        features: dict[str, list[Columns] | None] = {route: [] for route in files}
        labels: dict[str, list[Columns]] = {route: [] for route in files}
        for route, parsed, of_part in self.parts(files):
            labels[route].append(of_part)
            held = features[route]
            if held is None:
                continue
            held.append(parsed)
            budget -= num_bytes(parsed)
            if budget < 0:
                budget += sum(map(num_bytes, held))
                features[route] = None
        return {
            route: self._joined(route, features[route], labels[route], files[route])
            for route in files
        }

    def parts(
        self, files: Mapping[str, Sequence[str]], most: int = -1
    ) -> Iterator[tuple[str, Columns, Columns]]:
        """Reads the examples of routes in order, part by part.

        Args:
            files: Route → its files.
            most: How many examples of a file to read, its first ones; -1 for all.

        Returns:
            Of each part its route, and features and labels as `Rows` has them.
        """
        routes = [(path, route) for route, of in files.items() for path in sorted(of)]
        paths = tf.constant([path for path, _ in routes], tf.string)
        size = tf.constant(_rows_at_a_time(self.inputs), tf.int64)
        for serialized, numbers in batches_of(paths, size, tf.constant(most, tf.int64)):
            columns = self._parse(serialized)
            for route, first, count in _runs([routes[number][1] for number in numbers.numpy()]):
                yield route, *self._of_route(route, *_rows_from(columns, first, count))

    def _joined(
        self,
        route: str,
        features: list[Columns] | None,
        labels: list[Columns],
        files: Sequence[str],
    ) -> Rows:
        joined = _concat(labels) if labels else dict.fromkeys(self._known(route), [])
        count = len(next(iter(joined.values())))
        parse_fn = functools.partial(self.parse, route)
        return Rows(count, joined, _concat(features) if features else None, [*files], parse_fn)

    def parse(self, route: str, serialized: tf.Tensor) -> tuple[Columns, Columns]:
        """Parses and transforms a batch of a route's examples.

        Args:
            route: Its name.
            serialized: string [batch].

        Returns:
            Features and labels, as `Rows` has them.
        """
        return self._of_route(route, *self._parse(serialized))

    def _of_route(
        self, route: str, transformed: Mapping[str, Any], raw: Mapping[str, Any]
    ) -> tuple[Columns, Columns]:
        features = {
            key: _rows_of(transformed[spec.output], spec)
            for key, spec in self.inputs[route].items()
        }
        targets = self._table[route].labels
        labels = {
            key: dense_weight(raw[field.column])
            if field.is_weight
            else dense_label(raw[field.column], targets[key])
            for key, field in self._known(route).items()
        }
        return features, labels

    def _known(self, route: str) -> dict[str, Field]:
        """Key → field, of the route's labels and its weight: what is there in training alone."""
        fields = self._table.fields(route)
        return {key: field for key, field in fields.items() if not field.is_feature}

    def _parse_all(self, serialized: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parses and transforms any routes' examples.

        Returns:
            Output of the Transform → its values, and column of a label or weight → its values.
        """
        raw: dict[str, Any] = tf.io.parse_example(serialized, self._transform.raw_specs)
        known = {f.column for route in self._table.names for f in self._known(route).values()}
        return self._transform(raw), {name: raw[name] for name in known}


def _runs(values: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Gives each value that stands once or several times in a row, where that is, how often."""
    first = 0
    for value, run in itertools.groupby(values):
        count = len(list(run))
        yield value, first, count
        first += count


def _rows_from(columns: Any, first: int, count: int) -> Any:
    """Takes `count` rows of all columns, dense or sparse, from the row `first` on."""

    def some(column: Any) -> Any:
        if isinstance(column, tf.SparseTensor):
            rest = column.dense_shape[1:]
            start, size = (
                tf.concat([[first], tf.zeros_like(rest)], 0),
                tf.concat([[count], rest], 0),
            )
            return tf.sparse.slice(column, start, size)
        return column[first : first + count]

    return tf.nest.map_structure(some, columns)


def num_bytes(columns: Any) -> int:
    """Estimates what columns take in memory."""
    parts = tf.nest.flatten(columns, expand_composites=True)
    return sum(math.prod(part.shape) * (part.dtype.size or _STRING) for part in parts)


def _rows_at_a_time(inputs: Mapping[str, Mapping[str, Input]]) -> int:
    """Returns how many rows to parse at a time, were all as large as those of the largest route."""
    largest = max(map(_expected_row_bytes, inputs.values()), default=1)
    return max(1, min(BATCH, _BATCH_BYTES // largest))


def _expected_row_bytes(inputs: Mapping[str, Input]) -> int:
    """Estimates what a row will take in memory; a length that varies counts as 1."""
    sizes = [
        math.prod(each or 1 for each in spec.shape) * (tf.as_dtype(spec.dtype).size or _STRING)
        for spec in inputs.values()
    ]
    return max(1, sum(sizes))


def padded(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    """Makes ragged values dense."""
    return values.to_tensor() if isinstance(values, tf.RaggedTensor) else values


def _rows_of(values: Any, spec: Input) -> tf.Tensor | tf.RaggedTensor:
    if None in spec.shape and isinstance(values, tf.SparseTensor):
        return tf.RaggedTensor.from_sparse(values)
    return densify(values, spec)


def _concat(parts: list[Columns]) -> Columns:
    """Joins columns one by one and takes them out of the parts, or all would be there twice."""
    return {key: tf.concat([part.pop(key) for part in parts], axis=0) for key in [*parts[0]]}
