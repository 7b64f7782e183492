"""Weights of records: training is that of a loop by hand with weighted losses, as in Keras."""

from typing import Any

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head, Path, Switch
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import Scale, scales_of
from branchline.components.branch_trainer.streams.weights import dense_weight
from branchline.components.branch_trainer.trainer import Trainer
from branchline.schemas import (
    Alternate,
    BranchlineError,
    EarlyStopping,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Target,
    Training,
    when,
)

COUNT, STEPS, RATE = 12, 5, 0.2
INPUTS = {name: {"x": Input((2,), "float32")} for name in "rs"}
SCALES = {name: {"y": Scale()} for name in "rs"}
CROSSENTROPY = keras.losses.BinaryCrossentropy(from_logits=True)


def route(name="r", weight="w", **target):
    targets = {"y": Target(**({"task": "binary"} | target))}
    features = {"x": Numeric(2)}
    return Route(name, when.present(name), features=features, targets=targets, weight=weight)


def recipe_of(*routes, **training):
    options = {"steps": STEPS, "batch_size": COUNT, "optimizer": "sgd", "decay": "constant"}
    options |= {"learning_rate": RATE} | training
    return Recipe("weighted", RoutingTable(*routes), training=Training(**options))


def records(seed=0, count=COUNT):
    rng = np.random.default_rng(seed)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], count)
    return [
        {"x": rng.normal(size=2).tolist(), "y": int(rng.integers(0, 2)), "w": float(w)}
        for w in weights
    ]


def linear(table):
    """A shared layer, and a layer a route: the same first weights each time."""
    keras.utils.set_random_seed(7)
    trunk = keras.layers.Dense(2)
    trunk.build((None, 2))
    heads = []
    for r in table.routes:
        layer = keras.layers.Dense(1)
        layer.build((None, 2))
        missing = r.labels["y"].missing
        heads.append(Head(f"{r.name}.0", layer, loss=CROSSENTROPY, label="y", missing=missing))
    paths = {name: Path(branch=name, heads=[f"{name}.0"], features="x") for name in table.names}
    branches = {name: keras.layers.Identity() for name in table.names}
    return BranchedModel([Switch("branch", **branches), trunk], heads=heads, paths=paths)


def rows_of(tmp_path, of_route, rows, **options):
    path = tmp_path / f"{of_route.name}.gz"
    options = {"weight": of_route.weight} | options
    return build.plain_rows(path, rows, INPUTS[of_route.name], of_route.labels, **options)


def trained(tmp_path, recipe, rows, **options):
    """The trained model and the summary; `rows` is route → records."""
    tmp_path.mkdir(exist_ok=True)
    found = {name: rows_of(tmp_path, recipe.routing[name], rows[name]) for name in rows}
    options = {"cache_dir": str(tmp_path)} | options
    return train(recipe, lambda r, _: linear(r.routing), found, INPUTS, SCALES, **options)


def columns(rows):
    """x, y and weights of records, y as -1 where it is missing."""
    x, w = ([row[key] for row in rows] for key in "xw")
    y = [[row.get("y", -1)] for row in rows]
    return (tf.constant(each, tf.float32) for each in (x, y, w))


def weighted_loss(model, path, rows):
    """As `fit(sample_weight=)`: the sum of weight × loss, over the number of rows with a label."""
    x, y, w = columns(rows)
    there = y[:, 0] >= 0
    logits = tf.boolean_mask(model({"x": x}, path=path)[f"{path}.0"], there)
    return CROSSENTROPY(tf.boolean_mask(y, there), logits, sample_weight=tf.boolean_mask(w, there))


def by_hand(recipe, rows, batches_of):
    """A tape, and a plain step; `batches_of(step)` gives the paths of a step."""
    model = linear(recipe.routing)
    for name in recipe.routing.names:
        model({"x": tf.zeros([1, 2])}, path=name)
    for step in range(recipe.training.steps):
        with tf.GradientTape() as tape:
            loss = tf.add_n([weighted_loss(model, p, rows[p]) for p in batches_of(step)])
        values = [v.value for v in model.trainable_variables]
        gradients: Any = tape.gradient(loss, values)
        for value, gradient in zip(values, gradients, strict=True):
            if gradient is not None:
                value.assign_sub(RATE * gradient)
    return model


def assert_alike(model, other):
    for v, w in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["plain", "compiled"])
def test_training_is_that_of_a_loop_by_hand_with_weighted_losses(tmp_path, options):
    recipe = recipe_of(route("r"), route("s", optional=True), schedule=Alternate("rs"), **options)
    rows = {"r": records(0), "s": records(1)}
    del rows["s"][3]["y"], rows["s"][5]["y"]
    model, _ = trained(tmp_path, recipe, rows)
    hand = by_hand(recipe, rows, lambda step: ["rs"[step % 2]])
    assert_alike(model, hand)
    alike = [[row | {"w": 1.0} for row in rows[name]] for name in "rs"]
    plain = by_hand(recipe, dict(zip("rs", alike, strict=True)), lambda step: ["rs"[step % 2]])
    with pytest.raises(AssertionError):
        assert_alike(model, plain)


