"""Pipelines of a user's, with TFX's components and ours, compiled and run step by step."""

import json
import os
from pathlib import Path

import pytest
import tensorflow as tf
from builders_mixed import lay_out, pipeline_of
from kfp_driver import Kubeflow
from kfp_launcher import TfxLauncher

from branchline.pipeline.kubeflow.compile.compile_pipeline import compile_yaml

pytestmark = pytest.mark.e2e


@pytest.fixture
def run(tmp_path):
    """Module → its finished run."""

    def compiled_and_run(module):
        with pipeline_of(lay_out(tmp_path, module), module) as pipeline:
            text = compile_yaml(pipeline, "example.com/theirs:1")
        path = tmp_path / "pipeline.yaml"
        path.write_text(text)
        in_image = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
        launcher = TfxLauncher(tmp_path / "root")
        kubeflow = Kubeflow(launcher, tmp_path / "work", variables={"PYTHONPATH": in_image})
        return kubeflow.run(path)

    return compiled_and_run


def folder(run, task, output) -> Path:
    return Path(run.artifact(task, output)["uri"])


def read(run, task, output, name):
    return json.loads((folder(run, task, output) / name).read_text())


def test_the_documented_pipeline_pushes_a_blessed_model(run, tmp_path):
    done = run("my_pipeline")
    assert (folder(done, "BranchEvaluator", "blessing") / "BLESSED").exists()
    assert list(tmp_path.glob("serving/*/saved_model.pb"))
    report = read(done, "RunReport", "report", "report.json")
    assert report["blessed"] is True and report["problems"] == []


def test_training_from_a_base_model_and_bulk_inference(run):
    done = run("mail")
    assert read(done, "BranchTrainer", "model_run", "history.json")["steps"] == 10
    files = folder(done, "BulkInferrer", "output_examples").glob("Split-eval/*")
    predicted = sum(1 for _ in tf.data.TFRecordDataset([str(file) for file in files], "GZIP"))
    counts = read(done, "Fresh", "quarantine", "counts.json")["out"]["eval"]
    assert predicted == sum(counts.values()) > 0


def test_a_model_of_tfxs_trainer_is_judged(run):
    evaluation = read(run("own_trainer"), "BranchEvaluator", "evaluation", "evaluation.json")
    assert evaluation["blessed"] is True and set(evaluation["routes"]) == {"up", "down"}
