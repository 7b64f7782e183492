import logging
from logging.handlers import BufferingHandler

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn import metrics as sk
from tfx.types import channel_utils, standard_artifacts
from tfx.utils import path_utils

from branchline.components.branch_evaluator.component import BranchEvaluator
from branchline.components.branch_evaluator.judge import judge
from branchline.components.branch_evaluator.labels import by_kind, list_labels
from branchline.components.branch_evaluator.metric_configs import check_metrics
from branchline.components.branch_evaluator.model_outputs import find_outputs
from branchline.schemas import (
    Bound,
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    to_json,
    when,
)
from branchline.schemas.metrics import DEFAULT_METRICS

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


def test_tfmas_own_result_is_opened_at_the_artifacts_uri(whole_run):
    summary, _, folder, _ = whole_run
    result = tfma.load_eval_result(str(folder))
    assert sorted(result.get_slice_names()) == [(("_route", name),) for name in "bmr"]
    for name in "bmr":
        found = result.get_metrics_for_slice((("_route", name),))
        assert found["example_count"] == {"doubleValue": 1500}
        metrics = summary["routes"][name]["metrics"]
        for metric in DEFAULT_METRICS[build.routing()[name].task]:
            assert found[metric]["doubleValue"] == metrics[metric]
    assert result.get_metrics_for_slice((("_route", "b"),))["auc_diff"]["doubleValue"] > 0
    aucs = {
        each.model_location: each.get_metrics_for_slice((("_route", "b"),))["auc"]["doubleValue"]
        for each in tfma.load_eval_results(str(folder)).get_results()
    }
    other = aucs.pop(path_utils.serving_model_dir(summary["baseline"]))
    assert list(aucs.values()) == [pytest.approx(1 - other)]


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


@pytest.fixture(scope="module")
def without_r(tmp_path_factory):
    """Examples of `b` and `m` only."""
    rows = build.rows(size=200)
    return build.routed_examples(tmp_path_factory.mktemp("without-r"), {n: rows[n] for n in "bm"})


def test_a_route_without_eval_rows_fails_by_name(tmp_path, model, without_r):
    build.write_rows(tmp_path, "r-00000-of-00001.gz", [])
    empty = build.routed_examples(tmp_path, {})
    with pytest.raises(BranchlineError, match="route 'r' .*split 'eval' has no examples of it"):
        run(tmp_path, [without_r, empty], model)


def test_an_artifact_without_the_split_has_no_rows(tmp_path, model, examples):
    examples = build.routed_examples(tmp_path, build.rows(size=2), splits=["train"])
    with pytest.raises(BranchlineError, match="route 'b' .*split 'eval' has no examples of it"):
        run(tmp_path, examples, model)


def test_a_route_to_skip_goes_without_rows_and_is_not_judged(tmp_path, model, without_r):
    thresholds = {"b": {"auc": 0.7}, "r": {"mean_absolute_error": 0}}
    skip = to_json(("r",))
    summary, *_ = run(tmp_path, without_r, model, thresholds, skip=skip, baseline=[model])
    assert summary["blessed"] is True
    assert summary["routes"]["r"] == {
        "examples": 0,
        "metrics": {},
        "baseline": None,
        "checks": [],
        "note": "not evaluated: no examples in split 'eval'",
    }
    assert summary["routes"]["b"]["metrics"]["auc"] > 0.7


def test_a_route_that_the_model_is_not_trained_for_is_not_judged(tmp_path):
    table = build.routing()
    model = build.model(tmp_path / "model", table)
    nan_for_r = build.model(tmp_path / "r", table, transform=lambda x: x * float("nan"))
    rows = build.rows(size=60)
    examples = build.routed_examples(tmp_path / "examples", {"r": rows["r"]})
    skip = to_json(("b", "m"))
    nan_for_r.set_string_custom_property("untrained", '["r"]')
    found, *_ = run(tmp_path / "1", examples, nan_for_r, {"r": {"mse": 9}}, skip=skip)
    assert found["routes"]["r"]["note"] == "not evaluated: the model is not trained for it"
    assert (found["routes"]["r"]["examples"], found["routes"]["r"]["checks"]) == (0, [])
    model.set_string_custom_property("untrained", '["b"]')
    found, *_ = run(tmp_path / "2", examples, model, {"r": {"mse": 9}}, skip=skip)
    assert found["blessed"] is True and found["routes"]["r"]["examples"] == 60


def test_a_model_that_was_evaluated_on_nothing_is_not_blessed(tmp_path, model):
    examples = build.routed_examples(tmp_path, {})
    summary, blessing, _ = run(tmp_path, examples, model, skip=to_json(("b", "m", "r")))
    assert summary["blessed"] is False
    assert blessing.get_int_custom_property("blessed") == 0


