"""Ordinal targets, quantiles and items are judged as scikit-learn judges them."""

from typing import Any, cast

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from scipy.stats import rankdata
from sklearn import metrics as sk
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.metric_configs import (
    check_metrics,
    metric_config,
)
from branchline.components.branch_evaluator.try_metric import can_compute
from branchline.schemas import Bound, Numeric, RecipeError, Route, RoutingTable, Target, when

QUANTILES = {"q": (0.1, 0.5, 0.9), "pair": (0.2, 0.6)}
NAMES = ("low", "mid", "high")
MORE = {
    "q": ("root_mean_squared_error",),
    "o": ("sparse_categorical_crossentropy", "auc", "mae"),
}


def table() -> RoutingTable:
    def route(name, width, **target):
        x = {"x": Numeric((width,))}
        return Route(name, when.equals("kind", name), features=x, label="y", **target)

    return RoutingTable(
        *(route(name, len(q), task="quantile", quantiles=q) for name, q in QUANTILES.items()),
        route("o", 3, task="ordinal", classes=NAMES),
        route("items", 5, task="retrieval", num_classes=30, top_k=5),
    )


def rows():
    """Route → labels [n] and predictions [n, ...]."""
    rng = np.random.default_rng(0)
    y, classes = rng.normal(3, 2, 500).astype(np.float32), rng.integers(0, 3, 500)
    logits = rng.normal(0, 1, (500, 3)) + 1.5 * np.eye(3)[classes]
    found = {
        name: (y, (3 + np.array([-1.5, 0, 2.5][: len(q)]) + rng.normal(0, 0.3, (500, 1))))
        for name, q in QUANTILES.items()
    }
    items, scores = item_scores()
    return found | {
        "o": (classes, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)),
        "items": (items, np.argsort(-scores, axis=1)[:, :5]),
    }


