import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import apache_beam as beam
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from builders_evaluator import FNAPI
from object_store import BUCKET, object_store
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.run_report.draw_curves import draw_curve
from branchline.components.run_report.gather_report import Sources, gather_report, to_metrics
from branchline.components.run_report.write_report import render_page, write_report
from branchline.schemas import (
    Image,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Text,
    to_json,
    when,
)

EVALUATION: dict[str, Any] = {
    "blessed": False,
    "baseline": None,
    "routes": {
        "text": {
            "examples": 4671,
            "metrics": {"auc": 0.9462, "accuracy": 0.8931},
            "baseline": None,
            "checks": [
                {"metric": "auc", "kind": "threshold", "least": 0.9, "greatest": None}
                | {"value": 0.9462, "holds": True}
            ],
            "note": None,
        },
        "meter": {
            "examples": 89,
            "metrics": {"mean_absolute_error": 2.31, "root_mean_squared_error": 3.02},
            "baseline": None,
            "checks": [
                {"metric": "mean_absolute_error", "kind": "threshold", "least": None}
                | {"greatest": 2.0, "value": 2.31, "holds": False}
            ],
            "note": "89 examples only",
        },
        "scan": {
            "examples": 358,
            "metrics": {"accuracy": None},
            "baseline": None,
            "checks": [
                {"metric": "mean_prediction", "kind": "threshold", "least": None}
                | {"greatest": None, "value": None, "holds": False}
            ],
            "note": None,
        },
    },
    "overall": {"examples": 5118},
}
EXAMPLES = {
    "in": 25680,
    "quarantined": {"malformed JSON": 11, "invalid UTF-8": 2},
    "samples": {
        "malformed JSON": [
            {
                "record": '{"message": "<script>alert(1)</script>',
                "detail": "line ends within a string & <b>more</b>",
                "source": "part-<1>.jsonl",
                "offset": 812,
            }
        ]
    },
    "out": {"train": 20541, "eval": 5126},
}
ROUTER = {
    "in": 25667,
    "quarantined": {"no route": 40, "malformed JSON": 1},
    "samples": {
        "no route": [
            {"record": {"kind": "pump"}, "detail": "", "source": "part-2.jsonl", "offset": 9}
        ]
    },
    "out": {
        "train": {"text": 18700, "meter": 360, "scan": 1448},
        "eval": {"text": 4671, "meter": 89, "scan": 358},
    },
}
ANOMALIES = {
    "splits": {
        "train": {
            "text": {"examples": 18700, "anomalies": {}},
            "meter": {"examples": 360, "anomalies": {}},
        },
        "eval": {
            "text": {"examples": 4671, "anomalies": {"message": "missing in 3 % of <rows>"}},
            "meter": {"examples": 0, "anomalies": {"": "No examples"}},
        },
    }
}


def history():
    losses = {
        name: [
            [n * 20, scale * (0.2 + math.exp(-n / 15)) * (1 + 0.2 * math.sin(n * 7.3))]
            for n in range(1, 100)
        ]
        for name, scale in (("text", 0.7), ("meter", 40.0), ("scan", 2.3))
    }
    return {
        "steps": 2000,
        "seconds": 34.2,
        "device": "CPU",
        "loop": "compiled by XLA",
        "routes": {
            name: {
                "steps": 660,
                "examples": 84480,
                "loss": pairs[-1][1],
                "losses": pairs,
                "stopped": "no improvement for 5 looks" if name == "meter" else None,
                "parameters": 31205,
            }
            for name, pairs in losses.items()
        },
    }


@pytest.fixture
def recipe():
    return Recipe(
        name="support",
        routing=RoutingTable(
            Route(
                "text",
                when.present("message"),
                features={"message": Text(), "age": Numeric()},
                label="urgent",
                task="binary",
            ),
            Route(
                "meter",
                when.equals("kind", "meter"),
                features={"readings": Numeric(shape=(10,))},
                label="fault_in_days",
                task="regression",
            ),
            Route(
                "scan",
                when.present("pixels"),
                features={"pixels": Image(8, 8, 1)},
                label="digit",
                task="multiclass",
                num_classes=10,
            ),
        ),
        thresholds={"text": {"auc": 0.9}, "meter": {"mean_absolute_error": 2.0}},
    )


