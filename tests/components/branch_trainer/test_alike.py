"""Paths that compute alike share one trace, and nothing else."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import (
    BranchedModel,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
    default_model,
)
from branchline.components.branch_trainer import dispatch as dispatching
from branchline.components.branch_trainer.alike import Alike
from branchline.components.branch_trainer.inputs import Input, input_specs
from branchline.components.branch_trainer.learning_rate import WarmupDecay
from branchline.components.branch_trainer.step import PathStep
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, when

NAMES = ("a", "b", "c", "d")
SPEC = tf.TensorSpec([None, 3])


def branch(units=4, activation="relu", rate=0.5, **dense):
    layers = keras.layers
    return keras.Sequential(
        [layers.Dense(units, activation, **dense), layers.Dropout(rate), layers.Dense(2)]
    )


@keras.saving.register_keras_serializable(package="somebody")
class Scaled(keras.layers.Layer):
    """A layer whose configuration does not tell all."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


def model_of(branches, losses=None):
    losses = losses or dict.fromkeys(branches, "mse")
    model = BranchedModel(
        [Switch("encoder", **branches), keras.layers.Dense(2, name="trunk")],
        heads=[Head(name, keras.layers.Dense(1), loss=losses[name]) for name in branches],
        paths={name: Path(encoder=name, heads=[name]) for name in branches},
    )
    for name in branches:
        model.build_path(name, SPEC)
    return model


def streams(names):
    rng = np.random.default_rng(0)
    return {
        name: tf.data.Dataset.from_tensor_slices(
            (rng.normal(size=(12, 3)).astype("float32"), rng.normal(size=(12, 1)).astype("float32"))
        ).batch(4, drop_remainder=True)
        for name in names
    }


def trained(monkeypatch, shared):
    """The weights after training four alike paths, and how many traces it took."""
    traces = []
    original = dispatching._graph_of
    monkeypatch.setattr(dispatching, "_graph_of", lambda fn: traces.append(1) or original(fn))
    if not shared:
        monkeypatch.setattr(PathStep, "alike", lambda self, batch: Alike(None, []))
    keras.utils.set_random_seed(3)
    model = model_of({name: branch() for name in NAMES})
    rates = {name: WarmupDecay(0.01 * i, i, "cosine", 3 + i) for i, name in enumerate(NAMES, 1)}
    settings = {n: PathSettings(keras.optimizers.Adam(rates[n]), clip_norm=1.0) for n in NAMES}
    trainer = Trainer(model, streams=streams(NAMES), settings=settings, steps=23, steps_per_loop=7)
    history = trainer.run()
    return [np.array(v) for v in model.variables], history.losses, len(traces)


def test_alike_paths_share_a_trace_and_train_as_if_each_had_its_own(monkeypatch):
    with monkeypatch.context() as patch:
        weights, losses, traces = trained(patch, shared=True)
    assert traces == 1
    with monkeypatch.context() as patch:
        own_weights, own_losses, own_traces = trained(patch, shared=False)
    assert own_traces == len(NAMES)
    assert losses == own_losses
    for mine, own in zip(weights, own_weights, strict=True):
        np.testing.assert_array_equal(mine, own)


def kinds(model, names, settings=None):
    """What is known of each path's step; equal ones share a trace."""
    batch = (SPEC, tf.TensorSpec([None, 1]))
    given = settings or {}
    return [PathStep(model, n, given.get(n, PathSettings())).alike(batch).kind for n in names]


@pytest.mark.parametrize(
    "other",
    [
        {"units": 5},
        {"activation": "tanh"},
        {"rate": 0.4},
        {"use_bias": False},
        {"kernel_regularizer": "l2"},
    ],
    ids=str,
)
def test_paths_whose_layers_differ_are_not_alike(other):
    model = model_of({"a": branch(), "b": branch(**other), "c": branch()})
    a, b, c = kinds(model, "abc")
    assert a == c != b


@pytest.mark.parametrize(
    "other",
    [
        {"loss_weight": 2.0},
        {"clip_norm": 1.0},
        {"clip_value": 0.1},
        {"accumulate": 2},
        {"embeddings": "dense"},
        {"optimizer": keras.optimizers.SGD},
        {"optimizer": lambda: keras.optimizers.Adam(beta_1=0.5)},
        {"optimizer": lambda: keras.optimizers.Adam(WarmupDecay(0.1, 0, "cosine", 5))},
    ],
    ids=str,
)
def test_paths_whose_settings_differ_are_not_alike(other):
    model = model_of({name: branch() for name in "abc"})
    made = {key: value() if callable(value) else value for key, value in other.items()}
    a, b, c = kinds(model, "abc", {"b": dataclasses.replace(PathSettings(), **made)})
    assert a == c != b


def test_paths_whose_losses_differ_are_not_alike():
    model = model_of({name: branch() for name in "abc"}, {"a": "mse", "b": "mae", "c": "mse"})
    a, b, c = kinds(model, "abc")
    assert a == c != b


def test_a_layer_that_is_not_trained_is_told_even_if_that_changes_later():
    model = model_of({name: branch() for name in "abc"})
    assert len(set(kinds(model, "abc"))) == 1
    model.stages[0].branches["b"].layers[0].trainable = False
    a, b, c = kinds(model, "abc")
    assert a == c != b


def test_layers_of_somebody_elses_share_no_trace():
    model = model_of({name: keras.Sequential([branch(), Scaled(2.0)]) for name in "abc"})
    assert kinds(model, "abc") == [None, None, None]


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_fn": lambda variable: None},
        {"gate": lambda losses: losses > 0},
        {"leak": {"b": 0.1}},
        {"freeze": ("trunk",)},
    ],
    ids=lambda of: next(iter(of)),
)
def test_what_calls_a_recipes_own_code_or_other_paths_shares_no_trace(settings):
    model = model_of({name: branch() for name in "ab"})
    assert kinds(model, "a", {"a": PathSettings(**settings)}) == [None]


def test_default_branches_are_alike_whatever_their_keys_are_called():
    """The order counts in which the sorted keys come: of those here it is the same."""

    def route(name):
        features = {f"{name}/z": Numeric(), f"{name}.y": Categorical(), f"{name} x": Numeric()}
        return Route(name, when.present(name), features=features, label="l", task="binary")

    recipe = Recipe("r", RoutingTable(route("a"), route("b"), route("c")))
    shapes = {Numeric: Input((1,), "float32"), Categorical: Input((1,), "int64", 5)}
    inputs = {
        r.name: {key: shapes[type(kind)] for key, kind in r.features.items()}
        for r in recipe.routing.routes
    }
    more = Input((1,), "int64", 7)  # of a vocabulary that is rounded up to the same size
    inputs["b"]["b.y"] = more
    model = default_model.build_model(recipe, inputs)
    for name in inputs:
        model.build_path(name, input_specs(inputs[name]))
    labels = tf.TensorSpec([None, 1])
    found = {
        PathStep(model, name, PathSettings()).alike((input_specs(inputs[name]), labels)).kind
        for name in inputs
    }
    assert len(found) == 1 and None not in found
