import dataclasses
import math

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import default_model
from branchline.components.branch_trainer.inputs import Input
from branchline.components.branch_trainer.read_rows import Rows, Scale, scales_of
from branchline.components.branch_trainer.settings_of import path_settings
from branchline.components.branch_trainer.streams_of import first_batches, shuffled_batches
from branchline.components.branch_trainer.train import train
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
    Training,
    when,
)
from branchline.schemas.training import OPTIMIZERS


def rows_of(features, labels, files=(), parse_fn=None):
    """The rows of a route, in memory: feature or label → values by row."""
    columns = {key: np.asarray(values) for key, values in labels.items()}
    held = (
        None
        if features is None
        else {
            key: values if isinstance(values, tf.RaggedTensor) else tf.constant(values)
            for key, values in features.items()
        }
    )
    count = len(next(iter(columns.values())))
    return Rows(count, columns, held, list(files), parse_fn)


def column(values):
    """Numbers as a feature [rows, 1]."""
    return np.reshape(np.array(values, np.float32), [-1, 1])


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


SCALAR = {"r": {"x": Input((1,), "float32")}}


def run(recipe, rows, inputs, **options):
    scales = {name: scales_of(rows[name], recipe.routing[name]) for name in rows}
    built = options.pop("build_model", default_model.build_model)
    options.setdefault("cache_dir", "")
    return *train(recipe, built, rows, inputs, scales, **options), scales


def test_the_scale_of_a_regressions_labels_is_their_mean_and_deviation():
    labels = np.random.default_rng(0).normal(1e4, 3.0, 101).astype(np.float32)
    scales = scales_of(rows_of({}, {"y": labels}), regression().routing["r"])
    np.testing.assert_allclose(scales["y"], (labels.mean(), labels.std()), rtol=1e-4)