def test_several_artifacts_and_another_split_are_read(tmp_path, model, only_r):
    table, _, r_model = only_r
    parts = []
    for number, size in enumerate((2, 3)):
        root = tmp_path / str(number)
        row = [build.example(_route="r", x=0.5, y=1.0)]
        build.write_rows(root, "any.gz", row * size, split="late")
        parts.append(build.routed_examples(root, {}, splits=["late"]))
    summary, *_ = run(tmp_path, parts, r_model, table=table, split="late")
    assert summary["routes"]["r"]["examples"] == 5
    assert summary["routes"]["r"]["metrics"]["mean_absolute_error"] == 0.5


def test_rows_that_the_model_sends_down_another_route_are_not_blessed(tmp_path):
    """They have no finite prediction of their own route; no metric shows that."""
    table = RoutingTable(build.routing()["b"])
    model = build.model(tmp_path / "model", table)
    rows = {"b": (np.array([0, 1] * 5), np.array([0.2, 0.8] * 5, np.float32))}
    examples = build.routed_examples(tmp_path / "examples", rows, table)
    stray = [build.example(_route="b", x=np.nan, y=1)]  # what the stand-in has for such a row
    build.write_rows(tmp_path / "examples", "b-00009-of-00010.gz", stray)
    metrics = {"b": ["auc_precision_recall", "precision"]}
    summary, *_ = run(tmp_path, examples, model, {"b": {"auc": 0.5}}, metrics, table=table)
    assert min(summary["routes"]["b"]["metrics"].values()) > 0.5
    assert "some predictions are not finite numbers" in summary["routes"]["b"]["note"]
    assert summary["blessed"] is False


def test_routes_share_an_evaluation_for_each_task_however_many_they_are():
    kinds = ({"task": "binary"}, {"task": "multiclass", "num_classes": 3}, {"task": "regression"})
    names = [f"r{number}" for number in range(60)]
    table = RoutingTable(
        *(
            Route(
                name, when.equals("k", name), features={"x": Numeric()}, label=name, **kinds[i % 3]
            )
            for i, name in enumerate(names)
        )
    )
    found = find_outputs(table, {"serving_default": {"route", *names}})
    metrics = {name: {name: ("accuracy",) * (i % 2)} for i, name in enumerate(names)}
    groups = by_kind(list_labels(table, metrics, {"model": found}))
    assert [len(labels) for labels in groups.values()] == [20, 20, 20]


def test_a_model_without_a_routes_output_fails_by_name(tmp_path, examples):
    partial = build.model(tmp_path / "partial", routes=["b", "r"])
    with pytest.raises(
        BranchlineError, match="cannot predict route 'm': expected 'm' .*has b, r, route"
    ):
        run(tmp_path, examples, partial)


def test_a_signature_per_route_will_do(tmp_path, only_r):
    table, examples, _ = only_r

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def predict(examples):
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})
        return {"output_0": parsed["x"]}

    foreign = standard_artifacts.Model()
    foreign.uri = str(tmp_path / "foreign")
    serving_dir = path_utils.serving_model_dir(foreign.uri)
    tf.saved_model.save(tf.Module(), serving_dir, signatures={"r": predict})
    summary, *_ = run(tmp_path, examples, foreign, table=table)
    labels, scores = build.rows(size=300)["r"]
    found = summary["routes"]["r"]["metrics"]["mean_absolute_error"]
    assert found == pytest.approx(np.abs(labels - scores).mean(), rel=1e-5)


def test_a_model_that_predicts_another_shape_fails_by_route(tmp_path, only_r):
    table, examples, _ = only_r
    wide = build.save_model(
        tmp_path / "wide", {"r": ("x", (1,), "r", lambda x: tf.concat([x, x], 1))}
    )
    with pytest.raises(BranchlineError, match=r"route 'r' .*output 'r' has the shape \[2\] a row"):
        run(tmp_path, examples, wide, table=table)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"_route": "r", "x": 0.5}, "'eval'.* route 'r' .*has 0 values in 'y', expected one float"),
        ({"_route": "r", "x": 0.5, "y": [1.0, 2.0]}, "route 'r' .*has 2 values in 'y'"),
        ({"_route": "r", "x": 0.5, "y": "1"}, "'eval'.* route 'r' needs one float in 'y'"),
        ({"_route": "q", "x": 0.5, "y": 1.0}, "has 'q' in '_route'; the routes are r"),
        ({"x": 0.5, "y": 1.0}, "has 0 values of '_route'"),
    ],
    ids=["missing", "two", "text", "unknown route", "no route"],
)
def test_an_unusable_row_fails_by_what_it_lacks(tmp_path, only_r, bad, says):
    table, _, model = only_r
    examples = build.routed_examples(tmp_path, {"r": build.rows(size=3)["r"]}, table)
    build.write_rows(tmp_path, "r-00009-of-00010.gz", [build.example(**bad)])
    with pytest.raises(BranchlineError, match=says):
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
