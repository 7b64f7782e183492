"""What of a submitted pipeline reaches the server, and what is printed of it."""

import datetime
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from builders_submit import api as api
from builders_submit import edited, kfp_is_quiet, only, run
from builders_submit import pipeline as pipeline

from branchline.schemas import BranchlineError, RecipeError

ROOT = pathlib.Path(__file__).parents[4]
pytestmark = kfp_is_quiet


def test_server_gets_the_very_file_and_its_run(api, pipeline):
    code, printed = run(pipeline, "--host", api.url)
    submitted = only(api.runs)
    assert (code, printed) == (0, f"{api.url}/#/runs/details/{submitted['run_id']}\n")
    assert only(api.files) == pipeline.read_bytes()
    assert only(api.pipelines)["display_name"] == only(api.experiments)["display_name"] == "mixed"
    assert submitted["display_name"].startswith("mixed-")
    assert submitted["experiment_id"] == only(api.experiments)["experiment_id"]
    assert submitted["pipeline_version_reference"] == {
        "pipeline_id": only(api.pipelines)["pipeline_id"],
        "pipeline_version_id": only(api.versions)["pipeline_version_id"],
    }
    assert submitted["runtime_config"] == {"parameters": {}}
    assert "service_account" not in submitted


def test_options_of_the_run_reach_the_server(api, pipeline):
    run(
        *(pipeline, "--host", api.url, "--run-name", "tonight", "--experiment", "nightly"),
        *("--service-account", "trainer", "--pipeline-root", "s3://bucket/other"),
        *("--version-name", "v1", "--parameter", "steps=700", "--parameter", "rate=1"),
        *("--parameter", "data=s3://b/k=v", "--parameter", "resume=True"),
        *("--parameter", 'routes=["a"]', "--parameter", 'thresholds={"a": {"auc": 0.9}}'),
    )
    submitted = only(api.runs)
    assert submitted["display_name"] == "tonight"
    assert only(api.experiments)["display_name"] == "nightly"
    assert submitted["service_account"] == "trainer"
    assert only(api.versions)["display_name"] == "v1"
    assert submitted["runtime_config"] == {
        "pipeline_root": "s3://bucket/other",
        "parameters": {
            "steps": 700,
            "rate": 1,
            "data": "s3://b/k=v",
            "resume": True,
            "routes": ["a"],
            "thresholds": {"a": {"auc": 0.9}},
        },
    }


def test_run_lies_under_the_root_that_the_pipeline_was_compiled_for(api, tmp_path):
    path = tmp_path / "mixed.yaml"
    path.write_text(edited(defaultPipelineRoot="s3://bucket/root"))
    run(path, "--host", api.url)
    assert only(api.runs)["runtime_config"]["pipeline_root"] == "s3://bucket/root"


def test_no_cache_uploads_a_version_that_differs_in_nothing_else(api, pipeline):
    run(pipeline, "--host", api.url)
    run(pipeline, "--host", api.url, "--no-cache")
    cached, uncached = (list(yaml.safe_load_all(file)) for file in api.files.values())
    assert [t.pop("cachingOptions") for t in uncached[0]["root"]["dag"]["tasks"].values()] == [
        {}
    ] * 2
    for one in cached[0]["root"]["dag"]["tasks"].values():
        assert one.pop("cachingOptions") == {"enableCache": True}
    assert cached == uncached
    assert len({v["display_name"] for v in api.versions.values()}) == 2


def test_no_cache_takes_a_pipeline_with_any_values(api, tmp_path):
    path = tmp_path / "mixed.yaml"
    path.write_text(edited("pipelineInfo", since=datetime.date(2020, 1, 1)))
    assert run(path, "--host", api.url, "--no-cache")[0] == 0
    assert b"since: 2020-01-01" in only(api.files)


def test_unchanged_pipeline_is_not_uploaded_again(api, pipeline):
    for _ in range(2):
        run(pipeline, "--host", api.url)
    assert (len(api.runs), len(api.versions), len(api.pipelines)) == (2, 1, 1)
    assert api.sent("POST /pipelines/upload_version") == 1
    pipeline.write_text(pipeline.read_text() + "# changed\n")
    run(pipeline, "--host", api.url)
    assert (len(api.runs), len(api.versions), len(api.pipelines)) == (3, 2, 1)


def test_version_name_of_other_content_is_refused(api, pipeline):
    run(pipeline, "--host", api.url, "--version-name", "v1")
    pipeline.write_text(pipeline.read_text() + "# changed\n")
    with pytest.raises(BranchlineError, match="version v1 of mixed with other content"):
        run(pipeline, "--host", api.url, "--version-name", "v1")
    assert len(api.runs) == 1


def test_host_may_come_from_the_environment_and_from_a_browser(api, pipeline, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"{api.url}/#/runs")
    assert run(pipeline) == (0, f"{api.url}/#/runs/details/run_id-1\n")


def test_kfps_own_client_sees_the_run_there(api, pipeline):
    import kfp

    run(pipeline, "--host", api.url, "--run-name", "tonight")
    client = kfp.Client(host=api.url)
    experiment = client.get_experiment(experiment_name="mixed")
    assert experiment.experiment_id == only(api.runs)["experiment_id"]
    assert client.get_run(only(api.runs)["run_id"]).display_name == "tonight"
    assert client.get_pipeline_id("mixed") == only(api.pipelines)["pipeline_id"]


def test_namespace_is_where_everything_is_made(api, pipeline):
    api.multi_user = True
    run(pipeline, "--host", api.url, "--namespace", "team-a")
    assert only(api.pipelines)["namespace"] == only(api.experiments)["namespace"] == "team-a"
    run(pipeline, "--host", api.url, "--namespace", "team-b")
    assert len(api.pipelines) == len(api.experiments) == len(api.versions) == 2


def test_kubeflow_of_several_users_asks_for_the_namespace(api, pipeline):
    api.multi_user = True
    with pytest.raises(RecipeError, match="has several users: give --namespace"):
        run(pipeline, "--host", api.url)


def test_reader_that_has_enough_of_the_output_is_no_traceback(api, pipeline):
    command = [sys.executable, str(ROOT / "run_kubeflow.py"), "submit", str(pipeline)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*command, "--host", api.url], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
    assert len(api.runs) == 1


def test_submit_imports_nothing_heavy():
    code = (
        "import branchline.pipeline.kubeflow.submit.submit_pipeline, sys; "
        "print({'kfp', 'kfp_server_api', 'yaml', 'tensorflow', 'tfx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
