import dataclasses
import math

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.loop.history import COMPILED, OPERATIONS
from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.path_settings import path_settings
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import Scale, scales_of
from branchline.schemas import (
    Alternate,
    BranchlineError,
    EarlyStopping,
    Ids,
    Numeric,
    PathTraining,
    Recipe,
    Route,
    RoutingTable,
    Target,
    Training,
    Weighted,
    when,
)
from branchline.schemas.training import OPTIMIZERS


def regression(features=None, **training):
    """A recipe of one route `r` with the label `y`."""
    route = Route(
        "r",
        when.present("x"),
        features=features or {"x": Numeric()},
        label="y",
        task="regression",
    )
    return Recipe("one", RoutingTable(route), training=Training(**training))


def route_of_x(name):
    return Route(name, when.present(name), features={"x": Numeric()}, label="y", task="regression")


SCALAR = {"r": {"x": Input((1,), "float32")}}


def run(recipe, records, tmp_path, inputs=SCALAR, **options):
    """Trains on route → records; returns the model, the summary and the scales."""
    rows = {
        name: build.plain_rows(
            tmp_path / f"{name}.gz", of, inputs[name], recipe.routing[name].labels
        )
        for name, of in records.items()
    }
    scales = {name: scales_of(rows[name], recipe.routing[name]) for name in rows}
    build_model = options.pop("build_model", default_model.build_model)
    options = {"cache_dir": str(tmp_path / "cache")} | options
    return *train(recipe, build_model, rows, inputs, scales, **options), scales


def rows_with(tmp_path, route, labels):
    records = [{} if label is None else {"y": label} for label in labels]
    return build.plain_rows(tmp_path / "rows.gz", records, {}, route.labels)


def test_the_scale_of_a_regressions_labels_is_their_mean_and_deviation(tmp_path):
    labels = np.random.default_rng(0).normal(1e4, 3.0, 101).tolist()
    route = regression().routing["r"]
    (scale,) = scales_of(rows_with(tmp_path, route, labels), route).values()
    np.testing.assert_allclose(scale, (np.mean(labels), np.std(labels)), rtol=1e-4)