@pytest.fixture
def artifacts(tmp_path):
    def write(**contents):
        everything = {
            "evaluation": ("evaluation.json", EVALUATION),
            "example_quarantine": ("counts.json", EXAMPLES),
            "router_quarantine": ("counts.json", ROUTER),
            "anomalies": ("anomalies.json", ANOMALIES),
            "model_run": ("history.json", history()),
        }
        folders = {"blessing": tmp_path / "blessing"}
        for name, (file, content) in everything.items():
            folders[name] = tmp_path / name
            folders[name].mkdir()
            (folders[name] / file).write_text(json.dumps(contents.get(name, content)))
        folders["blessing"].mkdir()
        (folders["blessing"] / "NOT_BLESSED").touch()
        return Sources(**{name: str(folder) for name, folder in folders.items()})

    return write


def gathered(sources, recipe):
    return gather_report(sources, json.loads(to_json(recipe)))


def test_metrics_are_exactly_what_programs_rely_on(artifacts, recipe):
    assert to_metrics(gathered(artifacts(), recipe)) == {
        "recipe": "support",
        "blessed": False,
        "routes": {
            "text": {"examples": 4671, "auc": 0.9462, "accuracy": 0.8931},
            "meter": {
                "examples": 89,
                "mean_absolute_error": 2.31,
                "root_mean_squared_error": 3.02,
            },
            "scan": {"examples": 358, "accuracy": None},
        },
        "records": {
            "in": 25680,
            "train": 20508,
            "eval": 5118,
            "quarantined": {"invalid UTF-8": 2, "malformed JSON": 12, "no route": 40},
        },
    }


def test_blessed_is_what_the_pusher_sees(artifacts, recipe):
    sources = artifacts()
    Path(sources.blessing, "NOT_BLESSED").rename(Path(sources.blessing, "BLESSED"))
    assert gathered(sources, recipe)["blessed"] is True


def test_three_files_are_written_and_nothing_unfinished_stays(artifacts, recipe, tmp_path):
    report = gathered(artifacts(), recipe)
    folder = tmp_path / "report"
    folder.mkdir()
    write_report(report, str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json",
        "report.html",
        "report.json",
    ]
    assert json.loads((folder / "metrics.json").read_text()) == to_metrics(report)


def test_a_loss_that_is_not_finite_is_null_in_json(artifacts, recipe, tmp_path):
    diverged = history()
    diverged["routes"]["text"]["loss"] = math.nan
    diverged["routes"]["text"]["losses"] = [[1, 3.0], [2, math.inf], [3, math.nan]]
    write_report(gathered(artifacts(model_run=diverged), recipe), str(tmp_path))
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["history"]["routes"]["text"]["losses"] == [[1, 3.0], [2, None], [3, None]]
    assert "Too few losses for a curve" in (tmp_path / "report.html").read_text()


def test_warnings_of_the_training_stand_above_all_else(artifacts, recipe):
    warned = history() | {"warnings": ["route text: 97% of <them> are unknown"]}
    page = render_page(gathered(artifacts(model_run=warned), recipe), {})
    assert "97% of &lt;them&gt; are unknown" in page.partition("<section>")[0]


def test_a_table_of_classes_is_shown_by_name(artifacts, recipe, tmp_path):
    counts = {"kind": {"classes": ["ham", "sp<m"], "counts": [[300, 41], [7, 10]]}}
    scan = EVALUATION["routes"]["scan"] | {"confusion": counts}
    routes = EVALUATION["routes"] | {"scan": scan}
    report = gathered(artifacts(evaluation=EVALUATION | {"routes": routes}), recipe)
    write_report(report, str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "<h3>scan: kind</h3>" in page and "<h3>text" not in page
    rows = page.partition("<h3>scan: kind</h3>")[2].partition("</table>")[0]
    assert [text in rows for text in ("ham", "sp&lt;m", "300", "41", "7", "10")] == [True] * 6
    assert "confusion" not in json.dumps(to_metrics(report))


def test_balanced_counts_are_no_problem(artifacts, recipe):
    assert gathered(artifacts(), recipe)["problems"] == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"example_quarantine": {"in": 25690}}, "10 of 25690 records are unaccounted for"),
        ({"router_quarantine": {"in": 25660}}, "-7 of 25660 records are unaccounted for"),
        ({"router_quarantine": {"in": 25660}}, "put out 25667 examples, but routing took in 25660"),
        ({"evaluation": {"routes": {}}}, "route text has 4671 eval examples, but 0 were evaluated"),
        (
            {
                "router_quarantine": {"out": ROUTER["out"] | {"test": {"text": 10}}},
                "evaluation": {"test": {"text": {"examples": 9, "metrics": {}, "note": None}}},
            },
            "route text has 10 test examples, but 9 were evaluated",
        ),
    ],
    ids=["reading", "routing", "between", "evaluating", "testing"],
)
def test_counts_that_do_not_add_up_are_said_loudly(artifacts, recipe, changed, told):
    before = {
        "example_quarantine": EXAMPLES,
        "router_quarantine": ROUTER,
        "evaluation": EVALUATION,
    }
    report = gathered(artifacts(**{k: before[k] | v for k, v in changed.items()}), recipe)
    assert any(told in problem for problem in report["problems"])
    page = render_page(report, {})
    assert "The counts do not add up" in page and told in page


