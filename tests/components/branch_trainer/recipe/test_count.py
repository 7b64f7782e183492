"""Counts: what is learnt and served is what scikit-learn's Poisson regression gives."""

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import poisson
from sklearn.linear_model import PoissonRegressor

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head, Path, Switch
from branchline.components.branch_trainer.recipe.default_model import build_head
from branchline.components.branch_trainer.recipe.poisson import poisson_loss_of_logs
from branchline.components.branch_trainer.recipe.predictions import prediction
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.streams.inputs import Input
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.schemas import (
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    Training,
    when,
)

INPUTS = {"r": {"x": Input((1,), "float32")}}


def test_the_loss_is_the_likelihoods_but_for_what_is_the_same_for_all_outputs():
    label = np.array([0, 1, 5, 40])[:, None]
    outputs = [np.array([-1.0, 0.5, 2.0, 3.0])[:, None], np.array([0.3, 0.1, 1.0, 4.0])[:, None]]
    ours = [poisson_loss_of_logs(tf.constant(label), tf.constant(o, tf.float32)) for o in outputs]
    wanted = [-poisson.logpmf(label, np.exp(o))[:, 0] for o in outputs]
    np.testing.assert_allclose(ours[0] - ours[1], wanted[0] - wanted[1], rtol=1e-4)


@pytest.mark.parametrize("optional", [False, True])
def test_what_is_predicted_is_what_scikit_learn_predicts(tmp_path, optional):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = rng.poisson(500 * np.exp(0.7 * x))
    target = Target("count", optional=optional)
    table = RoutingTable(
        Route("r", when.present("x"), features={"x": Numeric()}, targets={"y": target})
    )
    records = [{"x": float(a), "y": int(b)} for a, b in zip(x, y, strict=True)]
    if optional:
        records += [{"x": 3.0}] * 40
    rows = build.plain_rows(tmp_path / "r.gz", records, INPUTS["r"], {"y": target})
    (scale,) = scales_of(rows, table["r"]).values()

    def build_model(recipe, inputs):
        layer = keras.layers.Dense(1)
        layer.build((None, 1))
        made = build_head("r.0", "y", target)
        head = Head("r.0", layer, loss=made.loss, label="y", missing=target.missing)
        switch = Switch("branch", r=keras.layers.Identity())
        paths = {"r": Path(branch="r", features="x")}
        return BranchedModel([switch], heads=[head], paths=paths)

    training = Training(steps=600, batch_size=len(records), learning_rate=0.02)
    model, _ = train(
        Recipe("c", table, training=training),
        build_model,
        {"r": rows},
        INPUTS,
        {"r": {"y": scale}},
        cache_dir=str(tmp_path / "cache"),
    )
    output = model({"x": tf.constant(x[:, None], tf.float32)}, path="r")["r.0"]
    found = prediction(target, output, tf.constant([scale.mean, scale.std], tf.float64))
    wanted = PoissonRegressor(alpha=0, tol=1e-8).fit(x[:, None], y).predict(x[:, None])
    np.testing.assert_allclose(found.numpy().ravel(), wanted, rtol=0.02)


def test_a_count_has_no_classes_and_is_never_below_zero():
    assert (Target("count").dtype, Target("count").is_number) == ("int", True)
    with pytest.raises(RecipeError, match="classes"):
        Target("count", classes=("a", "b"))
    with pytest.raises(RecipeError, match="num_classes"):
        Target("count", num_classes=3)
    outputs = tf.constant([[-90.0], [0.0]])
    found = prediction(Target("count"), outputs, tf.constant([0.0, 5.0], tf.float64))
    np.testing.assert_allclose(found, [0.0, 5.0], atol=1e-6)
