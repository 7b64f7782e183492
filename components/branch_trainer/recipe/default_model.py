"""Builds the model of a recipe that brings none: an encoder per feature, a branch per route.

A route's features are encoded by kind and joined to one vector, which a linear and a hidden layer
bring to the width of the trunk; the trunk refines it, the route's head reads it. The linear way
through lets a route with few rows be nearly a linear model.
"""

import math
from typing import Any

import keras

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head, Path, Switch
from branchline.components.branch_trainer.recipe.dice import dice_loss_of_logits
from branchline.components.branch_trainer.recipe.encoders import encode
from branchline.components.branch_trainer.recipe.item_query import InBatchSoftmax, ItemQuery
from branchline.components.branch_trainer.recipe.ordered_classes import OrderedClasses
from branchline.components.branch_trainer.recipe.pinball import PinballLoss
from branchline.components.branch_trainer.recipe.poisson import poisson_loss_of_logs
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.schemas import Recipe, Route, Target
from branchline.schemas.targets import LOSSES

WIDTH = 64
_DROPOUT = 0.1


def build_model(recipe: Recipe, inputs: dict[str, dict[str, Input]]) -> BranchedModel:
    """Builds an untrained model with a path for every route and a head for every label.

    Args:
        recipe: Its routes, tasks and kinds of feature.
        inputs: Route → feature → shape, dtype and vocabulary size of what the branch gets.

    Returns:
        A model whose heads give logits [batch, 1] (binary), logits [batch, num_classes]
        (multiclass, multilabel, ordinal), a standardised value [batch, 1] (regression) or several
        [batch, quantiles] (quantile), a query (retrieval), or the logarithm of a value's ratio to
        the mean label [batch, 1] (count); of a target with a shape [batch, *shape] or
        [batch, *shape, num_classes].
    """
    routes = recipe.routing.routes
    branches = {route.name: build_branch(route, inputs[route.name]) for route in routes}
    heads = {
        route.name: [build_head(head_name(route, key), key, t) for key, t in route.labels.items()]
        for route in routes
    }
    return BranchedModel(
        [Switch("branch", **branches), _build_trunk()],
        heads=[head for of_route in heads.values() for head in of_route],
        paths={
            name: Path(branch=name, heads=[head.name for head in of_route])
            for name, of_route in heads.items()
        },
    )


def build_branch(route: Route, inputs: dict[str, Input]) -> keras.Model:
    """Builds the branch of one route: its features → float32 [batch, WIDTH]."""
    names: list[str] = []
    for key in inputs:
        name = key.replace("/", "_")
        names.append(name if name not in names else f"{name}.{len(names)}")
    layers: dict[str, Any] = {
        key: keras.Input(spec.shape, dtype=spec.dtype, name=name)
        for name, (key, spec) in zip(names, inputs.items(), strict=True)
    }
    encoded = [encode(route, key, inputs[key], layer) for key, layer in layers.items()]
    joined = keras.layers.Concatenate()(encoded) if len(encoded) > 1 else encoded[0]
    hidden = keras.layers.Dense(WIDTH, "relu")(keras.layers.Dropout(_DROPOUT)(joined))
    output = keras.layers.Dense(WIDTH)(joined) + keras.layers.Dense(WIDTH)(hidden)
    return keras.Model(layers, output, name=f"branch_{route.name}")


def _build_trunk() -> keras.Model:
    features = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(WIDTH, "relu")(features)
    return keras.Model(features, features + keras.layers.Dense(WIDTH)(hidden), name="trunk")


def head_name(route: Route, key: str) -> str:
    """Names the head of a label: like the route, that of a target `<route>.<position>`.

    A key may hold what TensorFlow allows in no name of a layer.
    """
    if route.label is not None:
        return route.name
    return f"{route.name}.{list(route.targets).index(key)}"


def build_head(name: str, key: str, target: Target) -> Head:
    """Builds the output layer of one label, with the loss of its target."""
    layer: keras.Layer = keras.layers.Dense(math.prod(target.prediction_shape))
    if target.task == "ordinal":
        layer = OrderedClasses(math.prod(target.prediction_shape))
    if target.top_k:
        layer = ItemQuery(target.num_classes or 0, WIDTH)
    if target.shape:
        layer = keras.Sequential([layer, keras.layers.Reshape(target.prediction_shape)])
    layer.build((None, WIDTH))
    return Head(
        name,
        layer,
        loss=_LOSSES[target.loss or LOSSES[target.task][0]](target),
        loss_weight=target.loss_weight,
        label=key,
        missing=target.missing,
    )


_LOSSES = {
    "binary_crossentropy": lambda _: keras.losses.BinaryCrossentropy(from_logits=True),
    "dice": lambda _: dice_loss_of_logits,
    "sparse_categorical_crossentropy": lambda _: keras.losses.SparseCategoricalCrossentropy(
        from_logits=True
    ),
    "poisson": lambda _: poisson_loss_of_logs,
    "pinball": lambda target: PinballLoss(target.quantiles),
    "in_batch_softmax": lambda _: InBatchSoftmax(),
    "mean_squared_error": lambda _: keras.losses.MeanSquaredError(),
    "mean_absolute_error": lambda _: keras.losses.MeanAbsoluteError(),
}
