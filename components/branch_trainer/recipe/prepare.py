"""What is served before the branches: examples parsed, routed, read and transformed."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.branch_trainer.streams.inputs import Input, densify
from branchline.components.branch_trainer.streams.transform_graph import TransformGraph
from branchline.components.routing.parse_any import parse_any
from branchline.components.routing.read_fields import read_table_fields
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import RoutingTable

BY_TABLE = -1  # in place of a route's number: the table says which


class Preparation:
    """The Router's functions and the Transform's graph, traced once for all signatures.

    Args:
        table: The routes.
        inputs: Route → what its branch gets.
        transform: The Transform's output.
    """

    def __init__(
        self,
        table: RoutingTable,
        inputs: Mapping[str, dict[str, Input]],
        transform: tft.TFTransformOutput,
    ) -> None:
        self._table = table
        self._transform = TransformGraph(transform, inputs)
        self._graph = tf.function(
            self._prepare,
            input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
            autograph=False,
        ).get_concrete_function()

    @property
    def captured(self) -> list[tf.Tensor]:
        """What the traced graph takes beside its arguments."""
        return self._graph.captured_inputs

    @property
    def resources(self) -> dict[str, Any]:
        """What a SavedModel has to hold for it."""
        return self._transform.resources

    def __call__(self, examples: tf.Tensor, forced: tf.Tensor) -> tuple:
        """Parses, routes, reads and transforms some rows, as `_prepare` says.

        As a case of one branch: of a function that is called as such, TensorFlow infers all shapes
        within anew, for every signature and all that is wrapped around it, a third of a second.
        """
        graph = self._graph
        with tf.device("CPU:0"):
            outputs = tf.raw_ops.Case(
                branch_index=tf.constant(0),
                input=[examples, forced, *graph.captured_inputs],
                Tout=[spec.dtype for spec in tf.nest.flatten(graph.structured_outputs)],
                branches=[graph],
                output_shapes=[spec.shape for spec in tf.nest.flatten(graph.structured_outputs)],
            )
        return tf.nest.pack_sequence_as(graph.structured_outputs, outputs)

    def _prepare(self, examples: tf.Tensor, forced: tf.Tensor) -> tuple:
        """Parses, routes, reads and transforms.

        Returns:
            The number of each row's route int32 [batch]: -1 for none and for bytes that are no
            tf.Example, -2 - number where its features cannot be used; and Transform's output →
            features [batch, …].
        """
        entries, readable = parse_any(examples, self._table)
        index = route_index(self._table, entries)
        index = tf.where(forced >= 0, tf.fill(tf.shape(index), forced), index)
        index = tf.where(readable, index, -1)
        read = read_table_fields(self._table, entries, index, label=False)
        usable = (index >= 0) & (read.problem < 0)
        raw = {name: self._as_declared(name, values) for name, values in read.columns.items()}
        tags = tf.gather(tf.constant(["-", *self._table.names]), index + 1)[:, None]
        raw["_route"] = self._as_declared("_route", tf.sparse.from_dense(tags))
        specs = self._transform.outputs
        features = {name: densify(of, specs[name]) for name, of in self._transform(raw).items()}
        return tf.where(usable | (index < 0), index, -2 - index), features

    def _as_declared(self, name: str, values: tf.SparseTensor) -> tf.Tensor | tf.SparseTensor:
        """Makes a column dense where the schema gives it a shape."""
        spec = self._transform.raw_specs[name]
        if not isinstance(spec, tf.io.FixedLenFeature):
            return values
        width = tf.TensorShape(spec.shape).num_elements()
        shape = tf.stack([values.dense_shape[0], width])
        dense = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape))
        return tf.reshape(dense, [-1, *tf.TensorShape(spec.shape).as_list()])
