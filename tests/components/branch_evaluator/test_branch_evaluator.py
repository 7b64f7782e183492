import logging
from logging.handlers import BufferingHandler

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn import metrics as sk
from tfx.types import channel_utils

from branchline.components.branch_evaluator.component import BranchEvaluator
from branchline.components.branch_evaluator.judge import judge
from branchline.components.branch_evaluator.metric_configs import check_metrics
from branchline.schemas import Bound, BranchlineError, RecipeError, RoutingTable

run = build.run
EXTRA = {
    "b": ("precision", "BinaryCrossentropy", "calibration", "auc_precision_recall", "f1_score"),
    "m": ("auc", "sparse_categorical_crossentropy", "TopKCategoricalAccuracy"),
    "r": ("mean_squared_error", "mse", "squared_pearson_correlation"),
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return build.routed_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build.model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, examples, model):
    """One run with all metrics and with a baseline that lacks a route and is better on another."""
    root = tmp_path_factory.mktemp("run")
    base = build.model(
        tmp_path_factory.mktemp("base"),
        routes=["b", "m"],
        transform=lambda x: x if x.shape.rank == 2 else 1 - x,
    )
    handler = BufferingHandler(capacity=100)
    progress = logging.getLogger("branchline.progress")
    progress.addHandler(handler)
    progress.setLevel(logging.INFO)
    thresholds = {
        "b": {"auc": 0.7},
        "m": {"accuracy": 0.5},
        "r": {"mean_absolute_error": 2.0, "mae": Bound(least=0.1, greatest=3), "mse": 2.0},
    }
    summary, blessing, folder = run(root, examples, model, thresholds, EXTRA, [base])
    progress.removeHandler(handler)
    return summary, blessing, folder, handler.buffer


def expected():
    (yb, pb), (ym, pm), (yr, pr) = (build.rows()[name] for name in "bmr")
    onehot = np.eye(3)[ym]
    return {
        "b": {
            "auc": sk.roc_auc_score(yb, pb),
            "accuracy": sk.accuracy_score(yb, pb > 0.5),
            "precision": sk.precision_score(yb, pb > 0.5),
            "BinaryCrossentropy": sk.log_loss(yb, pb),
            "calibration": pb.sum() / yb.sum(),
            "auc_precision_recall": sk.average_precision_score(yb, pb),
            "f1_score": sk.f1_score(yb, pb > 0.5),
        },
        "m": {
            "accuracy": sk.accuracy_score(ym, pm.argmax(1)),
            "auc": sk.roc_auc_score(onehot, pm, average="micro"),
            "sparse_categorical_crossentropy": sk.log_loss(ym, pm),
            "TopKCategoricalAccuracy": 1.0,
        },
        "r": {
            "mean_absolute_error": sk.mean_absolute_error(yr, pr),
            "root_mean_squared_error": sk.mean_squared_error(yr, pr) ** 0.5,
            "mean_squared_error": sk.mean_squared_error(yr, pr),
            "mse": sk.mean_squared_error(yr, pr),
            "squared_pearson_correlation": np.corrcoef(yr, pr)[0, 1] ** 2,
            "mae": sk.mean_absolute_error(yr, pr),
        },
    }


@pytest.mark.parametrize("route", ["b", "m", "r"])
def test_figures_agree_with_scikit_learn(whole_run, route):
    found = whole_run[0]["routes"][route]
    assert found["examples"] == 1500
    assert found["metrics"] == pytest.approx(expected()[route], abs=1e-3)


def test_each_routes_metrics_come_in_the_order_asked(whole_run):
    names = list(whole_run[0]["routes"]["b"]["metrics"])
    assert names == ["auc", "accuracy", *EXTRA["b"]]


def test_overall_counts_all_examples(whole_run):
    assert whole_run[0]["overall"] == {"examples": 4500}


def test_tfmas_own_result_can_be_loaded(whole_run):
    result = tfma.load_eval_result(str(whole_run[2] / "b"), model_name="model")
    by_name = result.slicing_metrics[0][1][""][""]
    assert by_name["auc"]["doubleValue"] == whole_run[0]["routes"]["b"]["metrics"]["auc"]


