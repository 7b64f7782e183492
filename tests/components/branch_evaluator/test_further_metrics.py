"""An EvalConfig beside the thresholds: further metrics, plots and slices within the routes."""

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from sklearn import metrics as sk
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.utils import proto_utils

from branchline.components.branch_evaluator.component import BranchEvaluator
from branchline.schemas import Categorical, Numeric, RecipeError, Route, RoutingTable, when

TABLE = RoutingTable(
    Route(
        "b",
        when.present("b"),
        features={"x": Numeric(), "city": Categorical()},
        label="y",
        task="binary",
    ),
    Route("c", when.present("c"), features={"x": Numeric()}, label="y", task="binary"),
    Route("r", when.present("r"), features={"x": Numeric()}, label="z", task="regression"),
)
METRICS = {"c": ["precision"]}
CONFIG = tfma.EvalConfig(
    model_specs=[tfma.ModelSpec(label_key="y")],
    slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["city"])],
    metrics_specs=[
        tfma.MetricsSpec(
            metrics=[
                tfma.MetricConfig(class_name="Prevalence"),
                tfma.MetricConfig(class_name="CalibrationPlot"),
            ]
        )
    ],
)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Examples whose cities are "A", "B" and none, and a model."""
    root = tmp_path_factory.mktemp("further")
    rows = []
    for i, (y, x) in enumerate(zip(*build.rows(size=300)["b"], strict=True)):
        city = {} if i % 3 == 2 else {"city": "AB"[i % 3]}
        rows.append(build.example(_route="b", y=y, x=x, **city))
        rows.append(build.example(_route="c", y=y, x=x))
        rows.append(build.example(_route="r", z=float(x), x=x))
    build.write_rows(root / "examples", "rows.gz", rows)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root / "examples")
    artifact.split_names = artifact_utils.encode_split_names(["eval"])
    return artifact, build.model(root / "model", TABLE)


@pytest.fixture(scope="module")
def summary_and_result(tmp_path_factory, places):
    root = tmp_path_factory.mktemp("run")
    config = proto_utils.proto_to_json(CONFIG)
    summary, _, folder = build.run(root, *places, None, METRICS, table=TABLE, eval_config=config)
    return summary, tfma.load_eval_result(str(folder))


def test_further_slices_are_within_their_route(summary_and_result):
    _, result = summary_and_result
    route, cities = ("_route", "b"), [("city", "A"), ("city", "B")]
    assert set(result.get_slice_names()) == {
        (route,),
        (("_route", "c"),),
        (("_route", "r"),),
        *((route, city) for city in cities),
    }
    labels, scores = build.rows(size=300)["b"]
    found = result.get_metrics_for_slice((route, cities[1]))["auc"]["doubleValue"]
    assert found == pytest.approx(sk.roc_auc_score(labels[1::3], scores[1::3]), abs=1e-4)


def test_further_metrics_are_of_the_labels_that_they_suit(summary_and_result):
    _, result = summary_and_result
    labels, _ = build.rows(size=300)["b"]
    found = result.get_metrics_for_slice((("_route", "b"),))
    assert found["prevalence"]["doubleValue"] == pytest.approx(np.mean(labels))
    assert "prevalence" not in result.get_metrics_for_slice((("_route", "r"),))
    plots = {key: plot for key, plot in result.plots if plot}
    assert "calibrationHistogramBuckets" in str(plots[(("_route", "b"),)])


def test_a_metric_is_seen_only_where_it_was_asked_for(summary_and_result):
    _, result = summary_and_result
    found = {name: result.get_metrics_for_slice((("_route", name),)) for name in "bcr"}
    assert [name for name in found if "precision" in found[name]] == ["c"]
    assert found["b"]["auc"] == found["c"]["auc"]


def test_the_summary_is_the_same_as_without(tmp_path, places, summary_and_result):
    summary, *_ = build.run(tmp_path, *places, None, METRICS, table=TABLE)
    assert summary == summary_and_result[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"options": {"min_slice_size": {"value": 9}}}, "eval_config.options"),
        ({"slicing_specs": [tfma.SlicingSpec(feature_keys=["town"])]}, "'town'.*a column among"),
        ({"slicing_specs": [tfma.SlicingSpec(slice_keys_sql="SELECT")]}, "slice_keys_sql"),
        ({"metrics_specs": [{"query_key": "y"}]}, "metrics_specs.query_key"),
        (
            {"metrics_specs": [{"metrics": [{"class_name": "AUC", "threshold": {}}]}]},
            "metrics_specs.threshold",
        ),
        (
            {"metrics_specs": [{"metrics": [{"class_name": "NDCG"}]}]},
            "'NDCG', expected a metric that suits a label",
        ),
    ],
    ids=["options", "column", "sql", "query", "threshold", "metric"],
)
def test_what_cannot_be_is_refused_when_the_pipeline_is_made(places, wrong, says):
    examples, model = (channel_utils.as_channel([each]) for each in places)
    with pytest.raises(RecipeError, match=says):
        BranchEvaluator(examples, model, TABLE, eval_config=tfma.EvalConfig(**wrong))


def test_the_config_is_an_execution_property(places):
    examples, model = (channel_utils.as_channel([each]) for each in places)
    found = BranchEvaluator(examples, model, TABLE, eval_config=CONFIG).exec_properties
    assert "CalibrationPlot" in found["eval_config"]
    plain = BranchEvaluator(examples, model, TABLE, split="late", skip=["r"]).exec_properties
    assert plain.get("eval_config") is None and plain["split"] == "late"
    with pytest.raises(RecipeError, match=r"BranchEvaluator.skip: got 'q', .*b, c, r"):
        BranchEvaluator(examples, model, TABLE, skip=["q"])
