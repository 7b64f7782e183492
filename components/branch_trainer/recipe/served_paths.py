"""The paths of a model that is served: from the Transform's features to predictions.

Paths that compute alike are one graph, which is handed where the weights of each lie.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.alike import path_likeness
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.share_traces import Alike, share_traces
from branchline.components.branch_trainer.recipe.check_heads import head_of
from branchline.components.branch_trainer.recipe.packed_weights import PackedWeights
from branchline.components.branch_trainer.recipe.predictions import (
    best_items,
    no_predictions,
    prediction,
)
from branchline.components.branch_trainer.streams.inputs import Input, input_specs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.schemas import Route, RoutingTable


class ServedPaths:
    """Predicts rows as those of a route.

    Args:
        table: The routes.
        model: Trained; a path for every route, with a head for each of its labels.
        inputs: Route → what its branch gets.
        scales: Route → label → its scale; predictions of a route without are NaN.
    """

    def __init__(
        self,
        table: RoutingTable,
        model: BranchedModel,
        inputs: Mapping[str, dict[str, Input]],
        scales: Mapping[str, Mapping[str, Scale]],
    ) -> None:
        self._table, self._inputs, self._scales = table, inputs, scales
        self._model, self.weights = model, PackedWeights(model.variables)
        alike = [self._alike(route) for route in table.routes]
        self._stand_ins: dict[int, Any] = {}
        self._forward = share_traces(alike, lambda i: self._trace(table.routes[i]))
        self.weights.keep(model.variables, [each for _, of in self._forward for each in of])

    def alike(self, number: int) -> Alike:
        """Tells which routes `predict` treats alike.

        Args:
            number: Of the route.
        """
        route = self._table.routes[number]
        outputs = [spec.output for spec in self._inputs[route.name].values()]
        own = [v.value.handle for v in self._model.state_of(route.name)]
        packed = [each.handle for each in self.weights.small.values()]
        kind = (id(self._forward[number][0]), route.name in self._scales, *outputs)
        return Alike(kind, [*own, *packed])

    def own(self, route: Route) -> list[tf.Tensor]:
        """Gives where a route's weights are packed, and the scales of its labels, if it has any."""
        places = self.weights.places(self._model.state_of(route.name))
        scales = self._scales.get(route.name, {})
        held = [tf.constant(scales[key], tf.float64) for key in route.labels if key in scales]
        return [places, *held]

    def predict(
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
            own: As `own` gives them.
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
        """Traces a route's path to what takes the tensors that `predict` gives."""
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
            heads = [head_of(self._model, route, key) for key in route.labels]
            with self.weights.unpacked(weights, places, small):
                outputs = self._model(own, path=route.name, training=False)
                predicted = [
                    best_items(target, head, outputs[head.name])
                    if target.top_k
                    else prediction(target, outputs[head.name], scale)
                    for target, head, scale in zip(
                        route.labels.values(), heads, scales, strict=True
                    )
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
                for i, each in enumerate(self.weights.small.values())
            ],
            [tf.TensorSpec([2], tf.float64, name=f"scale_{i}") for i in range(len(route.labels))],
            specs,
        ]
        traced = tf.function(forward, input_signature=signature, autograph=False)
        return traced.get_concrete_function()