def test_the_baseline_is_compared_route_by_route(whole_run):
    routes = whole_run[0]["routes"]
    assert routes["b"]["baseline"]["auc"] == pytest.approx(1 - routes["b"]["metrics"]["auc"])
    assert routes["m"]["baseline"]["accuracy"] == routes["m"]["metrics"]["accuracy"]
    assert routes["r"]["baseline"] is None and "lacks this route" in routes["r"]["note"]
    kinds = {name: [c["kind"] for c in route["checks"]] for name, route in routes.items()}
    assert kinds == {
        "b": ["threshold", "regression"],
        "m": ["threshold", "regression"],
        "r": ["threshold", "threshold", "threshold"],
    }


def test_a_blessing_is_what_tfx_expects(whole_run, model):
    summary, blessing, folder, _ = whole_run
    assert summary["blessed"] is True
    assert (folder.parent / "blessing" / "BLESSED").exists()
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("current_model") == model.uri
    assert blessing.get_string_custom_property("baseline_model") == summary["baseline"]
    assert blessing.has_custom_property("current_model_id")


def test_progress_names_each_route_once(whole_run):
    progress = [record.progress for record in whole_run[3]]
    assert [p["route"] for p in progress] == ["b", "m", "r"]
    assert progress[0]["examples"] == 1500 and progress[0]["metrics"]["auc"] > 0.7


@pytest.fixture(scope="module")
def only_r(tmp_path_factory):
    """One route, few rows: table, examples and model."""
    table = RoutingTable(build.routing()["r"])
    root = tmp_path_factory.mktemp("only-r")
    examples = build.routed_examples(root / "examples", {"r": build.rows(size=300)["r"]}, table)
    return table, examples, build.model(root / "model", table)


def test_a_model_worse_than_the_baseline_is_not_blessed(tmp_path, only_r):
    table, examples, good = only_r
    worse = build.model(tmp_path / "worse", table, transform=lambda x: x + 1.5)
    bounds = {"r": {"mean_absolute_error": 10}}
    summary, blessing, _ = run(tmp_path, examples, worse, bounds, baseline=[good], table=table)
    threshold, regression = summary["routes"]["r"]["checks"]
    assert threshold["holds"] and not regression["holds"] and regression["greatest"] < 1
    assert summary["blessed"] is False
    assert blessing.get_int_custom_property("blessed") == 0
    assert (tmp_path / "blessing" / "NOT_BLESSED").exists()
    assert not (tmp_path / "blessing" / "BLESSED").exists()


def test_a_model_that_is_the_baseline_is_evaluated_once(tmp_path, only_r):
    table, examples, good = only_r
    summary, *_ = run(tmp_path, examples, good, baseline=[good], table=table)
    assert summary["baseline"] is None and summary["blessed"] is True


def test_nan_predictions_are_not_blessed_even_without_thresholds(tmp_path, only_r):
    table, examples, _ = only_r
    broken = build.model(tmp_path / "broken", table, transform=lambda x: x / (x - x[0]))
    summary, *_ = run(tmp_path, examples, broken, table=table)
    assert summary["blessed"] is False
    assert summary["routes"]["r"]["metrics"]["mean_absolute_error"] is None
    assert "not finite" in summary["routes"]["r"]["note"]


@pytest.mark.parametrize("splits", [None, ["eval-b", "eval-m"]], ids=["empty", "missing"])
def test_a_route_without_eval_rows_fails_by_name(tmp_path, model, splits):
    rows = build.rows(size=2)
    rows["r"] = (np.zeros(0), np.zeros(0))
    examples = build.routed_examples(tmp_path / "examples", rows, splits=splits)
    with pytest.raises(BranchlineError, match="route 'r' .*split 'eval-r' has no examples"):
        run(tmp_path, examples, model)


def test_a_model_without_a_routes_signature_fails_by_name(tmp_path, examples):
    partial = build.model(tmp_path / "partial", routes=["b", "r"])
    with pytest.raises(BranchlineError, match="no signature for route m"):
        run(tmp_path, examples, partial)


