"""Classes in order: proportional odds, fitted as its likelihood says."""

import builders_heads as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import expit

from branchline.components.branch_trainer.recipe.ordered_classes import OrderedClasses
from branchline.components.branch_trainer.step.batch_loss import batch_loss
from branchline.schemas import RecipeError, Target

THRESHOLDS, SLOPE = np.array([-1.0, 0.5, 2.0]), np.array([1.5, -0.8])


def by_definition(x, slope, thresholds):
    """Probabilities of classes [n, K], as differences of P(class ≤ k)."""
    below = expit(thresholds - x @ np.reshape(slope, [-1, 1]))
    edges = np.concatenate([np.zeros([len(x), 1]), below, np.ones([len(x), 1])], axis=1)
    return np.diff(edges, axis=1)


def test_the_head_gives_logarithms_of_the_probabilities_however_far_from_the_thresholds():
    layer = OrderedClasses(4)
    layer.build((None, 2))
    np.testing.assert_allclose(tf.exp(layer(tf.zeros([1, 2]))), [[0.25] * 4], rtol=1e-5)
    layer.kernel.assign(SLOPE[:, None])
    x = np.random.default_rng(0).normal(size=(50, 2))
    wanted = by_definition(x, SLOPE, layer.thresholds.numpy())
    np.testing.assert_allclose(tf.exp(layer(tf.constant(x, tf.float32))), wanted, rtol=1e-4)
    far = layer(tf.constant([[300.0, 0.0], [-300.0, 0.0]])).numpy()
    assert np.isfinite(far).all() and far.argmax(axis=1).tolist() == [3, 0]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.num_classes == 4


def test_thresholds_and_slopes_of_proportional_odds_are_found(tmp_path):
    """Within 1 % of the greatest likelihood's, and 0.2 of those that the rows were drawn from."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 2))
    y = (by_definition(x, SLOPE, THRESHOLDS).cumsum(axis=1) < rng.uniform(size=(3000, 1))).sum(1)
    target = Target("ordinal", num_classes=4, optional=True)
    layer, found = build.trained_head(
        tmp_path, target, x, y, optional_rows=50, steps=800, learning_rate=0.02
    )

    def loss(weights):
        rows = by_definition(x, weights[:2], np.cumsum([weights[2], *np.exp(weights[3:])]))
        return -np.log(rows[np.arange(len(y)), y]).mean()

    best = minimize(loss, np.zeros(5), tol=1e-9).x
    wanted = np.cumsum([best[2], *np.exp(best[3:])])
    np.testing.assert_allclose(layer.kernel.numpy().ravel(), best[:2], rtol=0.01)
    np.testing.assert_allclose(layer.thresholds.numpy(), wanted, rtol=0.01)
    np.testing.assert_allclose(layer.thresholds.numpy(), THRESHOLDS, atol=0.2)
    np.testing.assert_allclose(found, by_definition(x, best[:2], wanted), atol=0.01)


def test_a_mixed_batch_has_the_losses_of_its_paths():
    targets = {
        "o": Target("ordinal", classes=("low", "mid", "high")),
        "q": Target("quantile"),
        "m": Target("multiclass", num_classes=3),
    }
    model = build.heads_of(targets)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 64)).astype(np.float32)
    path_ids = np.arange(12) % 3
    classes = rng.integers(0, 3, 12)
    labels = {"o": classes, "m": classes, "q": rng.normal(size=(12, 1)).astype(np.float32)}
    mixed = batch_loss(model, None, (({"x": x}, tf.constant(path_ids)), labels), training=False)
    alone = [
        batch_loss(
            model,
            name,
            ({"x": x[path_ids == i]}, {key: each[path_ids == i] for key, each in labels.items()}),
            training=False,
        )
        for i, name in enumerate(targets)
    ]
    assert float(mixed) == pytest.approx(sum(map(float, alone)), rel=1e-5)


def test_an_ordinal_target_has_classes_in_order_as_a_multiclass_one_has():
    named, numbered = Target("ordinal", classes=["a", "b", "c"]), Target("ordinal", num_classes=3)
    assert (named.num_classes, named.classes, named.dtype) == (3, ("a", "b", "c"), "string")
    assert (numbered.dtype, numbered.num_codes, numbered.prediction_shape) == ("int", 3, (3,))
    assert Target("ordinal", num_classes=3, class_weight={2: 3}).class_weight == (1.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "num_classes"),
        ({"num_classes": 2}, "at least 3"),
        ({"num_classes": 3, "classes": ("a", "b", "c", "d")}, "as many names"),
        ({"num_classes": 3, "shape": (2,)}, r"\(\), one value"),
        ({"num_classes": 3, "whole": True}, "whole"),
    ],
)
def test_an_ordinal_target_that_cannot_be_is_refused(fields, told):
    with pytest.raises(RecipeError, match=told):
        Target("ordinal", **fields)
