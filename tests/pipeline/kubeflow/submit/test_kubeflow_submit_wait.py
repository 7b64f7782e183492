"""Waiting for a submitted run: what is shown of it, and how the waiting ends."""

import pytest
from builders_submit import api as api
from builders_submit import kfp_is_quiet, run
from builders_submit import pipeline as pipeline
from kfp_api import Fault

from branchline.pipeline.kubeflow.main import main
from branchline.schemas import BranchlineError, RecipeError

pytestmark = kfp_is_quiet


def task(name, state, **fields):
    return {"display_name": name, "state": state, **fields}


def tasks(run_state, *details, **fields):
    return {"state": run_state, "run_details": {"task_details": list(details)}, **fields}


def test_wait_shows_each_new_state_of_each_task_and_succeeds(api, pipeline):
    api.states = [
        {"state": "PENDING"},
        tasks("RUNNING", task("root-driver", "SUCCEEDED"), task("Router", "RUNNING")),
        tasks("RUNNING", task("Router", "RUNNING"), task("Router-driver", "SUCCEEDED")),
        tasks("RUNNING", task("Router", "SUCCEEDED"), task("BranchTrainer", "RUNNING")),
        tasks("SUCCEEDED", task("Router", "SUCCEEDED"), task("BranchTrainer", "SUCCEEDED")),
    ]
    code, printed = run(pipeline, "--host", api.url, "--run-name", "tonight", "--wait")
    assert code == 0
    assert printed.splitlines()[1:] == [
        "Router: running",
        "Router: succeeded",
        "BranchTrainer: running",
        "BranchTrainer: succeeded",
        "tonight: succeeded",
    ]


def test_failed_run_names_its_tasks_with_error_or_pod(api, pipeline):
    history = [{"state": "RUNNING"}, {"state": "FAILED", "error": {"message": "OOM\nkilled"}}]
    api.states = [
        tasks(
            "FAILED",
            task("executor", "FAILED"),
            task("Router", "FAILED", child_tasks=[{"pod_name": "mixed-x1-impl"}]),
            task("BranchTrainer-driver", "FAILED", state_history=history),
            error={"message": "child nodes failed"},
        )
    ]
    code, printed = run(pipeline, "--host", api.url, "--run-name", "tonight", "--wait")
    assert code == 1
    assert printed.splitlines()[2:] == [
        "tonight: failed",
        "  Router failed; its log is that of mixed-x1-impl",
        "  BranchTrainer failed: OOM killed",
        "  child nodes failed",
    ]


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_run_that_ends_otherwise_has_not_succeeded(api, pipeline, state):
    api.states = [{"state": state}]
    code, printed = run(pipeline, "--host", api.url, "--wait")
    assert code == 1 and printed.endswith(f": {state.lower()}\n")


def test_timeout_of_the_wait_says_that_the_run_goes_on(api, pipeline):
    api.states = [tasks("RUNNING", task("Router", "RUNNING"))]
    with pytest.raises(
        BranchlineError, match=r"after 0.05 s \(it is running, at Router\)"
    ) as caught:
        run(pipeline, "--host", api.url, "--wait", "--timeout", "0.05")
    assert f"the run goes on. The run: {api.url}/#/runs/details/run_id-1" in str(caught.value)


def test_wait_survives_a_server_that_restarts(api, pipeline):
    api.states = [{"state": "RUNNING"}, {"state": "SUCCEEDED"}]
    api.faults = [Fault("GET .*/runs/.*", times=3)]
    assert run(pipeline, "--host", api.url, "--wait")[0] == 0


def test_token_that_expires_while_waiting_leaves_the_address(api, pipeline, monkeypatch):
    monkeypatch.setenv("BRANCHLINE_KFP_TOKEN", "short")
    api.faults = [Fault("GET .*/runs/.*", 401, "{}")]
    with pytest.raises(BranchlineError, match="token was refused.*The run: http.*run_id-1"):
        run(pipeline, "--host", api.url, "--wait")


def test_timeout_without_wait_is_an_argument_error(api, pipeline):
    with pytest.raises(RecipeError, match="--timeout says how long to --wait"):
        run(pipeline, "--host", api.url, "--timeout", "5")
    assert not api.requests


def test_interrupted_wait_says_that_the_run_goes_on(api, pipeline, monkeypatch, capfd):
    api.states = [{"state": "RUNNING"}]

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("branchline.pipeline.kubeflow.submit.follow_run.time.sleep", interrupt)
    assert main(["submit", str(pipeline), "--host", api.url, "--wait"]) == 130
    address = f"{api.url}/#/runs/details/run_id-1"
    assert capfd.readouterr().err == (
        f"run_kubeflow: interrupted; waiting stops, the run goes on: {address}\n"
    )
