"""The components in a pipeline of TFX's own, as the documentation shows it."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import tensorflow_model_analysis as tfma
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from branchline.pipeline.local import BEAM_ARGS

DOCUMENT = Path(__file__).parents[2] / "docs" / "how-to" / "components-in-your-pipeline.md"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a run of the documented pipeline on 300 rows."""
    folder = tmp_path_factory.mktemp("mixed")
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (folder / "my_pipeline.py").write_text(example)
    (folder / "data").mkdir()
    with open(folder / "data" / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["kind", "x", "z", "y", "bad"])
        writer.writeheader()
        for i in range(300):
            x, z = (i * 7 % 31) / 31, (i * 5 % 17) / 17
            kind = "up" if i % 3 else "down"
            label = {"y": 3 * x - z} if i % 3 else {"bad": int(x > 0.5)}
            writer.writerow({"kind": kind, "x": x, "z": z} | label)
    sys.path.insert(0, str(folder))
    try:
        components = importlib.import_module("my_pipeline").components
        pipeline = Pipeline(
            pipeline_name="mine",
            pipeline_root=str(folder / "pipeline"),
            components=components(str(folder / "data"), str(folder)),
            metadata_connection_config=sqlite_metadata_connection_config(str(folder / "m.sqlite")),
            beam_pipeline_args=list(BEAM_ARGS),
        )
        argv, sys.argv = sys.argv, sys.argv[:1]  # TFX's Beam executors parse them
        try:
            LocalDagRunner().run(pipeline)
        finally:
            sys.argv = argv
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("my_pipeline", None)
    return folder


def only(folder, pattern):
    (found,) = folder.glob(f"pipeline/{pattern}")
    return found


@pytest.mark.e2e
def test_the_documented_pipeline_of_tfxs_components_trains_and_pushes(ran):
    history = json.loads(only(ran, "BranchTrainer/model_run/*/history.json").read_text())
    assert history["steps"] == 60 and set(history["routes"]) == {"up", "down"}
    assert list(ran.glob("serving/*/saved_model.pb"))
    counts = json.loads(only(ran, "Router/quarantine/*/counts.json").read_text())
    assert sum(counts["out"]["train"].values()) + sum(counts["out"]["eval"].values()) == 300


@pytest.mark.e2e
def test_tfxs_evaluator_slices_by_route(ran):
    counts = json.loads(only(ran, "Router/quarantine/*/counts.json").read_text())
    result = tfma.load_eval_result(str(only(ran, "Evaluator/evaluation/*")))
    metrics = result.get_metrics_for_slice((("_route", "up"),))
    assert metrics["example_count"]["doubleValue"] == counts["out"]["eval"]["up"]


@pytest.mark.e2e
def test_validator_and_report_work_between_tfxs_components(ran):
    anomalies = json.loads(only(ran, "RouteValidator/anomalies/*/anomalies.json").read_text())
    assert {split: set(of) for split, of in anomalies["splits"].items()} == {
        "train": {"up", "down"},
        "eval": {"up", "down"},
    }
    report = json.loads(only(ran, "RunReport/report/*/report.json").read_text())
    assert {"blessing", "recipe"} <= set(report["missing"]) and "records" not in report["missing"]
    (problem,) = report["problems"]  # the Evaluator was asked for one route only
    assert problem.startswith("route down has ") and problem.endswith("but 0 were evaluated")
    assert report["blessed"] is None