def test_what_comes_from_records_is_escaped(artifacts, recipe):
    page = render_page(gathered(artifacts(), recipe), {})
    assert "<script>" not in page and "<b>more</b>" not in page and "<rows>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "part-&lt;1&gt;.jsonl" in page


def test_the_page_needs_nothing_from_elsewhere(artifacts, recipe):
    page = render_page(gathered(artifacts(), recipe), {"TFX": "1.16.0"})
    for link in ("http:", "https:", "src=", "href=", "@import", "url("):
        assert link not in page


def test_the_page_tells_metrics_against_thresholds(artifacts, recipe):
    page = render_page(gathered(artifacts(), recipe), {})
    assert "✓ ≥ 0.9" in page and "✗ ≤ 2" in page
    assert "meter: mean_absolute_error is 2.31, must be ≤ 2" in page
    assert "2 of 3 checks missed" in page
    assert "89 examples only" in page


def test_a_baseline_stands_beside_the_values(artifacts, recipe):
    compared = copy.deepcopy(EVALUATION)
    compared["baseline"] = "/somewhere/model"
    compared["routes"]["text"]["baseline"] = {"auc": 0.9501}
    page = render_page(gathered(artifacts(evaluation=compared), recipe), {})
    assert "Baseline" in page and "0.9501" in page


def test_figures_of_the_test_split_stand_beside_the_values_and_are_counted(artifacts, recipe):
    test = {"text": {"examples": 9, "metrics": {"auc": 0.8125}, "note": None}}
    test["meter"] = {"examples": 0, "metrics": {}, "note": "not evaluated: no examples in it"}
    out = ROUTER["out"] | {"test": {"text": 9, "meter": 0}}
    given = {"evaluation": EVALUATION | {"test": test}, "router_quarantine": ROUTER | {"out": out}}
    report = gathered(artifacts(**given), recipe)
    page = render_page(report, {})
    assert '<th class="n">Test</th>' in page and "0.8125" in page
    assert "meter, test</span> not evaluated: no examples in it" in page
    assert to_metrics(report)["test"] == {
        "text": {"examples": 9, "auc": 0.8125},
        "meter": {"examples": 0},
    }
    assert not any("test examples" in problem for problem in report["problems"])


def test_sections_say_what_the_run_does_not_tell(artifacts):
    sources = artifacts()
    report = gather_report(Sources(sources.evaluation, sources.blessing))
    assert report["missing"] == ["anomalies", "recipe", "records", "routing", "training"]
    assert to_metrics(report)["records"] == {
        "in": None,
        "train": None,
        "eval": None,
        "quarantined": {},
    }
    page = render_page(report, {})
    for what in ("training", "quarantined records", "anomalies"):
        assert f"The run says nothing about {what}" in page


def test_a_route_without_rows_counts_zero(artifacts, recipe):
    rows = {
        split: {name: n for name, n in by_route.items() if name != "scan"}
        for split, by_route in ROUTER["out"].items()
    }
    counts = ROUTER | {"out": rows, "in": 23861}
    report = gathered(artifacts(router_quarantine=counts), recipe)
    assert (report["routes"]["scan"]["train"], report["routes"]["scan"]["eval"]) == (0, 0)


