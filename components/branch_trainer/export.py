"""Exports a model that takes raw examples of any mix of routes and routes by itself.

Parsing, routing and reading of fields are the Router's own functions, preprocessing is the
Transform's graph; so what is served is what was trained on.
"""

import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2

from branchline.components.branch_trainer.check_heads import head_of
from branchline.components.branch_trainer.inputs import Input, densify
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.train import Scale
from branchline.components.routing.parse_batch import ABSENT, Column, parse
from branchline.components.routing.read_fields import read_fields, widen
from branchline.components.routing.routing_fn import route_index
from branchline.components.transform.preprocessing import output_name
from branchline.schemas import Route, RoutingTable, Target

_BY_TABLE = -1


class ServedModel(tf.Module):
    """What is saved: the model with all that comes before and after it.

    Args:
        table: The routes.
        model: Trained; a path for every route, with a head for each of its labels.
        inputs: Route → what its branch gets.
        scales: Route → label → its scale.
        transform: The Transform's output.
    """

    def __init__(
        self,
        table: RoutingTable,
        model: BranchedModel,
        inputs: Mapping[str, dict[str, Input]],
        scales: Mapping[str, Mapping[str, Scale]],
        transform: tft.TFTransformOutput,
    ) -> None:
        super().__init__()
        self._table, self._inputs, self._scales = table, inputs, scales
        self.model = model
        # As TFT's own Keras layer holds it, without the seconds that Keras 2 takes to save a layer.
        self._transform = saved_transform_io_v2.SavedModelLoader(transform.transform_savedmodel_dir)
        self.transform_resources = vars(self._transform)
        self._raw_specs = transform.raw_feature_spec()
        # Traced once; the signatures only ask it in different ways.
        self._predict = tf.function(
            self._predict_some,
            input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
            autograph=False,
        ).get_concrete_function()

    def save(self, directory: str) -> None:
        """Writes a SavedModel with `serving_default` and a signature for every route."""
        signatures = {"serving_default": self._signature(None)}
        signatures |= {route.name: self._signature(route.name) for route in self._table.routes}
        tf.saved_model.save(self, directory, signatures=signatures)

    def _signature(self, route: str | None) -> tf.types.experimental.ConcreteFunction:
        """Serves one route, whatever the table says of the examples, or with None all of them."""
        forced = _BY_TABLE if route is None else self._table.names.index(route)

        def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            # One more, because protocol buffers are decoded one at least.
            outputs = self._predict(tf.concat([examples, [""]], axis=0), tf.constant(forced))
            outputs = {name: rows[:-1] for name, rows in outputs.items()}
            if route is None:
                return outputs
            mine = self._table[route]
            return {mine.output(key): outputs[mine.output(key)] for key in mine.labels}

        spec = tf.TensorSpec([None], tf.string, name="examples")
        return tf.function(serve, input_signature=[spec], autograph=False).get_concrete_function()

    def _predict_some(self, examples: tf.Tensor, forced: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = parse(examples, self._table.keys)
        index = route_index(self._table, columns)
        index = tf.where(forced >= 0, tf.fill(tf.shape(index), forced), index)
        usable, raw = self._read(examples, columns, index)
        transformed = self._transform.apply_transform_model(raw)
        names = tf.constant(["", *self._table.names])
        outputs = {"route": tf.gather(names, index + 1)}
        for number, route in enumerate(self._table.routes):
            rows = tf.where(usable & tf.equal(index, number))
            predicted = tf.cond(
                tf.size(rows) > 0,  # some kernels fail without a row: oneDNN's fused convolution
                functools.partial(self._predict_route, route, transformed, rows[:, 0]),
                functools.partial(_no_rows, route),
            )
            for key, target in route.labels.items():
                nothing = tf.fill([tf.size(index), *target.prediction_shape], float("nan"))
                outputs[route.output(key)] = tf.tensor_scatter_nd_update(
                    nothing, rows, predicted[key]
                )
        return outputs

    def _read(
        self, examples: tf.Tensor, columns: dict[str, Column], index: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor | tf.SparseTensor]]:
        """Reads every route's features in its own rows, as the Transform's graph takes them.

        Returns:
            Whether a row's features can be used bool [batch], and column → values.
        """
        found: dict[str, list[tuple[tf.Tensor, tf.Tensor]]] = {}
        usable = index >= 0
        for number, route in enumerate(self._table.routes):
            mine = tf.equal(index, number)
            own = self._columns_of(route, examples, columns)
            fields = read_fields(route, own, label=False)
            usable &= tf.logical_not(mine & (fields.problem >= 0))
            for key, column in fields.columns.items():
                values = {
                    "string": column.strings,
                    "float": column.floats,
                    "int": column.ints,
                }[route.dtypes[key]]
                size = tf.where(mine & (fields.problem < 0), column.size, 0)
                there = tf.sequence_mask(size, tf.shape(values)[1])
                part = (tf.where(there), tf.boolean_mask(values, there))
                found.setdefault(self._table.column(route.name, key), []).append(part)
        batch = tf.shape(index, out_type=tf.int64)[0]
        raw = {name: _sparse(parts, batch) for name, parts in found.items()}
        tags = tf.gather(tf.constant(["", *self._table.names]), index + 1)[:, None]
        raw["_route"] = tf.sparse.from_dense(tf.where(tf.equal(tags, ""), "-", tags))
        return usable, {name: self._as_declared(name, values) for name, values in raw.items()}

    def _columns_of(
        self, route: Route, examples: tf.Tensor, columns: dict[str, Column]
    ) -> dict[str, Column]:
        """Gives a route's columns; a routed example may hold one under its name with the type."""
        named = {key: self._table.column(route.name, key) for key in route.features}
        renamed = {key: name for key, name in named.items() if name != key}
        others = parse(examples, renamed.values()) if renamed else {}
        return {
            key: _either(others[renamed[key]], columns[key]) if key in renamed else columns[key]
            for key in named
        }

    def _as_declared(self, name: str, values: tf.SparseTensor) -> tf.Tensor | tf.SparseTensor:
        """Makes a column dense where the schema gives it a shape."""
        spec = self._raw_specs[name]
        if not isinstance(spec, tf.io.FixedLenFeature):
            return values
        width = tf.TensorShape(spec.shape).num_elements()
        shape = tf.stack([values.dense_shape[0], width])
        dense = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape))
        return tf.reshape(dense, [-1, *tf.TensorShape(spec.shape).as_list()])

    def _predict_route(
        self, route: Route, transformed: Mapping[str, Any], rows: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        features = {
            key: tf.gather(densify(transformed[output_name(route.name, key)], spec), rows)
            for key, spec in self._inputs[route.name].items()
        }
        outputs = self.model(features, path=route.name, training=False)
        return {
            key: _prediction(
                target, outputs[head_of(self.model, route, key).name], self._scales[route.name][key]
            )
            for key, target in route.labels.items()
        }


def _prediction(target: Target, output: tf.Tensor, scale: Scale) -> tf.Tensor:
    """Turns what a head gives into probabilities [batch, …], or values in the label's unit."""
    output = tf.reshape(tf.cast(output, tf.float32), [-1, *target.prediction_shape])
    if target.task == "multiclass":
        return tf.nn.softmax(output)
    if target.task == "binary":
        return tf.sigmoid(output)
    return output * scale.std + scale.mean


def _no_rows(route: Route) -> dict[str, tf.Tensor]:
    return {key: tf.zeros([0, *t.prediction_shape]) for key, t in route.labels.items()}


def _sparse(parts: list[tuple[tf.Tensor, tf.Tensor]], batch: tf.Tensor) -> tf.SparseTensor:
    """Joins the values of routes that share a column; they are in different rows."""
    indices = tf.concat([each for each, _ in parts], axis=0)
    values = tf.concat([each for _, each in parts], axis=0)
    width = tf.reduce_max(tf.concat([indices[:, 1] + 1, [1]], axis=0))
    return tf.sparse.reorder(tf.SparseTensor(indices, values, tf.stack([batch, width])))


def _either(first: Column, second: Column) -> Column:
    """Takes each row from `first` where it has values, else from `second`."""
    absent = tf.equal(first.dtype, ABSENT)
    parts = []
    for a, b in zip(first, second, strict=True):
        if a.shape.rank == 2:
            width = tf.maximum(tf.shape(a)[1], tf.shape(b)[1])
            a, b = (widen(each, width) for each in (a, b))
            parts.append(tf.where(absent[:, None], b, a))
        else:
            parts.append(tf.where(absent, b, a))
    return Column(*parts)