def test_labels_that_are_all_equal_and_labels_of_classes_are_not_scaled(tmp_path):
    route = regression().routing["r"]
    assert scales_of(rows_with(tmp_path, route, [7.0] * 3), route) == {"y": Scale(7.0, 1.0)}
    binary = Route("b", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
    assert scales_of(rows_with(tmp_path, binary, [1, 0]), binary) == {"y": Scale()}


def test_a_route_without_rows_to_train_on_is_named(tmp_path):
    route = regression().routing["r"]
    with pytest.raises(BranchlineError, match="route 'r' has no example in train"):
        scales_of(rows_with(tmp_path, route, []), route)


def test_a_regression_is_learnt_in_its_own_unit_once_the_scale_is_undone(tmp_path):
    xs = np.random.default_rng(1).normal(size=64)
    rows = [{"x": float(x), "y": float(5000 + 300 * x)} for x in xs]
    recipe = regression(steps=300, batch_size=32, learning_rate=0.01)
    model, _, scales = run(recipe, {"r": rows}, tmp_path)
    scale = scales["r"]["y"]
    outputs = np.array(model({"x": np.reshape(xs, (-1, 1))}, path="r")["r"])[:, 0]
    assert np.abs(outputs).max() < 4, "the head learns standardised labels"
    error = outputs * scale.std + scale.mean - (5000 + 300 * xs)
    assert np.sqrt(np.mean(error**2)) < 30  # a tenth of a deviation


def test_rows_held_back_for_validation_are_not_trained_on(tmp_path):
    count, held_back = 20, 5
    rows = [{"x": i, "y": float(i % 3)} for i in range(count)]
    inputs = {"r": {"x": Input((1,), "int64")}}
    recipe = regression(
        {"x": Ids(count)},
        steps=40,
        batch_size=8,
        optimizer="sgd",
        learning_rate=0.1,
        decay="constant",
        early_stopping=EarlyStopping(patience=100),
        validation_share=held_back / count,
        validate_every=10,
    )
    model, summary, _ = run(recipe, {"r": rows}, tmp_path, inputs)

    def embeddings(model):
        (table,) = [v for v in model.variables_of("r") if tuple(v.shape) == (count, 16)]
        return np.array(table)

    keras.utils.set_random_seed(recipe.training.seed)
    before = embeddings(default_model.build_model(recipe, inputs))
    # Every row has an embedding of its own: it changes when the row is trained on.
    changed = np.any(embeddings(model) != before, axis=1)
    assert changed.tolist() == [False] * held_back + [True] * (count - held_back)
    assert len(summary["routes"]["r"]["validation"]) >= 4


def test_a_route_of_one_row_is_trained_on_it_even_if_it_stops_early(tmp_path):
    recipe = regression(steps=3, batch_size=4, early_stopping=EarlyStopping())
    _, summary, _ = run(recipe, {"r": [{"x": 1.0, "y": 2.0}]}, tmp_path)
    assert summary["routes"]["r"]["steps"] == 3
    assert math.isfinite(summary["routes"]["r"]["loss"])


def test_f37_a_route_without_a_label_to_watch_does_not_stop_early(tmp_path, caplog):
    target = Target("regression", optional=True)
    route = Route("r", when.present("x"), features={"x": Numeric()}, targets={"y": target})
    training = Training(
        steps=30, batch_size=4, validate_every=1, early_stopping=EarlyStopping(patience=1)
    )
    recipe = Recipe("one", RoutingTable(route), training=training)
    rows = [{"x": 1.0} for _ in range(2)] + [{"x": 1.0, "y": 2.0} for _ in range(18)]
    _, summary, _ = run(recipe, {"r": rows}, tmp_path)
    assert summary["routes"]["r"]["steps"] == 30
    assert "none of the 2 rows held back to watch it has a label" in caplog.text


def test_routes_take_turns_as_the_schedule_says(tmp_path):
    routes = [
        Route(name, when.present(name), features={"x": Numeric()}, label="y", task="regression")
        for name in ("first", "second")
    ]
    recipe = Recipe(
        "two",
        RoutingTable(*routes),
        training=Training(steps=9, batch_size=2, schedule=Alternate("aab")),
    )
    records = dict.fromkeys(("first", "second"), [{"x": 1.0, "y": 2.0}, {"y": 3.0}])
    inputs = dict.fromkeys(records, SCALAR["r"])
    _, summary, _ = run(recipe, records, tmp_path, inputs)
    found = {name: (each["steps"], each["examples"]) for name, each in summary["routes"].items()}
    assert found == {"first": (6, 12), "second": (3, 6)}


@pytest.mark.parametrize(
    ("schedule", "decay", "steps"),
    [
        (Alternate("abc"), "cosine", {"stops": 2, "second": 20, "third": 20}),
        (Alternate("abc"), "constant", {"stops": 2, "second": 29, "third": 29}),
        (Weighted({"stops": 1, "second": 1, "third": 1}), "linear", None),
    ],
    ids=["F36-cosine", "F36-constant", "F36-weighted"],
)
def test_f36_no_route_inherits_turns_after_its_learning_rate_has_fallen_to_zero(
    tmp_path, schedule, decay, steps
):
    names = ("stops", "second", "third")
    stopping = {
        "optimizer": "sgd",
        "learning_rate": 1e-30,
        "early_stopping": EarlyStopping(patience=1),
    }
    recipe = Recipe(
        "three",
        RoutingTable(*(route_of_x(name) for name in names)),
        training=Training(
            steps=60, batch_size=2, validate_every=3, schedule=schedule, decay=decay,
            routes={"stops": stopping},
        ),
    )  # fmt: skip
    records = dict.fromkeys(names, [{"x": float(i), "y": i % 3 + 0.5} for i in range(20)])
    rates = {}

    def configure_trainer(recipe, model, options):
        rates.update({name: options["settings"][name].optimizer for name in names})
        return options

    inputs = dict.fromkeys(names, SCALAR["r"])
    _, summary, _ = run(recipe, records, tmp_path, inputs, configure_trainer=configure_trainer)
    found = {name: each["steps"] for name, each in summary["routes"].items()}
    assert found["stops"] < 10
    if steps is not None:
        assert found == steps
    for name in ("second", "third"):
        optimizer = rates[name]
        if decay != "constant":
            schedule_of_rate = optimizer._learning_rate
            assert found[name] == schedule_of_rate.decay_updates
            assert float(schedule_of_rate(found[name] - 1)) > 0


def test_a_recipes_function_has_the_last_word_on_the_trainers_arguments(tmp_path):
    records = {"r": [{"x": 1.0, "y": 2.0}, {"x": 2.0, "y": 3.0}]}
    recipe = regression(steps=20, batch_size=2)
    given = {}

    def configure_trainer(recipe, model, options):
        given.update(options, recipe=recipe)
        frozen = dataclasses.replace(options["settings"]["r"], freeze=["r"])
        return {**options, "settings": {"r": frozen}, "steps": 4}

    model, summary, _ = run(recipe, records, tmp_path, configure_trainer=configure_trainer)
    assert given["recipe"] is recipe and given["steps"] == 20 and given["streams"].keys() == {"r"}
    assert summary["routes"]["r"]["steps"] == 4
    keras.utils.set_random_seed(recipe.training.seed)
    untrained = default_model.build_model(recipe, SCALAR)
    untrained.build_path("r", {"x": tf.TensorSpec([None, 1])})
    np.testing.assert_array_equal(model.heads[0].layer.kernel, untrained.heads[0].layer.kernel)


@pytest.mark.parametrize("owner", ["path", "shared"])
def test_the_recipe_says_who_owns_the_optimizers_state(tmp_path, owner):
    """With `decay`, each route's learning rate has another schedule."""
    recipe = regression(optimizer_state=owner, decay="cosine", steps=4)
    seen = {}

    def configure_trainer(recipe, model, options):
        seen.update(options)
        return options

    _, summary, _ = run(
        recipe, {"r": [{"x": 1.0, "y": 2.0}] * 8}, tmp_path, configure_trainer=configure_trainer
    )
    assert seen["optimizer_state"] == owner and summary["routes"]["r"]["steps"] == 4


def test_a_recipe_may_have_its_steps_compiled_which_changes_no_more_than_the_last_digits(
    tmp_path, monkeypatch
):
    """But for random draws: XLA has a generator of its own."""
    monkeypatch.setattr(default_model, "_DROPOUT", 0.0)
    rows = [{"x": float(x), "y": float(3 * x + 1)} for x in np.linspace(-1, 1, 64)]
    weights, loops = [], []
    for number, compiled in enumerate((False, True)):
        recipe = regression(steps=120, batch_size=16, learning_rate=0.01, jit_compile=compiled)
        folder = tmp_path / str(number)
        folder.mkdir()
        model, summary, _ = run(recipe, {"r": rows}, folder)
        weights.append([np.array(variable) for variable in model.trainable_variables])
        loops.append(summary["loop"])
    assert loops == [OPERATIONS, COMPILED]
    for by_operations, by_xla in zip(*weights, strict=True):
        np.testing.assert_allclose(by_xla, by_operations, atol=1e-4)


@pytest.mark.parametrize("returned", [None, 3])
def test_a_function_that_returns_no_arguments_is_named(tmp_path, returned):
    records = {"r": [{"x": 1.0, "y": 2.0}]}
    with pytest.raises(BranchlineError, match=f"configure_trainer: got {returned}, expected the"):
        run(regression(), records, tmp_path, configure_trainer=lambda *_: returned)


CLASSES = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "momentum": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "lion": keras.optimizers.Lion,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_a_recipe_is_made_and_moves_weights(name):
    training = PathTraining(optimizer=name, learning_rate=0.5, decay="constant")
    optimizer = path_settings(training, steps=10).optimizer
    assert type(optimizer) is CLASSES[name]
    assert getattr(optimizer, "momentum", 0.0) == (0.9 if name == "momentum" else 0.0)
    weight = keras.Variable([1.0, 1.0])
    optimizer.build([weight])
    optimizer.apply([keras.ops.convert_to_tensor([1.0, 0.0])], [weight])
    moved, still = np.array(weight)
    assert moved < 1.0 and still == 1.0, "no gradient, no weight decay: no change"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_is_decoupled_and_per_step(name):
    training = PathTraining(optimizer=name, learning_rate=0.5, decay="constant", weight_decay=0.1)
    optimizer = path_settings(training, steps=10).optimizer
    weight = keras.Variable([2.0])
    optimizer.build([weight])
    optimizer.apply([keras.ops.convert_to_tensor([0.0])], [weight])
    np.testing.assert_allclose(weight, [2.0 * (1 - 0.5 * 0.1)], rtol=1e-6)


def learning_rate(training, steps, update):
    rate = path_settings(training, steps).optimizer._learning_rate
    return float(rate(update)) if callable(rate) else float(np.array(rate))


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("accumulate", [1, 5])
def test_the_learning_rate_follows_its_formula_on_the_clock_of_updates(decay, warmup, accumulate):
    """Warm-up and decay are given in steps of the path, of which `accumulate` make an update."""
    updates = 24
    training = PathTraining(
        learning_rate=0.5, decay=decay, warmup_steps=warmup * accumulate, accumulate=accumulate
    )
    for update in range(updates + 3):
        found = learning_rate(training, updates * accumulate, update)
        share = min(1.0, max(0, update - warmup) / (updates - warmup))
        want = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}
        rise = min(1.0, (update + 1) / warmup) if warmup else 1.0
        assert found == pytest.approx(0.5 * rise * want[decay], abs=1e-6), update


def test_the_other_settings_of_a_path_are_passed_on():
    training = PathTraining(
        clip_norm=1.5,
        clip_value=0.5,
        accumulate=3,
        loss_weight=2.0,
        early_stopping=EarlyStopping(patience=7, min_delta=0.25),
    )
    made = path_settings(training, steps=10)
    assert (made.clip_norm, made.clip_value, made.accumulate, made.loss_weight) == (1.5, 0.5, 3, 2)
    assert (made.early_stop.patience, made.early_stop.min_delta) == (7, 0.25)
    assert path_settings(PathTraining(), steps=10).early_stop is None


def test_two_paths_never_share_an_optimizer():
    training = PathTraining()
    assert path_settings(training, 5).optimizer is not path_settings(training, 5).optimizer
