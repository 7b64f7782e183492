"""Exports a model that takes raw examples of any mix of routes and routes by itself.

Parsing, routing and reading of fields are the Router's own functions, preprocessing is the
Transform's graph; so what is served is what was trained on. All signatures share one function up
to the features, and branches that compute alike one from there on.
"""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2

from branchline.components.branch_trainer.alike import Alike, path_likeness, share_traces
from branchline.components.branch_trainer.check_heads import head_of
from branchline.components.branch_trainer.dispatch import call_with
from branchline.components.branch_trainer.inputs import Input, densify, input_specs
from branchline.components.branch_trainer.losses import like_rows
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.read_rows import Scale
from branchline.components.routing.parse_any import parse_any
from branchline.components.routing.read_fields import read_table_fields
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import BranchlineError, Route, RoutingTable, Target

_BY_TABLE = -1
_NAN = float("nan")


def start_from(model: BranchedModel, directory: str) -> None:
    """Gives a built model the weights of one that `ServedModel` saved.

    Raises:
        BranchlineError: It is no such SavedModel, or its weights have other shapes.
    """
    path = os.path.join(directory, "variables", "variables")
    try:
        shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        raise BranchlineError(f"{directory}: has no weights to start from: {error}") from error
    weights = [variable.value for variable in model.variables]
    found = [shapes.get(f"weights/{i}/.ATTRIBUTES/VARIABLE_VALUE") for i in range(len(weights) + 1)]
    want = [variable.shape.as_list() for variable in weights]
    if found != [*want, None]:
        raise BranchlineError(
            f"{directory}: its weights are not those of this model; training can only start from a "
            "model of the same routes, features and vocabularies"
        )
    tf.train.Checkpoint(weights=weights).read(path).expect_partial()