def test_splits_of_other_names_are_counted_and_compared_with_nothing(artifacts, recipe):
    out = {"train": ROUTER["out"]["train"], "holdout": ROUTER["out"]["eval"]}
    report = gathered(artifacts(router_quarantine=ROUTER | {"out": out}), recipe)
    assert report["problems"] == [] and report["records"]["eval"] is None


def test_anomalies_are_told_by_split_and_route(artifacts, recipe):
    page = render_page(gathered(artifacts(), recipe), {})
    assert "missing in 3 % of &lt;rows&gt;" in page and "No examples" in page
    assert "None in 2 of 2 routes of train." in page and "of 2 routes of eval" not in page


def test_a_report_of_nothing_says_so(tmp_path):
    report = gather_report(Sources())
    assert report["problems"] == [] and report["blessed"] is None
    write_report(report, str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "no blessing given" in page and "The run says nothing about metrics" in page
    assert "Not given to this report: anomalies, blessing, evaluation, recipe" in page


def test_counts_without_an_evaluation_are_no_problem(artifacts, recipe):
    sources = dataclasses.replace(artifacts(), evaluation=None, blessing=None)
    report = gathered(sources, recipe)
    assert report["problems"] == []
    assert to_metrics(report)["routes"]["text"] == {"examples": None}


@pytest.fixture(scope="module")
def tfx_evaluation(tmp_path_factory):
    """Route → examples, and where TFMA wrote what it makes of them, as TFX's Evaluator does."""
    rows = {"text": [(0, 0.1), (1, 0.8), (1, 0.4)], "meter": [(1, 0.9)]}
    frame = pd.DataFrame(
        [
            {"_route": route, "label": label, "prediction": score}
            for route, pairs in rows.items()
            for label, score in pairs
        ]
    )
    config = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(label_key="label", prediction_key="prediction")],
        slicing_specs=[config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=["_route"])],
        metrics_specs=tfma.metrics.specs_from_metrics(
            [tfma.metrics.ExampleCount(), tfma.metrics.BinaryAccuracy()]
        ),
    )
    folder = str(tmp_path_factory.mktemp("tfma"))
    tfma.analyze_raw_data(frame, config, output_path=folder)
    return folder


def test_what_tfx_s_evaluator_found_of_each_route_is_read(artifacts, recipe, tfx_evaluation):
    sources = dataclasses.replace(artifacts(), evaluation=tfx_evaluation)
    report = gathered(sources, recipe)
    found = to_metrics(report)["routes"]
    assert found["text"]["examples"] == 3 and found["meter"]["examples"] == 1
    assert found["text"]["binary_accuracy"] == pytest.approx(2 / 3)
    assert found["meter"]["binary_accuracy"] == 1.0
    assert "evaluation" not in report["missing"]


@pytest.mark.parametrize("compared", [False, True], ids=["alone", "with-a-baseline"])
def test_outputs_of_tfx_s_evaluator_are_those_of_their_routes(
    artifacts, recipe, tmp_path, compared
):
    names = ["candidate", "baseline"] if compared else [""]
    specs = [config_pb2.ModelSpec(name=n, is_baseline=n == "baseline") for n in names]
    config = config_pb2.EvalConfig(
        model_specs=specs,
        slicing_specs=[config_pb2.SlicingSpec(feature_keys=["_route"])],
    )
    key = tfma.metrics.MetricKey
    metrics = {
        key(metric, model, output): value + (model == "baseline")
        for model in names
        for output, metric, value in (
            ("text", "auc", 0.9),
            ("text", "example_count", 3.0),
            ("meter", "auc", 0.5),
            ("meter", "example_count", 0.0),
        )
    }
    writers = [
        tfma.writers.EvalConfigWriter(str(tmp_path), config),
        tfma.writers.MetricsPlotsAndValidationsWriter(
            {tfma.METRICS_KEY: str(tmp_path / tfma.METRICS_KEY)}, config
        ),
    ]
    slices = [((("_route", route),), metrics) for route in ("text", "meter")]
    with beam.Pipeline(argv=FNAPI[:1]) as pipeline:
        written = {tfma.METRICS_KEY: pipeline | beam.Create(slices)}
        _ = written | tfma.WriteResults(writers)
    sources = dataclasses.replace(artifacts(), evaluation=str(tmp_path))
    text = gathered(sources, recipe)["routes"]["text"]
    assert text["examples"] == 3
    assert text["metrics"] == {"auc": 0.9}
    assert text["baseline"] == ({"auc": 1.9} if compared else {})


