"""Retrieval: what is learnt from the items of batches is a softmax over all items."""

from typing import Any

import builders_heads as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from branchline.components.branch_trainer.recipe.check_heads import check_heads
from branchline.components.branch_trainer.recipe.item_query import InBatchSoftmax, ItemQuery
from branchline.components.branch_trainer.recipe.predictions import items_and_scores
from branchline.components.branch_trainer.step.losses import head_loss
from branchline.schemas import BranchlineError, Numeric, RecipeError, Route, Target, when

NUM_ITEMS, WIDTH = 30, 5


def layer_of(seed=0) -> Any:
    """A layer whose vectors have been moved apart."""
    layer: Any = ItemQuery(NUM_ITEMS, WIDTH)
    layer.build((None, WIDTH))
    layer.items.embeddings.assign(np.random.default_rng(seed).normal(size=(NUM_ITEMS, WIDTH)))
    return layer


def vectors_of(layer) -> np.ndarray:
    return np.asarray(layer.items.embeddings)


def losses_of(loss, items, queries, layer, rows=None):
    given = tf.constant(items), tf.constant(queries, tf.float32)
    return loss.in_batch(*given, rows=rows, layer=layer).numpy()


def test_over_all_rows_the_loss_is_keras_crossentropy_over_all_items():
    """But for n / (n - 1), as a row's item is not among those that stand for all others."""
    rng = np.random.default_rng(0)
    items = rng.choice(NUM_ITEMS, 3000, p=softmax(rng.normal(size=NUM_ITEMS)))
    queries, layer = rng.normal(size=(3000, WIDTH)), layer_of()
    loss = InBatchSoftmax(np.bincount(items, minlength=NUM_ITEMS).tolist())
    found = losses_of(loss, items, queries, layer)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    wanted = crossentropy(items, layer.scores(tf.constant(queries, tf.float32))).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_the_sum_over_other_items_is_expected_to_be_that_over_all():
    rng = np.random.default_rng(1)
    shares, layer = softmax(rng.normal(size=NUM_ITEMS)), layer_of()
    query = rng.normal(size=(1, WIDTH)).astype(np.float32) / 2
    scores = (query @ vectors_of(layer).T)[0]
    loss = InBatchSoftmax((1e6 * shares).astype(int).tolist())
    sums = []
    for _ in range(600):
        items = np.concatenate([[3], rng.choice(NUM_ITEMS, 40, p=shares)])
        first = losses_of(loss, items, np.repeat(query, 41, axis=0), layer)[0]
        sums.append(np.exp(first + scores[3]))
    error = np.std(sums) / np.sqrt(len(sums))
    assert error < 0.03 * np.mean(sums)
    assert abs(np.mean(sums) - np.exp(logsumexp(scores))) < 3 * error


def test_without_counts_every_other_row_of_another_item_counts_once():
    rng = np.random.default_rng(2)
    items, queries, layer = [4, 9, 4, 0], rng.normal(size=(4, WIDTH)), layer_of()
    scores = queries.astype(np.float32) @ vectors_of(layer)[items].T
    found = losses_of(InBatchSoftmax(), items, queries, layer)
    among = [[0, 1, 3], [0, 1, 2, 3], [2, 1, 3], [0, 1, 2, 3]]
    wanted = [logsumexp(scores[i, each]) - scores[i, i] for i, each in enumerate(among)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("counts", [None, [2] * NUM_ITEMS])
def test_rows_without_a_label_and_of_other_heads_change_nothing(counts):
    rng = np.random.default_rng(3)
    model = build.heads_of({"r": Target("retrieval", num_classes=NUM_ITEMS, optional=True)})
    head = model.heads[0]
    head.loss = InBatchSoftmax(counts)
    queries = tf.constant(rng.normal(size=(6, head.layer.width)), tf.float32)
    kept, rows = [0, 2, 5], tf.constant([True, True, True, False, False, True])
    mixed = head_loss(head, tf.constant([1, -1, 7, 2, 4, 7]), queries, rows=rows)
    alone = head_loss(head, tf.constant([1, 7, 7]), tf.gather(queries, kept))
    assert float(mixed) == pytest.approx(float(alone), rel=1e-6)
    assert float(mixed) != pytest.approx(float(head_loss(head, tf.zeros(6, tf.int32), queries)))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_is_learnt_is_as_good_as_scikit_learns_softmax_over_all_items(tmp_path, jit_compile):
    """Of items of which some are fifty times as frequent as others."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(600, 3))
    logits = 2 * x @ rng.normal(size=(3, 12)) - np.linspace(0, 4, 12)
    y = np.array([rng.choice(12, p=p) for p in softmax(logits, axis=1)])
    target = Target("retrieval", num_classes=12, top_k=12)
    _, found = build.trained_head(
        tmp_path, target, x, y, steps=400, learning_rate=0.02, jit_compile=jit_compile
    )
    items, scores = (each.numpy() for each in items_and_scores(tf.constant(found)))
    assert items.dtype == np.int64 and (np.diff(scores, axis=1) <= 0).all()
    of_item = np.take_along_axis(scores, items.argsort(axis=1), axis=1)
    plain = LogisticRegression(C=1e6, max_iter=2000).fit(x, y)
    wanted = log_loss(y, plain.predict_proba(x))
    assert log_loss(y, softmax(of_item, axis=1), labels=range(12)) < 1.02 * wanted
    assert (items[:, 0] == plain.predict(x)).mean() > 0.95


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "num_classes"),
        ({"num_classes": 5, "top_k": 6}, "at most the number of items, 5"),
        ({"num_classes": 5, "top_k": 0}, "at least 1"),
        ({"num_classes": 5, "shape": (2,)}, r"\(\), one value"),
        ({"num_classes": 5, "class_weight": "balanced"}, 'None for task="retrieval"'),
        ({"task": "multiclass", "num_classes": 5, "top_k": 2}, 'None unless task="retrieval"'),
    ],
)
def test_what_cannot_be_retrieved_is_refused(fields, told):
    with pytest.raises(RecipeError, match=told):
        Target(**({"task": "retrieval"} | fields))


@pytest.mark.parametrize(
    "made", [Target("retrieval", num_classes=3), Target("multiclass", num_classes=4)]
)
def test_a_head_that_cannot_retrieve_the_items_is_told_before_training(made):
    features = {"x": Numeric((64,))}
    route = Route(
        "r", when.present("x"), features=features, label="y", task="retrieval", num_classes=4
    )
    model = build.heads_of({"r": made})
    with pytest.raises(BranchlineError, match=r"expected ItemQuery\(num_items=4"):
        check_heads(model, route, {"x": tf.TensorSpec([None, 64])})


def test_ten_items_are_predicted_or_all_of_fewer():
    assert Target("retrieval", num_classes=500).prediction_shape == (10,)
    assert Target("retrieval", classes=("a", "b", "c")).prediction_shape == (3,)
    assert Target("retrieval", classes="learn").with_names("abcd").top_k == 4
