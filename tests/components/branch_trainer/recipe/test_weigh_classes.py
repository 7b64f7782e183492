"""Weights of classes: the loss is scikit-learn's with these weights, and so is what is learnt."""

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head, Path, Switch
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.recipe.weigh_classes import (
    WeightedByClass,
    weigh_classes,
)
from branchline.components.branch_trainer.step.batch_loss import batch_loss
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.schemas import (
    BranchlineError,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Target,
    Training,
    when,
)

INPUTS = {"r": {"x": Input((1,), "float32")}, "s": {"x": Input((1,), "float32")}}
LABELS = [0] * 24 + [1] * 6 + [2] * 2


def route(name="r", weight=None, **target):
    return Route(
        name,
        when.present(name),
        features={"x": Numeric()},
        targets={
            "y": Target(**({"task": "multiclass", "num_classes": 3} | target), class_weight=weight)
        },
    )


def linear(table, heads=None):
    """A path a route, of a bias and a factor for each class."""
    width = {r.name: r.labels["y"].num_classes or 1 for r in table.routes}
    heads = heads or {r.name: head(r.name, width[r.name], r.labels["y"]) for r in table.routes}
    return BranchedModel(
        [Switch("branch", **{name: keras.layers.Identity() for name in table.names})],
        heads=list({id(each): each for each in heads.values()}.values()),
        paths={
            name: Path(branch=name, heads=[heads[name].name], features="x") for name in table.names
        },
    )


def head(name, width, target):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if width == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    layer = keras.layers.Dense(width)
    layer.build((None, 1))
    return Head(f"{name}.0", layer, loss=loss, label="y", missing=target.missing)


def rows_of(tmp_path, name, labels, target):
    records = [{"x": i / 9} | ({} if y is None else {"y": y}) for i, y in enumerate(labels)]
    return build.plain_rows(tmp_path / f"{name}.gz", records, INPUTS[name], {"y": target})


@pytest.mark.parametrize("weight", ["balanced", {0: 0.5, 2: 4.0}])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_loss_is_that_of_scikit_learn_with_these_weights(tmp_path, weight, num_classes):
    labels = np.minimum(LABELS, (num_classes or 2) - 1)
    task = "multiclass" if num_classes else "binary"
    weight = weight if num_classes or weight == "balanced" else {0: 0.5}
    table = RoutingTable(route(weight=weight, task=task, num_classes=num_classes))
    model = linear(table)
    x = {"x": tf.constant(np.arange(32)[:, None] / 9, tf.float32)}
    y = tf.constant(labels, tf.int64)
    y = y if num_classes else tf.cast(y, tf.float32)[:, None]
    logits = model(x, path="r")["r.0"].numpy()
    target = table["r"].labels["y"]
    weigh_classes(model, table, {"r": rows_of(tmp_path, "r", labels.tolist(), target)})
    found = batch_loss(model, "r", (x, {"y": y}), training=True)
    probabilities = tf.nn.softmax(logits) if num_classes else tf.sigmoid(logits)[:, 0]
    of_rows = compute_sample_weight(weight, labels)
    total = log_loss(labels, probabilities, sample_weight=of_rows, normalize=False)
    np.testing.assert_allclose(found, total / len(labels), rtol=1e-5)


def test_balanced_leaves_out_labels_that_are_missing_and_classes_without_rows(tmp_path):
    labels = [0, 0, 0, None, 2, None]
    table = RoutingTable(route(weight="balanced", optional=True))
    model = linear(table)
    weigh_classes(model, table, {"r": rows_of(tmp_path, "r", labels, table["r"].labels["y"])})
    (loss,) = [each.loss for each in model.heads]
    of_two = compute_class_weight("balanced", classes=np.array([0, 2]), y=[0, 0, 0, 2])
    assert loss.weights == pytest.approx((of_two[0], 1.0, of_two[1]))


def test_what_is_learnt_is_the_share_by_weight(tmp_path):
    learnt = {}
    for name, weight in {"none": None, "balanced": "balanced", "three": {1: 3.0}}.items():
        table = RoutingTable(route(weight=weight, task="binary", num_classes=None))
        target = table["r"].labels["y"]
        records = [{"x": 0.0, "y": int(i % 5 == 0)} for i in range(100)]  # a fifth
        rows = build.plain_rows(tmp_path / f"{name}.gz", records, INPUTS["r"], {"y": target})
        training = Training(steps=300, batch_size=100, learning_rate=0.1)
        model, _ = train(
            Recipe("w", table, training=training),
            lambda recipe, inputs: linear(recipe.routing),
            {"r": rows},
            INPUTS,
            {"r": {"y": Scale()}},
            cache_dir=str(tmp_path / name),
        )
        logit = model({"x": tf.zeros([1, 1])}, path="r")["r.0"]
        learnt[name] = float(tf.sigmoid(logit)[0, 0])
    expected = {"none": 0.2, "balanced": 0.5, "three": 0.6 / (0.6 + 0.8)}
    assert learnt == pytest.approx(expected, abs=0.01)


def test_a_head_of_two_routes_takes_no_two_kinds_of_weights(tmp_path):
    table = RoutingTable(route("r", weight={0: 2.0}), route("s"))
    shared = head("both", 3, table["r"].labels["y"])
    model = linear(table, {"r": shared, "s": shared})
    rows = {n: rows_of(tmp_path, n, LABELS, table[n].labels["y"]) for n in table.names}
    with pytest.raises(BranchlineError, match=r"'both.0' is that of the routes 'r' and 's'"):
        weigh_classes(model, table, rows)


def test_a_weighted_loss_is_made_again_from_its_config():
    loss = WeightedByClass(keras.losses.SparseCategoricalCrossentropy(from_logits=True), (1, 2))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    y, logits = tf.constant([0, 1]), tf.constant([[0.0, 1.0], [2.0, 0.5]])
    np.testing.assert_array_equal(again.call(y, logits), loss.call(y, logits))
