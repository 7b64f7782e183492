"""Exports a model that takes raw examples of any mix of routes and routes by itself.

Parsing, routing and reading of fields are the Router's own functions, preprocessing is the
Transform's graph; so what is served is what was trained on. All signatures share one function up
to the features, and branches that compute alike one from there on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.branch_trainer.loop.dispatch import call_with
from branchline.components.branch_trainer.model.alike import path_likeness
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.share_traces import Alike, share_traces
from branchline.components.branch_trainer.recipe.check_heads import head_of
from branchline.components.branch_trainer.recipe.packed_weights import PackedWeights
from branchline.components.branch_trainer.recipe.predictions import no_predictions, prediction
from branchline.components.branch_trainer.recipe.prepare import BY_TABLE, Preparation
from branchline.components.branch_trainer.step.losses import like_rows
from branchline.components.branch_trainer.streams.inputs import Input, input_specs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.schemas import Route, RoutingTable

_EXAMPLES = [tf.TensorSpec([None], tf.string, name="examples")]


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
        self._model, self._weights = model, PackedWeights(model.variables)
        self._prepare = Preparation(table, inputs, transform)
        alike = [self._alike(route) for route in table.routes]
        self._stand_ins: dict[int, Any] = {}
        self._forward = share_traces(alike, lambda i: self._trace(table.routes[i]))
        self._weights.keep(model.variables, [each for _, of in self._forward for each in of])

    def save(self, directory: str) -> None:
        """Writes a SavedModel with `serving_default` and a signature for every route."""
        signatures = {"serving_default": self._serve_any()}
        served = share_traces(list(map(self._served_alike, self._table.routes)), self._trace_served)
        for number, (route, (graph, captured)) in enumerate(
            zip(self._table.routes, served, strict=True)
        ):
            signatures[route.name] = self._serve_one(number, graph, captured)
        saved: Any = tf.Module()
        # Not the model: to write down its layers takes Keras longer than all that is done here.
        saved.weights = self._weights
        saved.transform_resources = self._prepare.resources
        tf.saved_model.save(saved, directory, signatures=signatures)

    def _serve_any(self) -> tf.types.experimental.ConcreteFunction:
        """Serves every row as the route that the table says."""
        routes = self._table.routes

        def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            index, features = self._prepare(_and_one(examples), tf.constant(BY_TABLE))
            small = self._weights.read()
            taken = tf.where(index < -1, -2 - index, index)  # also of a row that is unusable
            outputs = {"route": tf.gather(tf.constant(["", *self._table.names]), taken + 1)}
            own = tf.where(index < 0, len(routes), index)
            parts = tf.dynamic_partition(tf.range(tf.size(own)), own, len(routes) + 1)
            for number, (route, rows) in enumerate(zip(routes, parts, strict=False)):
                predicted = self._predict(number, self._own(route), rows, small, features)
                outputs |= zip(map(route.output, route.labels), predicted, strict=True)
            return {name: rows[:-1] for name, rows in outputs.items()}

        return _as_it_is(serve)

    def _serve_one(
        self, number: int, graph: Any, captured: list[tf.Tensor]
    ) -> tf.types.experimental.ConcreteFunction:
        """Serves one route, whatever the table says of the examples."""
        route = self._table.routes[number]

        def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            given = [examples, tf.constant(number), *self._own(route), *captured]
            names = map(route.output, route.labels)
            return dict(zip(names, call_with(graph, given), strict=True))

        served = tf.function(serve, input_signature=_EXAMPLES, autograph=False)
        return served.get_concrete_function()

    def _served_alike(self, route: Route) -> Alike:
        number = self._table.names.index(route.name)
        outputs = [spec.output for spec in self._inputs[route.name].values()]
        trained = route.name in self._scales
        own = [v.value.handle for v in self._model.state_of(route.name)]
        shared = [each.handle for each in self._weights.small.values()]
        kind = (id(self._forward[number][0]), trained, *outputs)
        return Alike(kind, [*own, *shared, *self._prepare.captured])

    def _trace_served(self, number: int) -> tf.types.experimental.ConcreteFunction:
        """Traces what serves a route, and all that differ in nothing but number and weights."""
        route = self._table.routes[number]
        own = self._own(route)

        def serve(examples: tf.Tensor, number_of: tf.Tensor, *own: tf.Tensor) -> list[tf.Tensor]:
            index, features = self._prepare(_and_one(examples), number_of)
            everywhere = tf.range(tf.size(index))
            predicted = self._predict(number, own, everywhere, self._weights.read(), features)
            usable = tf.equal(index, number_of)
            none = no_predictions(route, tf.size(index))
            return [
                tf.where(like_rows(usable, values.shape.rank), values, nothing)[:-1]
                for values, nothing in zip(predicted, none, strict=True)
            ]

        specs = [tf.TensorSpec([], tf.int32, name="number")]
        specs += [tf.TensorSpec(t.shape, t.dtype, name=f"own_{i}") for i, t in enumerate(own)]
        signature = [*_EXAMPLES, *specs]
        traced = tf.function(serve, input_signature=signature, autograph=False)
        return traced.get_concrete_function()

    def _own(self, route: Route) -> list[tf.Tensor]:
        """Gives where a route's weights are packed, and the scales of its labels, if it has any."""
        places = self._weights.places(self._model.state_of(route.name))
        scales = self._scales.get(route.name, {})
        held = [tf.constant(scales[key], tf.float64) for key in route.labels if key in scales]
        return [places, *held]

    def _predict(
        self,
        number: int,
        own: Sequence[tf.Tensor],
        rows: tf.Tensor,
        small: list[tf.Tensor],
        features: Mapping[str, tf.Tensor],
    ) -> list[tf.Tensor]:
        """Predicts some rows as a route's, each label [batch, …].

        All others are NaN, as are those of a route without a scale.

        Args:
            number: Of the route.
            own: As `_own` gives them.
            rows: int32 [n].
            small: The packed weights.
            features: Transform's output → values [batch, …].
        """
        route = self._table.routes[number]
        batch_size = tf.shape(next(iter(features.values())))[0]
        if route.name not in self._scales:
            return no_predictions(route, batch_size)
        graph, captured = self._forward[number]
        own_features = {
            key: features[spec.output] for key, spec in self._inputs[route.name].items()
        }
        places, *scales = own
        given = (rows, batch_size, places, small, scales, own_features)
        # Some kernels fail without a row: oneDNN's fused convolution. Not `tf.cond`, which would
        # write two graphs for each route, where two serve all of a kind.
        return tf.raw_ops.If(
            cond=rows,  # whether there are any
            input=[*tf.nest.flatten(given), *captured],
            Tout=graph.output_dtypes,
            then_branch=graph,
            else_branch=self._without_rows(graph, route),
            output_shapes=graph.output_shapes,
        )

    def _without_rows(self, graph: Any, route: Route) -> Any:
        """Gives what stands for the graph of a path where there is no row."""
        if id(graph) not in self._stand_ins:
            specs = [
                tf.TensorSpec(each.shape, each.dtype, name=f"given_{i}")
                for i, each in enumerate(graph.inputs)
            ]
            stand_in = tf.function(
                lambda rows, batch_size, *_: no_predictions(route, batch_size),
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
        targets = [(t.task, t.prediction_shape, t.whole) for t in route.labels.values()]
        return Alike(kind and (kind, *map(names.index, heads), *targets), handles)

    def _trace(self, route: Route) -> tf.types.experimental.ConcreteFunction:
        """Traces a route's path to what takes the tensors that `_predict` gives."""
        specs = input_specs(self._inputs[route.name])
        weights = self._model.state_of(route.name)

        def forward(
            rows: tf.Tensor,
            batch_size: tf.Tensor,
            places: tf.Tensor,
            small: list[tf.Tensor],
            scales: list[tf.Tensor],
            features: dict[str, tf.Tensor],
        ) -> list[tf.Tensor]:
            own = {key: tf.gather(values, rows) for key, values in features.items()}
            with self._weights.unpacked(weights, places, small):
                outputs = self._model(own, path=route.name, training=False)
            predicted = [
                prediction(target, outputs[head_of(self._model, route, key).name], scale)
                for (key, target), scale in zip(route.labels.items(), scales, strict=True)
            ]
            return [
                tf.tensor_scatter_nd_update(nothing, rows[:, None], values)
                for nothing, values in zip(
                    no_predictions(route, batch_size), predicted, strict=True
                )
            ]

        signature = [
            tf.TensorSpec([None], tf.int32, name="rows"),
            tf.TensorSpec([], tf.int32, name="batch_size"),
            tf.TensorSpec([None], tf.int32, name="places"),
            [
                tf.TensorSpec([None], each.dtype, name=f"small_{i}")
                for i, each in enumerate(self._weights.small.values())
            ],
            [tf.TensorSpec([2], tf.float64, name=f"scale_{i}") for i in range(len(route.labels))],
            specs,
        ]
        traced = tf.function(forward, input_signature=signature, autograph=False)
        return traced.get_concrete_function()


def _and_one(examples: tf.Tensor) -> tf.Tensor:
    """Adds an empty example, because protocol buffers are decoded one at least."""
    return tf.concat([examples, [""]], axis=0)


def _as_it_is(
    serve_fn: Callable[[tf.Tensor], dict[str, tf.Tensor]],
) -> tf.types.experimental.ConcreteFunction:
    """Traces what TensorFlow is to run without rewriting its graph first.

    To rewrite it takes as long as hundreds of calls, and they do not become faster. A graph more
    for each signature would hold all graphs that it calls once more, in memory and in time.
    """
    how = tf.compat.v1.ConfigProto()
    how.graph_options.rewrite_options.disable_meta_optimizer = True
    whole = {"_noinline": True}
    graph: Any = tf.function(
        serve_fn, input_signature=_EXAMPLES, autograph=False, experimental_attributes=whole
    ).get_concrete_function()

    def call(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        given = [examples, *graph.captured_inputs]
        outputs = call_with(graph, given, how.SerializeToString())
        return tf.nest.pack_sequence_as(graph.structured_outputs, outputs)

    return tf.function(call, input_signature=_EXAMPLES, autograph=False).get_concrete_function()