def test_a_run_in_an_object_store_is_reported_there(artifacts, recipe, monkeypatch):
    local = artifacts()
    with object_store(monkeypatch) as client:
        for name, folder in dataclasses.asdict(local).items():
            for path in Path(folder).iterdir():
                client.upload_file(str(path), BUCKET, f"run/{name}/{path.name}")
        remote = {name: f"s3://{BUCKET}/run/{name}" for name in dataclasses.asdict(local)}
        report = gathered(Sources(**remote), recipe)
        write_report(report, f"s3://{BUCKET}/run/report")
        written = client.get_object(Bucket=BUCKET, Key="run/report/metrics.json")["Body"].read()
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix="run/report/")["Contents"]
    assert report == gathered(local, recipe)
    assert json.loads(written) == to_metrics(report)
    assert len(listed) == 3


def test_an_evaluation_that_says_nothing_of_routes_is_as_none(artifacts, recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    sources = dataclasses.replace(artifacts(), evaluation=str(tmp_path / "empty"))
    report = gathered(sources, recipe)
    assert "evaluation" in report["missing"] and report["problems"] == []


def test_the_page_of_a_hundred_routes_stays_small(artifacts, recipe, tmp_path):
    names = [f"route-{n}" for n in range(100)]
    one = history()["routes"]["text"]
    one |= {"losses": [[n, 1 / n] for n in range(1, 2001)]}
    failed = EVALUATION["routes"]["meter"]
    sources = artifacts(
        evaluation=EVALUATION | {"routes": dict.fromkeys(names, failed)},
        model_run=history() | {"routes": dict.fromkeys(names, one)},
        anomalies={"splits": {"train": dict.fromkeys(names, {"examples": 3, "anomalies": {}})}},
    )
    page = render_page(gathered(sources, recipe), {})
    assert len(page) < 400_000
    assert "100 of 100 checks missed" in page and "and 80 more" in page


@pytest.mark.parametrize("num", [2, 3, 5000])
def test_curves_stay_within_their_frame(num):
    curve = draw_curve([[n, 100.0 / (n + 1)] for n in range(num)])
    assert curve is not None
    places = [tuple(map(float, p.split(","))) for p in curve.raw.split()]
    assert len(places) <= 401 and all(0 <= x <= 320 and 0 <= y <= 140 for x, y in places)


@pytest.mark.parametrize("losses", [[], [[1, 2.0]], [[1, math.nan], [2, None]]])
def test_no_curve_without_two_losses(losses):
    assert draw_curve(losses) is None


def test_a_constant_loss_has_a_curve():
    assert draw_curve([[1, 0.5], [2, 0.5]]) is not None


def test_the_component_needs_nothing_but_takes_an_evaluation(artifacts, tmp_path):
    from tfx.types import Channel, standard_artifacts

    from branchline.components import RunReport
    from branchline.components.artifacts import Report
    from branchline.components.run_report.component import RunReportExecutor

    component = RunReport(
        evaluation=Channel(type=standard_artifacts.ModelEvaluation),
        blessing=Channel(type=standard_artifacts.ModelBlessing),
    )
    assert component.outputs["report"].type is Report and RunReport().inputs == {}
    sources = artifacts()
    evaluation, blessing, report = (
        standard_artifacts.ModelEvaluation(),
        standard_artifacts.ModelBlessing(),
        Report(),
    )
    evaluation.uri, blessing.uri = str(sources.evaluation), str(sources.blessing)
    report.uri = str(tmp_path)
    inputs = {"evaluation": [evaluation], "blessing": [blessing]}
    RunReportExecutor().Do(inputs, {"report": [report]}, {"code_version": "0", "recipe": None})
    assert json.loads((tmp_path / "metrics.json").read_text())["recipe"] is None


def test_records_of_a_further_split_are_counted(tmp_path):
    counts = {"in": 10, "out": {"train": 6, "eval": 2, "test": 1}, "quarantined": {"bad_split": 1}}
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    report = gather_report(Sources(example_quarantine=str(tmp_path)))
    expected = {"in": 10, "train": 6, "eval": 2, "test": 1, "quarantined": {"bad_split": 1}}
    assert report["problems"] == [] and to_metrics(report)["records"] == expected
