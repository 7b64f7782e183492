"""A user's model: all that the file defines is `build_model`."""

import keras

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch

LOSSES = {"regression": "mse", "binary": keras.losses.BinaryCrossentropy(from_logits=True)}


def build_model(recipe, inputs):
    routes = recipe.routing.routes
    return BranchedModel(
        [
            Switch("branch", **{route.name: _branch(inputs[route.name]) for route in routes}),
            keras.layers.Dense(8, "relu", name="trunk"),
        ],
        heads=[Head(r.name, keras.layers.Dense(1), loss=LOSSES[r.task]) for r in routes],
        paths={route.name: Path(branch=route.name, heads=[route.name]) for route in routes},
    )


def _branch(inputs):
    layers = {
        key: keras.Input(spec.shape, dtype=spec.dtype, name=key) for key, spec in inputs.items()
    }
    numbers = [keras.ops.cast(layer, "float32") for layer in layers.values()]
    return keras.Model(layers, keras.layers.Dense(8)(keras.layers.Concatenate()(numbers)))
