"""Metrics of routes with a weight, against scikit-learn's with `sample_weight`."""

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from sklearn import metrics as sk
from tfx.types import artifact_utils, standard_artifacts

from branchline.components.branch_evaluator.metric_configs import check_metrics
from branchline.schemas import (
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    when,
)

SIZE = 400
PLAIN = build.routing()
WEIGHTED = RoutingTable(
    *(
        Route(
            r.name,
            r.condition,
            features=r.features,
            label="y",
            task=r.task,
            num_classes=r.num_classes,
            weight=None if r.name == "r" else "w",
        )
        for r in PLAIN.routes
    ),
    Route(
        "t",
        when.equals("kind", "t"),
        features={"x": Numeric()},
        targets={
            "bits": Target("binary", shape=(2,)),
            "size": Target("regression", optional=True),
        },
        weight="w",
    ),
)
METRICS = {
    "b": ["precision", "binary_crossentropy", "mean_squared_error", "auc_precision_recall"],
    "m": ["sparse_categorical_crossentropy"],
    "t": ["size/mean_absolute_percentage_error"],
}


def labelled():
    """Route → key → labels, predictions; a third of route `t` lacks its size."""
    rng = np.random.default_rng(8)
    found = {name: {"y": rows} for name, rows in build.rows(3, SIZE).items()}
    bits = rng.integers(0, 2, (SIZE, 2))
    guess = (1 / (1 + np.exp(-rng.normal(2 * bits - 1, 1.5)))).astype(np.float32)
    size = rng.normal(5, 1, SIZE).astype(np.float32)
    found["t"] = {"bits": (bits, guess), "size": (size, size + rng.normal(0, 1, SIZE))}
    return found


def weights():
    """Route → weights: zeros, ones and large ones."""
    rng = np.random.default_rng(9)
    return {name: rng.choice([0.0, 0.5, 1.0, 7.0], SIZE) for name in WEIGHTED.names}


def write_examples(root, change=lambda fields, row: None):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = artifact_utils.encode_split_names(["eval"])
    lines = []
    for name, by_key in labelled().items():
        for row in range(SIZE):
            columns = WEIGHTED.columns(name)
            fields = {"_route": name, "w": weights()[name][row]}
            for key, (label, guess) in by_key.items():
                fields[f"guess {name}/{key}"] = guess[row].ravel()
                if key != "size" or row % 3:
                    fields[columns[key]] = label[row]
            change(fields, row)
            lines.append(build.example(**fields))
    build.write_rows(root, "mixed.gz", lines)
    return artifact


def save_model(root):
    """A model that returns what the rows hold as its predictions."""
    outputs = {
        route.output(key): (
            f"guess {route.name}/{key}",
            of.prediction_shape,
            route.name,
            tf.identity,
        )
        for route in WEIGHTED.routes
        for key, of in route.labels.items()
    }
    return build.save_model(root, outputs)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def found(tmp_path_factory, model):
    root = tmp_path_factory.mktemp("weighted")
    examples = write_examples(root / "examples")
    before = save_model(root / "before")
    further = tfma.EvalConfig(
        metrics_specs=[tfma.MetricsSpec(metrics=[tfma.MetricConfig(class_name="ExampleCount")])]
    )
    return build.run(
        root,
        examples,
        model,
        {"b": {"auc": 0.5}},
        METRICS,
        [before],
        WEIGHTED,
        eval_config=json_format.MessageToJson(further),
    )