class ServedModel:
    """What is saved: the model with all that comes before and after it.

    Args:
        table: The routes.
        model: Trained; a path for every route, with a head for each of its labels.
        inputs: Route → what its branch gets.
        scales: Route → label → its scale; predictions of a route without are NaN.
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
        self._table, self._inputs, self._scales = table, inputs, scales
        self._model = model
        self._transform = saved_transform_io_v2.SavedModelLoader(transform.transform_savedmodel_dir)
        self._raw_specs = transform.raw_feature_spec()
        self._prepare = tf.function(
            self._prepare_some,
            input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
            autograph=False,
        ).get_concrete_function()
        alike = [self._alike(route) for route in table.routes]
        self._stand_ins: dict[int, Any] = {}
        self._forward = share_traces(alike, lambda i: self._trace(table.routes[i]))

    def save(self, directory: str) -> None:
        """Writes a SavedModel with `serving_default` and a signature for every route."""
        signatures = {"serving_default": self._signature(None)}
        signatures |= {route.name: self._signature(route) for route in self._table.routes}
        saved: Any = tf.Module()
        # Not the model: to write down its layers takes Keras longer than all that is done here.
        saved.weights = [variable.value for variable in self._model.variables]
        # As TFT's own Keras layer holds it, without the seconds that Keras 2 takes to save a layer.
        saved.transform_resources = vars(self._transform)
        tf.saved_model.save(saved, directory, signatures=signatures)

    def _signature(self, route: Route | None) -> tf.types.experimental.ConcreteFunction:
        """Serves one route, whatever the table says of the examples, or with None all of them."""
        routes = self._table.routes
        forced = _BY_TABLE if route is None else self._table.names.index(route.name)

        def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            # One more, because protocol buffers are decoded one at least.
            index, features = self._prepared(
                tf.concat([examples, [""]], axis=0), tf.constant(forced)
            )
            outputs: dict[str, tf.Tensor] = {}
            if route is None:
                taken = tf.where(index < -1, -2 - index, index)  # also of a row that is unusable
                outputs["route"] = tf.gather(tf.constant(["", *self._table.names]), taken + 1)
                for number, each in enumerate(routes):
                    outputs |= self._predict_own(number, each, index, features)
            else:
                outputs = self._predict_all(forced, route, index, features)
            return {name: rows[:-1] for name, rows in outputs.items()}

        spec = tf.TensorSpec([None], tf.string, name="examples")
        return tf.function(serve, input_signature=[spec], autograph=False).get_concrete_function()

    def _prepared(self, examples: tf.Tensor, forced: tf.Tensor) -> tuple:
        """Calls what `_prepare_some` is traced to.

        As a case of one branch: of a function that is called as such, TensorFlow infers all shapes
        within anew, for every signature and all that is wrapped around it, a third of a second.
        """
        graph = self._prepare
        with tf.device("CPU:0"):
            outputs = tf.raw_ops.Case(
                branch_index=tf.constant(0),
                input=[examples, forced, *graph.captured_inputs],
                Tout=[spec.dtype for spec in tf.nest.flatten(graph.structured_outputs)],
                branches=[graph],
                output_shapes=[spec.shape for spec in tf.nest.flatten(graph.structured_outputs)],
            )
        return tf.nest.pack_sequence_as(graph.structured_outputs, outputs)

    def _prepare_some(self, examples: tf.Tensor, forced: tf.Tensor) -> tuple:
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
        transformed: Any = self._transform.apply_transform_model(raw)
        specs = {spec.output: spec for of in self._inputs.values() for spec in of.values()}
        features = {name: densify(transformed[name], spec) for name, spec in specs.items()}
        return tf.where(usable | (index < 0), index, -2 - index), features

    def _as_declared(self, name: str, values: tf.SparseTensor) -> tf.Tensor | tf.SparseTensor:
        """Makes a column dense where the schema gives it a shape."""
        spec = self._raw_specs[name]
        if not isinstance(spec, tf.io.FixedLenFeature):
            return values
        width = tf.TensorShape(spec.shape).num_elements()
        shape = tf.stack([values.dense_shape[0], width])
        dense = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape))
        return tf.reshape(dense, [-1, *tf.TensorShape(spec.shape).as_list()])

    def _predict_all(
        self, number: int, route: Route, index: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Predicts all rows as a route's; those that cannot be used are NaN."""
        if route.name not in self._scales:
            return _nothing(route, index)
        everywhere = tf.range(tf.size(index))
        predicted = self._predict_rows(number, route, everywhere, features)
        usable = tf.equal(index, number)
        return {
            route.output(key): tf.where(like_rows(usable, values.shape.rank), values, _NAN)
            for key, values in predicted.items()
        }

    def _predict_own(
        self, number: int, route: Route, index: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Predicts a route's own rows; all others are NaN."""
        outputs = _nothing(route, index)
        if route.name not in self._scales:
            return outputs
        rows = tf.where(tf.equal(index, number))
        graph, arguments = self._call(number, route, tf.cast(rows[:, 0], tf.int32), features)
        # Some kernels fail without a row: oneDNN's fused convolution. Not `tf.cond`, which would
        # write two graphs for each route, where two serve all of a kind.
        predicted = tf.raw_ops.If(
            cond=tf.size(rows) > 0,
            input=arguments,
            Tout=graph.output_dtypes,
            then_branch=graph,
            else_branch=self._without_rows(graph, route),
            output_shapes=graph.output_shapes,
        )
        for key, values in zip(route.labels, predicted, strict=True):
            name = route.output(key)
            outputs[name] = tf.tensor_scatter_nd_update(outputs[name], rows, values)
        return outputs

    def _predict_rows(
        self, number: int, route: Route, rows: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        graph, arguments = self._call(number, route, rows, features)
        return dict(zip(route.labels, call_with(graph, arguments), strict=True))

    def _call(
        self, number: int, route: Route, rows: tf.Tensor, features: Mapping[str, tf.Tensor]
    ) -> tuple[Any, list[tf.Tensor]]:
        """Gives the graph of a route's path, and what to call it with; see `_trace`."""
        graph, captured = self._forward[number]
        inputs = self._inputs[route.name]
        own = tf.nest.flatten({key: features[spec.output] for key, spec in inputs.items()})
        scales = [tf.constant(self._scales[route.name][key]) for key in route.labels]
        return graph, [rows, *scales, *own, *captured]

    def _without_rows(self, graph: Any, route: Route) -> Any:
        """Gives what stands for the graph of a path where there is no row."""
        if id(graph) not in self._stand_ins:
            shapes = [[0, *target.prediction_shape] for target in route.labels.values()]
            specs = [tf.TensorSpec(each.shape, each.dtype) for each in graph.inputs]
            stand_in = tf.function(
                lambda *_: [tf.zeros(shape) for shape in shapes],
                input_signature=specs,
                autograph=False,
            )
            self._stand_ins[id(graph)] = stand_in.get_concrete_function()
        return self._stand_ins[id(graph)]

    def _alike(self, route: Route) -> Alike:
        specs = input_specs(self._inputs[route.name])
        kind = path_likeness(self._model, route.name, specs)
        handles = [v.value.handle for v in self._model.state_of(route.name)]
        heads = [head_of(self._model, route, key).name for key in route.labels]
        names = [head.name for head in self._model.heads_of(route.name)]
        targets = [(t.task, t.prediction_shape) for t in route.labels.values()]
        return Alike(kind and (kind, *map(names.index, heads), *targets), handles)

    def _trace(self, route: Route) -> tf.types.experimental.ConcreteFunction:
        """Traces a route's path: rows, a scale per label, flat features → predictions."""
        specs = input_specs(self._inputs[route.name])
        num_labels = len(route.labels)

        def forward(rows: tf.Tensor, *given: tf.Tensor) -> list[tf.Tensor]:
            own = [tf.gather(values, rows) for values in given[num_labels:]]
            features = tf.nest.pack_sequence_as(specs, own)
            outputs = self._model(features, path=route.name, training=False)
            return [
                _prediction(target, outputs[head_of(self._model, route, key).name], scale)
                for (key, target), scale in zip(route.labels.items(), given, strict=False)
            ]

        signature = [tf.TensorSpec([None], tf.int32), *[tf.TensorSpec([2])] * num_labels]
        signature += tf.nest.flatten(specs)
        traced = tf.function(forward, input_signature=signature, autograph=False)
        return traced.get_concrete_function()


def _prediction(target: Target, output: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Turns what a head gives into probabilities [batch, …], or values in the label's unit.

    Args:
        target: Of the label.
        output: Of its head.
        scale: float32 [2], its `Scale`.
    """
    output = tf.reshape(tf.cast(output, tf.float32), [-1, *target.prediction_shape])
    if target.task == "multiclass":
        return tf.nn.softmax(output)
    if target.task == "binary":
        return tf.sigmoid(output)
    return output * scale[1] + scale[0]


def _nothing(route: Route, index: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        route.output(key): tf.fill([tf.size(index), *target.prediction_shape], _NAN)
        for key, target in route.labels.items()
    }