def item_scores():
    """Items [500], and scores of all 30, of which the right one's is higher."""
    rng = np.random.default_rng(1)
    items = rng.integers(0, 30, 500)
    return items, rng.normal(0, 1, (500, 30)) + 1.5 * np.eye(30)[items]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the evaluation says, against a baseline that is off by 0.5."""
    root = tmp_path_factory.mktemp("kinds")
    given = {name: (y, p.astype(np.float32)) for name, (y, p) in rows().items()}
    given["o"] = (np.array(NAMES)[given["o"][0]], given["o"][1])
    examples = build.routed_examples(root / "examples", given, table())
    model = build.model(root / "m", table())
    base = build.model(root / "base", table(), transform=lambda x: x + 0.5)
    thresholds = {
        "q": {"pinball_loss": 1.0, "coverage": Bound(least=0.5, greatest=0.9)},
        "o": {"quadratic_weighted_kappa": 0.3, "mean_absolute_error": 0.1},
    }
    summary, *_ = build.run(root, examples, model, thresholds, MORE, [base], table())
    return summary["routes"]


@pytest.mark.parametrize(("name", "middle"), [("q", 1), ("pair", 1)])
def test_quantiles_have_the_pinball_loss_of_scikit_learn_and_a_coverage(found, name, middle):
    y, p = rows()[name]
    losses = [sk.mean_pinball_loss(y, p[:, i], alpha=q) for i, q in enumerate(QUANTILES[name])]
    wanted = {
        "pinball_loss": np.mean(losses),
        "coverage": np.mean((p[:, 0] <= y) & (y <= p[:, -1])),
        "mean_absolute_error": sk.mean_absolute_error(y, p[:, middle]),
    }
    if name == "q":
        wanted["root_mean_squared_error"] = sk.mean_squared_error(y, p[:, middle]) ** 0.5
    assert found[name]["metrics"] == pytest.approx(wanted, rel=1e-5)
    assert found[name]["baseline"]["coverage"] != found[name]["metrics"]["coverage"]


def test_classes_in_order_have_an_accuracy_a_distance_and_a_kappa(found):
    y, p = rows()["o"]
    guess = p.argmax(axis=1)
    wanted = {
        "accuracy": sk.accuracy_score(y, guess),
        "mean_absolute_error": sk.mean_absolute_error(y, guess),
        "mae": sk.mean_absolute_error(y, guess),
        "quadratic_weighted_kappa": sk.cohen_kappa_score(y, guess, weights="quadratic"),
        "sparse_categorical_crossentropy": sk.log_loss(y, p),
        "auc": sk.roc_auc_score(np.eye(3)[y], p, average="micro"),
    }
    assert found["o"]["metrics"] == pytest.approx(wanted, abs=1e-3)
    assert found["o"]["confusion"]["y"]["classes"] == list(NAMES)
    assert found["o"]["confusion"]["y"]["counts"] == sk.confusion_matrix(y, guess).tolist()


def test_items_have_an_accuracy_one_of_the_first_and_a_mean_reciprocal_rank(found):
    items, scores = item_scores()
    places = rankdata(-scores, axis=1)[np.arange(500), items]
    assert found["items"]["metrics"] == pytest.approx(
        {
            "accuracy": sk.top_k_accuracy_score(items, scores, k=1),
            "top_k_accuracy": sk.top_k_accuracy_score(items, scores, k=5),
            "mean_reciprocal_rank": np.where(places <= 5, 1 / places, 0).mean(),
        }
    )
    assert found["items"]["baseline"] == dict.fromkeys(found["items"]["metrics"], 0)


def test_thresholds_bound_the_new_metrics_on_their_bad_side(found):
    held = {
        check["metric"]: check["holds"]
        for name in "qo"
        for check in found[name]["checks"]
        if check["kind"] == "threshold"
    }
    assert held == {
        "pinball_loss": True,
        "coverage": True,
        "quadratic_weighted_kappa": True,
        "mean_absolute_error": False,
    }


@pytest.mark.parametrize(
    ("route", "metric", "told"),
    [
        ("q", "auc", "these are quantiles"),
        ("q", "squared_pearson_correlation", "these are quantiles"),
        ("q", "quadratic_weighted_kappa", 'task="ordinal"'),
        ("o", "pinball_loss", 'task="quantile"'),
        ("o", "mean_squared_error", "class indices"),
    ],
)
def test_a_metric_of_another_kind_of_target_is_refused(route, metric, told):
    with pytest.raises(RecipeError, match=told):
        check_metrics(table(), metrics={route: [metric]})
    check_metrics(table(), metrics=MORE)


def weighted_figure(name, metric, weights):
    """Computes a metric of weighted rows of a route, in two batches, as TFMA does."""
    options = config_pb2.ExampleWeightOptions(weighted=True)
    spec = config_pb2.MetricsSpec(
        metrics=[metric_config(metric, table()[name], "y")], example_weights=options
    )
    config = config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec()], metrics_specs=[spec])
    (computation,) = cast(list[Any], metric_specs.to_computations([spec], config))
    combiner, sums = computation.combiner, []
    labels, predictions = rows()[name]
    for batch in np.array_split(np.arange(len(weights)), 2):
        sums.append(combiner.create_accumulator())
        for row in batch:
            element = metric_types.StandardMetricInputs(
                {
                    tfma.LABELS_KEY: labels[row : row + 1],
                    tfma.PREDICTIONS_KEY: predictions[row],
                    tfma.EXAMPLE_WEIGHTS_KEY: weights[row : row + 1],
                }
            )
            sums[-1] = combiner.add_input(sums[-1], element)
    (found,) = combiner.extract_output(combiner.merge_accumulators(sums)).values()
    return found


def test_examples_count_by_their_weights():
    weights = np.random.default_rng(1).choice([0.0, 0.5, 7.0], 500)
    (y, p), (classes, guess) = rows()["q"], rows()["o"]
    losses = [
        sk.mean_pinball_loss(y, p[:, i], alpha=q, sample_weight=weights)
        for i, q in enumerate(QUANTILES["q"])
    ]
    kappa = sk.cohen_kappa_score(
        classes, guess.argmax(axis=1), weights="quadratic", sample_weight=weights
    )
    assert weighted_figure("q", "pinball_loss", weights) == pytest.approx(np.mean(losses))
    assert weighted_figure("o", "quadratic_weighted_kappa", weights) == pytest.approx(kappa)


@pytest.mark.parametrize(("metric", "suits"), [("ExampleCount", True), ("MeanSquaredError", False)])
def test_a_metric_of_one_number_does_not_suit_quantiles(metric, suits):
    spec = config_pb2.MetricsSpec(metrics=[config_pb2.MetricConfig(class_name=metric)])
    assert can_compute(spec, table()["q"].labels["y"]) is suits
    assert can_compute(spec, Target("regression"))