@pytest.mark.parametrize("bad", [{"x": 0.5}, {"x": 0.5, "y": "1"}], ids=["missing", "text"])
def test_a_row_without_a_usable_label_fails_by_route(tmp_path, only_r, bad):
    table, _, model = only_r
    examples = build.routed_examples(tmp_path, {"r": build.rows(size=3)["r"]}, table)
    with tf.io.TFRecordWriter(str(tmp_path / "Split-eval-r" / "part-9.gz"), "GZIP") as writer:
        writer.write(build.example(**bad))
    with pytest.raises(BranchlineError, match="route 'r' .* 'eval-r' needs one float in 'y'"):
        run(tmp_path, examples, model, table=table)


def test_an_auc_of_one_class_is_noted(tmp_path):
    table = RoutingTable(build.routing()["b"])
    rows = {"b": (np.zeros(4, int), np.linspace(0.1, 0.4, 4))}
    examples = build.routed_examples(tmp_path / "examples", rows, table)
    model = build.model(tmp_path / "model", table)
    summary, *_ = run(tmp_path, examples, model, {"b": {"auc": 0.5}}, table=table)
    assert "every label is 0" in summary["routes"]["b"]["note"]
    assert summary["blessed"] is False


@pytest.mark.parametrize(
    ("route", "metric", "says"),
    [
        ("b", "acuracy", "route 'b'.*close to it: Accuracy"),
        ("b", "no_such_thing", "metric 'no_such_thing' of route 'b'"),
        ("r", "auc", "regression route 'r'"),
        ("r", "binary_accuracy", "needs a binary or multiclass route"),
        ("m", "root_mean_squared_error", "one-hot"),
        ("b", "categorical_accuracy", "needs a multiclass route"),
        ("b", "recall_at_precision", "route 'b'"),
        ("b", "calibration_plot", "not one number"),
        ("r", "r2_score", "regression route 'r'"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_before_the_run(route, metric, says):
    with pytest.raises(RecipeError, match=says):
        check_metrics(build.routing(), {route: {metric: Bound(least=0.5)}})
    with pytest.raises(RecipeError, match=says):
        check_metrics(build.routing(), metrics={route: [metric]})


def test_metrics_of_a_route_that_does_not_exist_are_refused():
    with pytest.raises(RecipeError, match="'x'.*routes b, m, r"):
        check_metrics(build.routing(), metrics={"x": ["auc"]})


def test_metrics_that_can_be_are_let_through():
    check_metrics(build.routing(), {"b": {"auc": 0.5}}, EXTRA)


@pytest.mark.parametrize(
    ("metric", "bounds", "value", "baseline", "holds"),
    [
        ("auc", Bound(least=0.5), 0.86, 0.90, [True, True]),
        ("auc", Bound(least=0.5), 0.85, 0.90, [True, False]),
        ("mean_absolute_error", Bound(greatest=9), 2.09, 2.0, [True, True]),
        ("mean_absolute_error", Bound(greatest=9), 2.11, 2.0, [True, False]),
        ("R2Score", Bound(least=-2), -1.06, -1.0, [True, False]),
        ("calibration", Bound(least=0.9, greatest=1.1), 1.0, 2.0, [True]),
        ("auc", Bound(least=0.5), float("nan"), 0.9, [False, False]),
        ("auc", Bound(least=0.5), None, 0.9, [False, False]),
        ("auc", Bound(least=0.5), 0.9, float("nan"), [True]),
        ("mean_absolute_error", Bound(greatest=9), float("inf"), None, [False]),
    ],
)
def test_bounds_and_regressions(metric, bounds, value, baseline, holds):
    figures = {} if value is None else {metric: value}
    checks = judge(figures, {metric: bounds}, None if baseline is None else {metric: baseline})
    assert [check.holds for check in checks] == holds


def test_the_component_is_cached_by_its_meaning(examples, model):
    def make(**kwargs):
        channels = {
            "examples": channel_utils.as_channel([examples]),
            "model": channel_utils.as_channel([model]),
        }
        return BranchEvaluator(**channels, routing=build.routing(), **kwargs)

    first = make(thresholds={"b": {"auc": 0.5}}, metrics={"b": ["recall"]})
    same = make(thresholds={"b": {"auc": Bound(least=0.5)}}, metrics={"b": ("recall",)})
    other = make(thresholds={"b": {"auc": 0.6}})
    assert first.exec_properties == same.exec_properties
    assert first.exec_properties["thresholds"] != other.exec_properties["thresholds"]
    assert first.exec_properties["code_version"]