def test_labels_that_are_all_equal_and_labels_of_classes_are_not_scaled():
    rows = rows_of({}, {"y": np.full(3, 7.0, np.float32)})
    assert scales_of(rows, regression().routing["r"]) == {"y": Scale(7.0, 1.0)}
    binary = Route("b", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
    assert scales_of(rows_of({}, {"y": [1, 0]}), binary) == {"y": Scale()}


def test_a_route_without_rows_to_train_on_is_named():
    with pytest.raises(BranchlineError, match="route 'r' has no example in train"):
        scales_of(rows_of({}, {"y": np.zeros(0, np.float32)}), regression().routing["r"])


def test_a_regression_is_learnt_in_its_own_unit_once_the_scale_is_undone():
    xs = np.random.default_rng(1).normal(size=64)
    rows = {"r": rows_of({"x": column(xs)}, {"y": (5000 + 300 * xs).astype(np.float32)})}
    recipe = regression(steps=300, batch_size=32, learning_rate=0.01)
    model, _, scales = run(recipe, rows, SCALAR)
    scale = scales["r"]["y"]
    outputs = np.array(model({"x": np.reshape(xs, (-1, 1))}, path="r")["r"])[:, 0]
    assert np.abs(outputs).max() < 4, "the head learns standardised labels"
    error = outputs * scale.std + scale.mean - (5000 + 300 * xs)
    assert np.sqrt(np.mean(error**2)) < 30  # a tenth of a deviation


def test_rows_held_back_for_validation_are_not_trained_on():
    count, held_back = 20, 5
    ids, labels = np.arange(count)[:, None], (np.arange(count) % 3).astype(np.float32)
    rows = {"r": rows_of({"x": ids}, {"y": labels})}
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
    model, summary, _ = run(recipe, rows, inputs)

    def embeddings(model):
        (table,) = [v for v in model.variables_of("r") if tuple(v.shape) == (count, 16)]
        return np.array(table)

    keras.utils.set_random_seed(recipe.training.seed)
    before = embeddings(default_model.build_model(recipe, inputs))
    # Every row has an embedding of its own: it changes when the row is trained on.
    changed = np.any(embeddings(model) != before, axis=1)
    assert changed.tolist() == [False] * held_back + [True] * (count - held_back)
    assert len(summary["routes"]["r"]["validation"]) >= 4


ONE = {"r": rows_of({"x": column([1.0])}, {"y": np.array([2.0], np.float32)})}


def test_a_route_of_one_row_is_trained_on_it_even_if_it_stops_early():
    recipe = regression(steps=3, batch_size=4, early_stopping=EarlyStopping())
    _, summary, _ = run(recipe, ONE, SCALAR)
    assert summary["routes"]["r"]["steps"] == 3
    assert math.isfinite(summary["routes"]["r"]["loss"])


def test_routes_take_turns_as_the_schedule_says():
    routes = [
        Route(name, when.present(name), features={"x": Numeric()}, label="y", task="regression")
        for name in ("first", "second")
    ]
    recipe = Recipe(
        "two",
        RoutingTable(*routes),
        training=Training(steps=9, batch_size=2, schedule=Alternate("aab")),
    )
    two = rows_of({"x": column([1.0, 0.0])}, {"y": np.array([2.0, 3.0], np.float32)})
    rows = {name: two for name in ("first", "second")}
    inputs = {name: {"x": Input((1,), "float32")} for name in rows}
    _, summary, _ = run(recipe, rows, inputs)
    found = {name: (each["steps"], each["examples"]) for name, each in summary["routes"].items()}
    assert found == {"first": (6, 12), "second": (3, 6)}


def test_a_recipes_function_has_the_last_word_on_the_trainers_arguments():
    labels = np.array([2.0, 3.0], np.float32)
    rows = {"r": rows_of({"x": column([1.0, 2.0])}, {"y": labels})}
    recipe = regression(steps=20, batch_size=2)
    given = {}

    def configure_trainer(recipe, model, options):
        given.update(options, recipe=recipe)
        frozen = dataclasses.replace(options["settings"]["r"], freeze=["r"])
        return {**options, "settings": {"r": frozen}, "steps": 4}

    model, summary, _ = run(recipe, rows, SCALAR, configure_trainer=configure_trainer)
    assert given["recipe"] is recipe and given["steps"] == 20 and given["streams"].keys() == {"r"}
    assert summary["routes"]["r"]["steps"] == 4
    keras.utils.set_random_seed(recipe.training.seed)
    untrained = default_model.build_model(recipe, SCALAR)
    untrained.build_path("r", {"x": tf.TensorSpec([None, 1])})
    np.testing.assert_array_equal(model.heads[0].layer.kernel, untrained.heads[0].layer.kernel)


@pytest.mark.parametrize("returned", [None, 3])
def test_a_function_that_returns_no_arguments_is_named(returned):
    with pytest.raises(BranchlineError, match=f"configure_trainer: got {returned}, expected the"):
        run(regression(), ONE, SCALAR, configure_trainer=lambda *_: returned)


def parse_numbers(serialized):
    """Reads `x` [batch, 2], `w` (texts, of any number) and the label `y`."""
    specs = {"x": tf.io.FixedLenFeature([2], tf.float32), "w": tf.io.RaggedFeature(tf.string)}
    parsed = tf.io.parse_example(serialized, specs | {"y": tf.io.FixedLenFeature([], tf.float32)})
    return {"x": parsed["x"], "w": parsed["w"]}, {"y": parsed["y"]}


@pytest.mark.parametrize(
    ("in_memory", "ragged"),
    [(True, True), (True, False), (False, True)],
    ids=["in memory", "in memory, dense", "on disk"],
)
def test_shuffled_every_epoch_holds_every_row_once_with_its_label(tmp_path, in_memory, ragged):
    words = [["a"] * (i % 4) for i in range(7)]
    records = [{"x": [float(i), -float(i)], "w": words[i], "y": float(i)} for i in range(7)]
    file = build.write_rows(tmp_path / "a.gz", map(build.example, records))
    features = {"x": [record["x"] for record in records]}
    if ragged:
        features["w"] = tf.ragged.constant(words, dtype=tf.string)
    labels = {"y": np.arange(7, dtype=np.float32)}
    rows = rows_of(features if in_memory else None, labels, [file], parse_numbers)

    def stream(seed=3):
        return shuffled_batches(
            rows,
            skip=2,
            batch_size=3,
            seed=seed,
            labels_fn=lambda labels: labels["y"],
            cache_file=str(tmp_path / f"cache {seed} {len(list(tmp_path.iterdir()))}"),
        )

    batches = list(stream().take(20))
    labels = np.concatenate([np.array(y) for _, y in batches])
    epochs = labels.reshape(-1, 5)
    assert all(sorted(epoch) == [2, 3, 4, 5, 6] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 6
    for features, y in batches:
        np.testing.assert_array_equal(np.array(features["x"])[:, 0], y)
        if ragged:
            found = [[w for w in row if w] for row in np.array(features["w"])]
            assert [len(row) for row in found] == [int(i) % 4 for i in y]
    again = np.concatenate([np.array(y) for _, y in stream().skip(4).take(5)])
    np.testing.assert_array_equal(again, labels[12:27])
    assert any(np.any(np.array(y) != b[1]) for (_, y), b in zip(stream(4), batches, strict=False))


def test_a_batch_may_be_larger_than_the_epoch():
    rows = rows_of({"x": column(range(3))}, {"y": np.arange(3, dtype=np.float32)})
    stream = shuffled_batches(
        rows, skip=1, batch_size=8, seed=0, labels_fn=lambda of: of["y"], cache_file=""
    )
    labels = np.concatenate([np.array(y) for _, y in stream.take(3)])
    assert labels.shape == (24,)
    assert all(sorted(pair) == [1, 2] for pair in labels.reshape(-1, 2))


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "on disk"])
def test_the_first_rows_come_once_and_in_order(tmp_path, in_memory):
    records = [{"x": [1.0 * i, 0.0], "w": ["a"] * (i % 3), "y": 1.0 * i} for i in range(7)]
    file = build.write_rows(tmp_path / "a.gz", map(build.example, records))
    features = {
        "x": tf.constant([r["x"] for r in records]),
        "w": tf.ragged.constant([r["w"] for r in records], dtype=tf.string),
    }
    labels = {"y": np.arange(7, dtype=np.float32)}
    rows = rows_of(features if in_memory else None, labels, [file], parse_numbers)
    stream = first_batches(rows, take=5, batch_size=2, labels_fn=lambda of: of["y"])
    features, found = zip(*stream.as_numpy_iterator(), strict=True)
    assert [len(part) for part in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(found), np.arange(5))
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in features])[:, 0], np.arange(5))
    assert features[1]["w"].tolist() == [[b"a", b"a"], [b"", b""]]


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
