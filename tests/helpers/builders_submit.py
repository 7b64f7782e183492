"""A pipeline to submit, the server to submit it to, and how a test does so.

A test module imports the fixtures it uses as `from builders_submit import api as api`: so they are
known there alone.
"""

import argparse
import copy
import io

import pytest
import yaml
from kfp_api import KfpApi, served

from branchline.pipeline.kubeflow.submit.submit_arguments import add_submit_arguments
from branchline.pipeline.kubeflow.submit.submit_pipeline import submit

kfp_is_quiet = pytest.mark.filterwarnings("ignore:::kfp")  # its words about urllib3 and itself

SPEC = {
    "schemaVersion": "2.1.0",
    "pipelineInfo": {"name": "mixed"},
    "deploymentSpec": {"executors": {"run": {"container": {"image": "branchline:1"}}}},
    "components": {"step": {"executorLabel": "run"}},
    "root": {
        "inputDefinitions": {
            "parameters": {
                "data": {"parameterType": "STRING", "defaultValue": ""},
                "steps": {"parameterType": "NUMBER_INTEGER", "defaultValue": 500.0},
                "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1},
                "resume": {"parameterType": "BOOLEAN", "isOptional": True},
                "routes": {"parameterType": "LIST", "defaultValue": []},
                "thresholds": {"parameterType": "STRUCT", "defaultValue": {}},
            }
        },
        "dag": {
            "tasks": {
                name: {"componentRef": {"name": "step"}, "cachingOptions": {"enableCache": True}}
                for name in ("Router", "BranchTrainer")
            }
        },
    },
}
PLATFORMS = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"run": {}}}}}}


@pytest.fixture
def api(monkeypatch):
    without_settings(monkeypatch)
    with served(KfpApi()) as server:
        yield server


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    without_settings(monkeypatch)
    return write(tmp_path / "mixed.yaml", SPEC, PLATFORMS)


def without_settings(monkeypatch):
    """Whoever runs the tests may have a Kubeflow of their own."""
    for name in (
        "KF_PIPELINES_ENDPOINT",
        "BRANCHLINE_KFP_TOKEN",
        "KF_PIPELINES_SA_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)


def write(path, *documents):
    path.write_text("# a comment stays\n" + yaml.safe_dump_all(documents, sort_keys=False))
    return path


def run(pipeline, *arguments):
    """(exit code, what was printed)"""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_submit_arguments(parser)
    out = io.StringIO()
    options = parser.parse_args([str(pipeline), *map(str, arguments)])
    return submit(options, out, backoff_s=0.001, poll_s=0.001), out.getvalue()


def edited(*names, **fields):
    """The pipeline's YAML with other fields at a place."""
    spec = copy.deepcopy(SPEC)
    place = spec
    for name in names:
        place = place[name]
    place.update(fields)
    return yaml.safe_dump(spec)


def only(table):
    (one,) = table.values()
    return one


def headers(api):
    return [headers.get("authorization") for _, _, headers in api.requests]
