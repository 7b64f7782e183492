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
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.share_traces import Alike, share_traces
from branchline.components.branch_trainer.recipe.predictions import (
    class_name,
    item_name,
    items_and_scores,
    no_predictions,
)
from branchline.components.branch_trainer.recipe.prepare import BY_TABLE, Preparation
from branchline.components.branch_trainer.recipe.saved_encoder import loaded_encoders
from branchline.components.branch_trainer.recipe.served_paths import ServedPaths
from branchline.components.branch_trainer.step.losses import like_rows
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.components.files.classes_file import write_classes
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
        self._table = table
        self._prepare = Preparation(table, inputs, transform)
        self._encoders = loaded_encoders(model)
        self._paths = ServedPaths(table, model, inputs, scales)

    def save(self, directory: str) -> None:
        """Writes a SavedModel with `serving_default` and a signature for every route.

        Where targets have `classes`, `assets.extra/classes.json` beside it says of each output that
        predicts one which names stand for which numbers, in order.
        """
        signatures = {"serving_default": self._serve_any()}
        served = share_traces(
            list(map(self._served_alike, range(len(self._table.routes)))), self._trace_served
        )
        for number, (route, (graph, captured)) in enumerate(
            zip(self._table.routes, served, strict=True)
        ):
            signatures[route.name] = self._serve_one(number, graph, captured)
        saved: Any = tf.Module()
        # Not the model: to write down its layers takes Keras longer than all that is done here.
        saved.weights = self._paths.weights
        saved.transform_resources = self._prepare.resources
        # Deeper than the weights, which are called by the shortest way that leads to them.
        saved.encoders = [[self._encoders]]
        tf.saved_model.save(saved, directory, signatures=signatures)
        classes = {
            route.output(key): target.classes
            for route in self._table.routes
            for key, target in route.labels.items()
            if target.classes
        }
        if classes:
            write_classes(directory, classes)

    def _serve_any(self) -> tf.types.experimental.ConcreteFunction:
        """Serves every row as the route that the table says."""
        routes = self._table.routes

        def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            index, features = self._prepare(_and_one(examples), tf.constant(BY_TABLE))
            small = self._paths.weights.read()
            taken = tf.where(index < -1, -2 - index, index)  # also of a row that is unusable
            outputs = {"route": tf.gather(tf.constant(["", *self._table.names]), taken + 1)}
            own = tf.where(index < 0, len(routes), index)
            parts = tf.dynamic_partition(tf.range(tf.size(own)), own, len(routes) + 1)
            for number, (route, rows) in enumerate(zip(routes, parts, strict=False)):
                predicted = self._paths.predict(
                    number, self._paths.own(route), rows, small, features
                )
                outputs |= _named(route, predicted)
            return {name: rows[:-1] for name, rows in outputs.items()}

        return _as_it_is(serve)

    def _serve_one(
        self, number: int, graph: Any, captured: list[tf.Tensor]
    ) -> tf.types.experimental.ConcreteFunction:
        """Serves one route, whatever the table says of the examples."""
        route = self._table.routes[number]

        def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            given = [examples, tf.constant(number), *self._paths.own(route), *captured]
            return _named(route, call_with(graph, given))

        served = tf.function(serve, input_signature=_EXAMPLES, autograph=False)
        return served.get_concrete_function()

    def _served_alike(self, number: int) -> Alike:
        kind, resources = self._paths.alike(number)
        return Alike(kind, [*resources, *self._prepare.captured])

    def _trace_served(self, number: int) -> tf.types.experimental.ConcreteFunction:
        """Traces what serves a route, and all that differ in nothing but number and weights."""
        route = self._table.routes[number]
        own = self._paths.own(route)

        def serve(examples: tf.Tensor, number_of: tf.Tensor, *own: tf.Tensor) -> list[tf.Tensor]:
            index, features = self._prepare(_and_one(examples), number_of)
            everywhere = tf.range(tf.size(index))
            predicted = self._paths.predict(
                number, own, everywhere, self._paths.weights.read(), features
            )
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


def _named(route: Route, predicted: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Names a route's outputs: the predictions of its labels, and the classes of those with names.

    Args:
        route: The route.
        predicted: Of each label, [batch, …].
    """
    outputs = {}
    for (key, target), values in zip(route.labels.items(), predicted, strict=True):
        outputs[route.output(key)] = values
        if target.top_k:
            items, outputs[route.score_output(key)] = items_and_scores(values)
            outputs[route.output(key)] = items
            if target.classes:
                outputs[route.name_output(key)] = item_name(target, items)
        elif target.classes:
            outputs[route.name_output(key)] = class_name(target, values)
    return outputs


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
