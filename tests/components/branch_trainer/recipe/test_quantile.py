"""Quantiles: what is learnt is what scikit-learn's quantile regression gives."""

import builders_heads as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import mean_pinball_loss

from branchline.components.branch_trainer.recipe.pinball import PinballLoss
from branchline.components.branch_trainer.recipe.predictions import prediction
from branchline.schemas import RecipeError, Target

QUANTILES = (0.1, 0.5, 0.9)


def test_the_loss_is_scikit_learns():
    rng = np.random.default_rng(0)
    label, output = rng.normal(size=(50, 1)), rng.normal(size=(50, 2))
    loss = PinballLoss((0.2, 0.95))
    losses = loss.call(tf.constant(label), tf.constant(output, tf.float32))
    wanted = [mean_pinball_loss(label, output[:, i], alpha=q) for i, q in enumerate((0.2, 0.95))]
    assert losses.shape == (50,)
    assert float(tf.reduce_mean(losses)) == pytest.approx(np.mean(wanted), rel=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.quantiles == (0.2, 0.95)


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_predicted_is_what_scikit_learn_predicts(tmp_path, whole):
    """Within 3 % of the labels' deviation, also for times in milliseconds."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(400, 1))
    spread = 5 * x[:, 0] + (1 + x[:, 0] / 2) * rng.normal(size=400)
    origin, unit = (1_700_000_000_000, 1000) if whole else (300, 1)
    y = np.rint(origin + unit * spread).astype(np.int64) if whole else origin + unit * spread
    target = Target("quantile", optional=True, whole=whole)
    _, found = build.trained_head(
        tmp_path, target, x, y, optional_rows=40, steps=1500, learning_rate=0.01
    )
    assert found.shape == (400, 3) and found.dtype == (np.float64 if whole else np.float32)
    for i, quantile in enumerate(QUANTILES):
        wanted = QuantileRegressor(quantile=quantile, alpha=0).fit(x, spread).predict(x)
        np.testing.assert_allclose(
            (found[:, i] - origin) / unit, wanted, atol=0.03 * spread.std(), rtol=0
        )


def test_quantiles_that_cross_change_places_and_the_loss_is_no_greater():
    target = Target("quantile", quantiles=(0.25, 0.5, 0.75))
    outputs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    labels = np.random.default_rng(1).normal(size=(200, 1)).astype(np.float32)
    found = prediction(target, tf.constant(outputs), tf.constant([10.0, 2.0], tf.float64)).numpy()
    np.testing.assert_allclose(found, 10 + 2 * np.sort(outputs, axis=1), rtol=1e-5)
    loss = PinballLoss((0.25, 0.5, 0.75))
    before, after = (loss.call(labels, each) for each in (outputs, np.sort(outputs, axis=1)))
    assert (after.numpy() <= before.numpy() + 1e-6).all()


def test_a_target_of_quantiles_holds_floats_and_predicts_one_for_each():
    target = Target("quantile", quantiles=[0.05, 0.95])
    assert (target.quantiles, target.prediction_shape) == ((0.05, 0.95), (2,))
    assert (target.dtype, target.is_number) == ("float", True)
    assert Target("quantile").quantiles == QUANTILES
    assert Target("regression").quantiles is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"quantiles": (0.5, 0.1)}, "numbers that increase"),
        ({"quantiles": (0.5, 0.5)}, "numbers that increase"),
        ({"quantiles": (0, 0.5)}, "above 0"),
        ({"quantiles": (0.5, 1)}, "below 1"),
        ({"quantiles": 0.5}, "a tuple of numbers"),
        ({"quantiles": ()}, "a tuple of numbers"),
        ({"shape": (2,)}, r"\(\), one value"),
        ({"classes": ("a", "b")}, "classes"),
        ({"num_classes": 3}, "num_classes"),
        ({"task": "regression", "quantiles": (0.5,)}, 'None unless task="quantile"'),
    ],
)
def test_quantiles_that_cannot_be_are_refused(fields, told):
    with pytest.raises(RecipeError, match=told):
        Target(**({"task": "quantile"} | fields))