def test_accumulated_batches_are_weighted_too(tmp_path):
    recipe = recipe_of(route(), steps=4, batch_size=COUNT, accumulate=2)
    rows = {"r": records(2)}
    model, _ = trained(tmp_path, recipe, rows)
    halved = recipe_of(route(), steps=2)  # two batches that are alike make one update
    assert_alike(model, by_hand(halved, rows, lambda step: ["r"]))


def test_mixed_batches_are_weighted_by_the_rows_of_each_route(tmp_path):
    recipe = recipe_of(route("r"), route("s"))
    rows = {"r": records(0), "s": records(1)}
    x, y, w = (tf.concat(each, 0) for each in zip(*map(columns, rows.values()), strict=True))
    ids = tf.repeat(tf.constant([0, 1]), COUNT)
    stream = tf.data.Dataset.from_tensors((({"x": x}, ids), {"y": y}, w)).repeat()
    model = linear(recipe.routing)
    settings = {"both": PathSettings(keras.optimizers.SGD(RATE))}
    Trainer(model, streams={"both": stream}, settings=settings, steps=STEPS).run()
    assert_alike(model, by_hand(recipe, rows, lambda step: "rs"))


def test_a_weight_of_2_is_as_good_as_the_row_twice_but_for_the_divisor(tmp_path):
    recipe = recipe_of(route(), learning_rate=RATE * 4 / 3)
    rows = [row | {"w": 1.0} for row in records(3)]
    heavy = [row | {"w": 2.0 if i < 4 else 1.0} for i, row in enumerate(rows)]
    model, _ = trained(tmp_path / "heavy", recipe, {"r": heavy})
    # 16 rows instead of 12: the mean of the losses is 3/4 of theirs.
    twice = recipe_of(route(), batch_size=16, learning_rate=RATE * 16 / 12 * 4 / 3)
    other, _ = trained(tmp_path / "twice", twice, {"r": [*rows, *rows[:4]]})
    assert_alike(model, other)


def test_the_validation_loss_is_weighted(tmp_path):
    recipe = recipe_of(
        route(),
        steps=1,
        batch_size=6,
        validate_every=1,
        validation_share=0.5,
        early_stopping=EarlyStopping(patience=100),
    )
    rows = records(4)
    model, summary = trained(tmp_path, recipe, {"r": rows})
    (_, found), *_ = summary["routes"]["r"]["validation"]
    np.testing.assert_allclose(found, weighted_loss(model, "r", rows[:6]), rtol=1e-5)


def test_rows_that_count_for_nothing_are_no_rows_to_watch(tmp_path, caplog):
    recipe = recipe_of(
        route(), steps=30, validate_every=1, early_stopping=EarlyStopping(patience=1)
    )
    rows = [{"x": [0.0, 0.0], "y": 1, "w": float(i > 3)} for i in range(20)]
    _, summary = trained(tmp_path, recipe, {"r": rows})
    assert summary["routes"]["r"]["steps"] == 30
    assert (
        "none of the 2 rows held back to watch it has a label and a weight above 0" in caplog.text
    )


def test_a_route_of_which_no_row_counts_is_named(tmp_path):
    rows = rows_of(tmp_path, route(), [row | {"w": 0.0} for row in records()])
    with pytest.raises(BranchlineError, match="the weight 'w' of all 12 examples of route 'r'"):
        scales_of(rows, route())


def test_rows_on_disk_stream_the_same_weights(tmp_path):
    recipe = recipe_of(route())
    rows = records(5)
    held = rows_of(tmp_path, route(), rows, in_memory=False)
    model, _ = train(
        recipe,
        lambda r, _: linear(r.routing),
        {"r": held},
        INPUTS,
        SCALES,
        cache_dir=str(tmp_path),
    )
    assert_alike(model, by_hand(recipe, {"r": rows}, lambda step: ["r"]))


@pytest.mark.parametrize(
    "rows", [[[1.0], []], [[1.0, 2.0], []], [[1.0], [-1.0]], [[1.0], [np.nan]], [[np.inf]]], ids=str
)
def test_examples_without_one_usable_weight_each_are_refused(rows):
    values = tf.ragged.constant(rows, tf.float32, inner_shape=()).to_sparse()
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected one weight a row"):
        dense_weight(values)


def test_trainer_of_ones_own_streams_is_as_before(tmp_path):
    """A batch of features and labels alone, of one who has a recipe with no weight."""
    model = linear(RoutingTable(route(weight=None)))
    x, y, _ = columns(records())
    stream = tf.data.Dataset.from_tensors(({"x": x}, {"y": y})).repeat()
    assert Trainer(model, streams={"r": stream}, steps=2).run().steps == {"r": 2}