def test_metrics_are_those_of_scikit_learn_with_sample_weight(found):
    rows, of = labelled(), weights()
    (y, p), w = rows["b"]["y"], of["b"]
    expected = {
        "b/auc": sk.roc_auc_score(y, p, sample_weight=w),
        "b/accuracy": sk.accuracy_score(y, p > 0.5, sample_weight=w),
        "b/precision": sk.precision_score(y, p > 0.5, sample_weight=w),
        "b/binary_crossentropy": sk.log_loss(y, p, sample_weight=w),
        "b/mean_squared_error": sk.brier_score_loss(y, p, sample_weight=w),
    }
    (y, p), w = rows["m"]["y"], of["m"]
    expected["m/accuracy"] = sk.accuracy_score(y, p.argmax(1), sample_weight=w)
    expected["m/sparse_categorical_crossentropy"] = sk.log_loss(y, p, sample_weight=w)
    y, p = rows["r"]["y"]  # without a weight
    expected["r/mean_absolute_error"] = sk.mean_absolute_error(y, p)
    (y, p), w = rows["t"]["bits"], of["t"]
    both = np.repeat(w, 2)
    expected["t/bits/auc"] = sk.roc_auc_score(y.ravel(), p.ravel(), sample_weight=both)
    expected["t/bits/accuracy"] = sk.accuracy_score(y.ravel(), p.ravel() > 0.5, sample_weight=both)
    expected["t/bits/exact_match"] = sk.accuracy_score(y, p > 0.5, sample_weight=w)
    there = np.arange(SIZE) % 3 > 0
    y, p, w = (each[there] for each in (*rows["t"]["size"], w))
    expected["t/size/mean_absolute_error"] = sk.mean_absolute_error(y, p, sample_weight=w)
    expected["t/size/root_mean_squared_error"] = np.sqrt(
        sk.mean_squared_error(y, p, sample_weight=w)
    )
    expected["t/size/mean_absolute_percentage_error"] = 100 * sk.mean_absolute_percentage_error(
        y, p, sample_weight=w
    )
    routes = found[0]["routes"]
    got = {name: routes[name[0]]["metrics"][name[2:]] for name in expected}
    assert got == pytest.approx(expected, rel=2e-4)
    assert routes["b"]["baseline"] == pytest.approx(routes["b"]["metrics"])


def test_examples_are_counted_not_weighed_and_the_weight_is_named(found):
    summary, _, folder = found
    assert {name: of["examples"] for name, of in summary["routes"].items()} == dict.fromkeys(
        "bmrt", SIZE
    )
    assert summary["blessed"]
    assert {n: of.get("weight") for n, of in summary["routes"].items()} == {
        "b": "w",
        "m": "w",
        "r": None,
        "t": "w",
    }
    result = tfma.load_eval_result(str(folder), model_name="model")
    counts = {
        dict(key)["_route"]: of[""][""] for key, of in result.slicing_metrics if len(key) == 1
    }
    assert counts["b"]["example_count"]["doubleValue"] == SIZE
    weighted = counts["b"]["weighted_example_count"]["doubleValue"]
    assert weighted == pytest.approx(weights()["b"].sum())
    assert "weighted_example_count" not in counts["r"]


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda fields, row: fields.pop("w"), "a row has 0 values in 'w', expected one weight"),
        (lambda fields, row: fields.update(w=-1.0), "a row has -1.0 in 'w', expected one weight"),
    ],
    ids=["missing", "negative"],
)
def test_examples_of_another_router_without_a_usable_weight_are_refused(
    tmp_path, model, change, told
):
    examples = write_examples(tmp_path / "examples", change)
    with pytest.raises(BranchlineError, match=told):
        build.run(tmp_path, examples, model, table=WEIGHTED)


@pytest.mark.parametrize(
    "route, metric, told",
    [
        ("b", "example_count", "it says nothing of weights"),
        # A Keras loss that Keras has no metric for: TFMA does not hand it weights.
        ("b", "Huber", "does not weigh examples"),
        ("t", "size/Huber", "does not weigh examples"),
    ],
)
def test_a_metric_that_weighs_nothing_is_refused_for_a_route_with_a_weight(route, metric, told):
    check_metrics(WEIGHTED, metrics=METRICS)
    if route in PLAIN.names:
        check_metrics(PLAIN, metrics={route: [metric]})
    with pytest.raises(RecipeError, match=told):
        check_metrics(WEIGHTED, metrics={route: [metric]})
