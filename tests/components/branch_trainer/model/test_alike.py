"""Paths that compute alike share one trace, and train as if each had its own; others do not."""

import functools
import sys
import types

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import step_of

from branchline.components.branch_trainer import (
    BranchedModel,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.loop import dispatch
from branchline.components.branch_trainer.model.alike import path_likeness
from branchline.components.branch_trainer.model.share_traces import Alike, share_traces
from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.step.optimizers import WarmupDecay
from branchline.components.branch_trainer.step.step import Step
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Target, Text, Training, when

layers, losses, optimizers = keras.layers, keras.losses, keras.optimizers


@pytest.fixture
def traced(monkeypatch):
    """The steps that are traced, one entry each."""
    found = []
    trace = dispatch._graph_of
    monkeypatch.setattr(dispatch, "_graph_of", lambda step: found.append(step) or trace(step))
    return found


@pytest.fixture
def alone(monkeypatch):
    """Calls a function with no path sharing its trace."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(Step, "alike", lambda self, batch: Alike(None, []))
            return function()

    return call


def assert_equal(left, right):
    for mine, theirs in zip(left, right, strict=True):
        np.testing.assert_array_equal(mine, theirs)


# Paths that are put together by hand: `a` and `b` the same way, `c` with one thing changed.


def branch():
    return keras.Sequential([layers.Dense(4, "relu"), layers.Dropout(0.5), layers.Dense(4)])


def wrap(layer):
    """A branch with one more layer."""
    return lambda: keras.Sequential([*branch().layers, layer()])


def stream(seed, weights=False):
    rng = np.random.default_rng(seed)
    columns = [rng.normal(size=(20, n)).astype(np.float32) for n in (3, 2)]
    columns += [rng.uniform(size=20).astype(np.float32)] if weights else []
    return tf.data.Dataset.from_tensor_slices(tuple(columns)).batch(5).repeat()


def make(first, second):
    """Model, streams and settings of paths `a`, `b` (as `first` says) and `c` (as `second`)."""
    keras.utils.set_random_seed(5)
    made = {"a": first, "b": first, "c": second}
    model = BranchedModel(
        [
            Switch("branch", **{name: it.get("branch", branch)() for name, it in made.items()}),
            layers.Dense(4, "tanh", name="trunk"),
        ],
        heads=[
            Head(
                name,
                layers.Dense(2),
                loss=it.get("loss", losses.MeanSquaredError)(),
                **it.get("head", {}),
            )
            for name, it in made.items()
        ],
        paths={name: Path(branch=name, heads=[name]) for name in made},
    )
    for name in made:
        model.build_path(name, tf.TensorSpec([None, 3]))
    for name, it in made.items():
        it.get("change", lambda part: None)(model.parts_of(name)["branch"])
    settings = {
        name: PathSettings(
            optimizer=it.get("optimizer", optimizers.Adam)(), **it.get("settings", {})
        )
        for name, it in made.items()
    }
    streams = {
        name: stream(i, it.get("weights", False)) for i, (name, it) in enumerate(made.items())
    }
    return model, streams, settings


def weights_after(first, second):
    model, streams, settings = make(first, second)
    Trainer(model, streams=streams, settings=settings, steps=12).run()
    return [np.array(v) for v in model.variables]


def schedule(*args):
    return {"optimizer": lambda: optimizers.Adam(WarmupDecay(*args))}


SAME = {
    "nothing": ({}, {}),
    "learning rate": ({}, {"optimizer": lambda: optimizers.Adam(0.05)}),
    "numbers of the decay": (schedule(0.1, 2, "cosine", 9), schedule(0.01, 5, "cosine", 4)),
    "names of layers": (
        {},
        {
            "branch": lambda: keras.Sequential(
                [
                    layers.Dense(4, "relu", name="dropout"),
                    layers.Dropout(0.5, name="x"),
                    layers.Dense(4),
                ]
            )
        },
    ),
    "accumulated": ({"settings": {"accumulate": 2}}, {"settings": {"accumulate": 2}}),
}


@pytest.mark.parametrize("case", SAME)
def test_paths_that_compute_alike_share_a_trace_and_train_to_the_bit_as_without(
    case, traced, alone
):
    first, second = SAME[case]
    shared = weights_after(first, second)
    assert len(traced) == 1
    assert_equal(shared, alone(lambda: weights_after(first, second)))
    assert len(traced) == 4


def relu(x):
    """Not Keras's."""
    return keras.ops.minimum(x, 0.1)


class Twice(layers.Layer):
    """A layer whose configuration does not say what it does."""

    factor = 2.0

    def call(self, inputs):
        return self.factor * inputs


class SubDense(layers.Dense):
    """Keras's, changed."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


def in_recipe(factor):
    """A layer of a recipe file, whose module has a name that begins with `branchline`."""
    module = types.ModuleType("branchline_recipe_abc")
    sys.modules[module.__name__] = module
    return type("Twice", (Twice,), {"__module__": module.__name__, "factor": factor})()


def normalization(mean):
    layer = layers.Normalization()
    layer.adapt(np.array([[mean] * 4, [mean + 1.0] * 4], np.float32))
    return layer


def frozen(part):
    part.layers[0].trainable = False


def patched(part):
    part.layers[-1].call = lambda inputs, training=None: 2.0 * inputs


def without_bias():
    optimizer = optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def decayed():
    return optimizers.AdamW(weight_decay=0.1)


def clipped(part):
    part.layers[0].kernel.constraint = keras.constraints.NonNeg()


def absolute(label, output):
    return tf.abs(label - output)


WIDE = functools.partial(losses.huber, delta=1.0)


def case(first=None, **second):
    return first or {}, second


def with_loss(first, second):
    return {"loss": first}, {"loss": second}


DIFFERENT = {
    "activation": case(branch=lambda: keras.Sequential(
        [layers.Dense(4, "tanh"), layers.Dropout(0.5), layers.Dense(4)])),
    "activation of the same name": case(branch=lambda: keras.Sequential(
        [layers.Dense(4, relu), layers.Dropout(0.5), layers.Dense(4)])),
    "dropout rate": case(branch=lambda: keras.Sequential(
        [layers.Dense(4, "relu"), layers.Dropout(0.4), layers.Dense(4)])),
    "attribute without configuration": (
        {"branch": wrap(lambda: layers.ELU(1.0))}, {"branch": wrap(lambda: layers.ELU(0.5))}),
    "a layer of one's own": ({"branch": wrap(Twice)}, {"branch": wrap(Twice)}),
    "a layer of the recipe": ({"branch": wrap(lambda: in_recipe(3.0))},
                              {"branch": wrap(lambda: in_recipe(0.0))}),
    "a subclass of Keras's": ({"branch": wrap(lambda: layers.Dense(4))},
                              {"branch": wrap(lambda: SubDense(4))}),
    "code": ({"branch": wrap(lambda: layers.Lambda(lambda x: x))},
             {"branch": wrap(lambda: layers.Lambda(lambda x: 2 * x))}),
    "adapted statistics": ({"branch": wrap(lambda: normalization(0.0))},
                           {"branch": wrap(lambda: normalization(5.0))}),
    "a frozen layer": case(change=frozen),
    "another call": case(change=patched),
    "a constraint": case(change=clipped),
    "regularizer": case(branch=lambda: keras.Sequential(
        [layers.Dense(4, "relu", kernel_regularizer="l2"), layers.Dropout(0.5), layers.Dense(4)])),
    "loss": case(loss=losses.MeanAbsoluteError),
    "loss function": case(loss=lambda: absolute),
    "loss functions": with_loss(lambda: absolute, lambda: lambda y, o: absolute(y, o)),
    "a loss of a kind of loss": with_loss(losses.Huber, lambda: losses.Huber(0.1)),
    "axis of a loss": with_loss(losses.CosineSimilarity, lambda: losses.CosineSimilarity(axis=0)),
    "partial loss": with_loss(
        lambda: WIDE, lambda: functools.partial(losses.huber, delta=0.1)),
    "dtype": (
        {"branch": lambda: layers.Dense(4, "relu")},
        {"branch": lambda: layers.Dense(4, "relu", dtype="mixed_float16")}),
    "weight of the head": case(head={"loss_weight": 0.5}),
    "missing": case(head={"missing": 0.0}),
    "optimizer": case(optimizer=optimizers.SGD),
    "setting of the optimizer": case(optimizer=lambda: optimizers.Adam(beta_1=0.5)),
    "callable learning rate": (
        {"optimizer": lambda: optimizers.Adam(lambda: 0.1)},
        {"optimizer": lambda: optimizers.Adam(lambda: 0.01)}),
    "decay": (schedule(0.1, 0, "cosine", 9), schedule(0.1, 0, "linear", 9)),
    "warm-up": (schedule(0.1, 0, "cosine", 9), schedule(0.1, 2, "cosine", 9)),
    "schedule of Keras": (
        {"optimizer": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 5, 0.5))},
        {"optimizer": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 9, 0.5))},
    ),
    "left out of the decay": ({"optimizer": decayed}, {"optimizer": without_bias}),
    "loss weight": case(settings={"loss_weight": 2.0}),
    "clip norm": case(settings={"clip_norm": 0.1}),
    "clip value": case(settings={"clip_value": 0.1}),
    "accumulate": case(settings={"accumulate": 2}),
    "embeddings": case(settings={"embeddings": "dense"}),
    "freeze": case(settings={"freeze": ["trunk"]}),
    "mask": case(settings={"mask_fn": lambda v: tf.zeros(v.shape)}),
    "leak": case(settings={"leak": {"a": 0.5}}),
    "gate": case(settings={"gate": lambda loss: loss > 0.1}),
    "sample weights": case(weights=True),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_path_that_differs_in_anything_has_a_trace_of_its_own(case):
    model, streams, settings = make(*DIFFERENT[case])
    first, other, second = (
        step_of(model, name, settings[name]).alike(streams[name].element_spec).kind
        for name in streams
    )
    assert first == other
    assert second is None or second != first


@pytest.mark.parametrize(
    "case",
    ["a layer of the recipe", "activation of the same name", "a loss of a kind of loss",
     "adapted statistics", "left out of the decay", "sample weights"],
)  # fmt: skip
def test_a_path_that_differs_trains_to_the_bit_as_alone(case, alone):
    first, second = DIFFERENT[case]
    assert_equal(weights_after(first, second), alone(lambda: weights_after(first, second)))


def test_heads_get_their_own_labels_whatever_these_are_called(traced, alone):
    """The labels of `p` and `q` come in the order of their heads, those of `r` the other way."""
    labels = {"p": ("b", "c"), "q": ("d", "e"), "r": ("z", "y")}

    def weights():
        keras.utils.set_random_seed(1)
        model = BranchedModel(
            [Switch("branch", **{name: layers.Dense(4) for name in labels})],
            heads=[
                Head(label, layers.Dense(1), loss=losses.MeanSquaredError())
                for of_path in labels.values()
                for label in of_path
            ],
            paths={name: Path(branch=name, heads=of) for name, of in labels.items()},
        )
        streams = {
            name: tf.data.Dataset.from_tensors(
                (tf.ones([4, 3]), {of[0]: tf.ones([4, 1]), of[1]: -tf.ones([4, 1])})
            ).repeat()
            for name, of in labels.items()
        }
        Trainer(model, streams=streams, steps=6).run()
        return [np.array(v) for v in model.variables]

    found = weights()
    assert len(traced) == 2
    assert_equal(found, alone(weights))


def test_one_layer_in_two_places_is_not_two_layers_of_one_name():
    first, second = layers.Dense(3, name="d"), layers.Dense(3, name="d")
    blocks = {
        "a": [first, second, first],
        "b": [first, second, second],
        "c": [first, first, second],
    }
    model = BranchedModel(
        [
            Switch(f"s{i}", **{name: keras.Sequential([of[i]]) for name, of in blocks.items()})
            for i in range(3)
        ],
        heads=[Head("out", layers.Dense(1), loss="mse")],
        paths={name: Path(s0=name, s1=name, s2=name) for name in blocks},
    )
    spec = tf.TensorSpec([None, 3])
    for name in blocks:
        model.build_path(name, spec)
    found = [path_likeness(model, name, spec) for name in blocks]
    assert None not in found and len(set(found)) == 3


def test_functions_that_capture_what_nobody_told_of_do_not_share():
    variables = [tf.Variable(float(i)) for i in range(4)]

    def trace(i):
        return tf.function(lambda: [variables[i] + variables[i + 2]]).get_concrete_function()

    told = [Alike("same", [variables[i].handle]) for i in range(2)]
    graphs = [graph for graph, _ in share_traces(told, trace)]
    assert graphs[0] is not graphs[1]
    told = [Alike("same", [variables[i].handle, variables[i + 2].handle]) for i in range(2)]
    graphs = share_traces(told, trace)
    assert graphs[0][0] is graphs[1][0]
    assert [float(dispatch.call_with(*each)[0]) for each in graphs] == [2.0, 4.0]


# Routes of a recipe, with the default model.

LABEL = {"task": "regression"}
PAIR = {"first": Target("regression"), "second": Target("regression")}
SWAPPED = {"later": Target("regression"), "earlier": Target("regression")}
ROUTES = {
    "r0": ({"a": Numeric(), "t": Text()}, 5),
    "r1": ({"b": Numeric(), "u": Text()}, 8),  # as many rows of the embedding
    "r2": ({"k/n": Numeric(), "w": Text()}, 6),
    "more-words": ({"a": Numeric(), "t": Text()}, 9),
    "words-first": ({"t": Text(), "a": Numeric()}, 5),
    "two": ({"p": Numeric(), "q": Numeric()}, None),
    "other-order": ({"z": Numeric(), "m": Numeric()}, None),
    "targets": ({"p": Numeric()}, None),
    "swapped": ({"x": Numeric()}, None),
}
SHARED = 2  # r1 and r2 with r0


def recipe():
    routes = []
    for name, (features, _) in ROUTES.items():
        some = {"label": f"label of {name}", "task": "regression"}
        some = {"targets": PAIR} if name == "targets" else some
        some = {"targets": SWAPPED} if name == "swapped" else some
        routes.append(Route(name, when.present(name), features=features, **some))
    rates = {"r1": {"learning_rate": 0.01, "warmup_steps": 3}, "r0": {"warmup_steps": 1}}
    rates["r2"] = {"warmup_steps": 2}
    training = Training(steps=60, batch_size=4, learning_rate=0.03, routes=rates)
    return Recipe("many", RoutingTable(*routes), training=training)


def trained(folder):
    """All weights after training, of routes with different numbers of rows, so of due steps."""
    folder.mkdir()
    made, rng = recipe(), np.random.default_rng(2)
    inputs, rows = {}, {}
    for number, (name, (features, words)) in enumerate(ROUTES.items()):
        inputs[name] = {
            key: Input((None,), "int64", words)
            if isinstance(kind, Text)
            else Input((1,), "float32")
            for key, kind in features.items()
        }
        route = made.routing[name]
        records = [
            {key: float(rng.normal()) for key in (*features, *route.labels)}
            | {
                key: rng.integers(1, words, 1 + i % 3).tolist()
                for key, kind in features.items()
                if isinstance(kind, Text)
            }
            for i in range(5 + 4 * number)
        ]
        rows[name] = build.plain_rows(folder / f"{name}.gz", records, inputs[name], route.labels)
    scales = {name: scales_of(rows[name], made.routing[name]) for name in rows}
    model, summary = train(
        made, default_model.build_model, rows, inputs, scales, cache_dir=str(folder)
    )
    losses = [[loss for _, loss in of["losses"]] for of in summary["routes"].values()]
    return [*[np.array(v) for v in model.variables], *losses]


def test_routes_of_a_recipe_train_to_the_bit_as_with_a_trace_each(tmp_path, traced, alone):
    shared = trained(tmp_path / "shared")
    assert len(traced) == len(ROUTES) - SHARED
    assert_equal(shared, alone(lambda: trained(tmp_path / "alone")))


def test_the_batch_that_failed_is_told_though_alike_paths_go_on():
    model, streams, settings = make({}, {})
    rows = np.zeros([10, 3], np.float32)
    broken = [np.full([10, 2], value, np.float32) for value in (np.nan, np.inf)]
    for path, labels in zip("ab", broken, strict=True):
        streams[path] = tf.data.Dataset.from_tensor_slices((rows, labels)).batch(5).repeat()
    trainer = Trainer(model, streams=streams, settings=settings, steps=12)
    history = trainer.run()
    assert history.steps == {"a": 0, "b": 0, "c": 12}
    for path, labels in zip("ab", broken, strict=True):
        np.testing.assert_array_equal(trainer.failed_batch(path)[1], labels[:5])
    assert trainer.failed_batch("c") is None
