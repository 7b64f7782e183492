"""Servers that fail, lose their answers or refuse: what is repeated, and what is told."""

import pytest
from builders_submit import api as api
from builders_submit import kfp_is_quiet, only, run
from builders_submit import pipeline as pipeline
from kfp_api import Fault

from branchline.schemas import BranchlineError, RecipeError

pytestmark = kfp_is_quiet


@pytest.mark.parametrize(
    "request_", ["GET .*/healthz", "POST .*/experiments", "POST .*/upload_version", "POST .*/runs"]
)
def test_two_5xx_are_survived_with_one_of_each(api, pipeline, request_, capfd):
    api.faults = [Fault(request_, 502, "<html>Bad Gateway</html>", times=2)]
    assert run(pipeline, "--host", api.url)[0] == 0
    assert len(api.runs) == len(api.versions) == len(api.pipelines) == len(api.experiments) == 1
    assert capfd.readouterr().err.count("(502: Bad Gateway); trying again in 0.0 s") == 2


@pytest.mark.parametrize("hang_up", [False, True], ids=["503", "connection lost"])
@pytest.mark.parametrize(
    "request_",
    ["POST .*/experiments", "POST .*/pipelines", "POST .*/upload_version", "POST .*/runs"],
)
def test_what_was_made_before_its_answer_was_lost_is_not_made_again(
    api, pipeline, request_, hang_up
):
    api.faults = [Fault(request_, carried_out=True, hang_up=hang_up)]
    code, printed = run(pipeline, "--host", api.url)
    assert code == 0
    assert len(api.runs) == len(api.versions) == len(api.pipelines) == len(api.experiments) == 1
    assert only(api.runs)["run_id"] in printed
    for kind in ("/runs", "/pipelines", "/experiments", "/pipelines/upload_version"):
        assert api.sent(f"POST {kind}") == 1


def test_lost_answer_is_not_mistaken_for_an_earlier_run_of_the_same_name(api, pipeline):
    run(pipeline, "--host", api.url, "--run-name", "tonight")
    api.faults = [Fault("POST .*/runs")]
    _, printed = run(pipeline, "--host", api.url, "--run-name", "tonight")
    assert list(api.runs) == ["run_id-1", "run_id-2"]
    assert "run_id-2" in printed


def test_last_lost_answer_is_looked_after_too(api, pipeline):
    api.faults = [Fault("POST .*/runs", carried_out=True)]
    assert run(pipeline, "--host", api.url, "--retries", "0")[0] == 0
    assert len(api.runs) == 1


def test_lasting_5xx_ends_after_the_repetitions(api, pipeline):
    api.faults = [Fault(".*", 503, headers={"Retry-After": "60"}, times=float("inf"))]
    with pytest.raises(BranchlineError, match=r"cannot serve now \(503: upstream connect error\)"):
        run(pipeline, "--host", api.url, "--retries", "2")
    assert len(api.requests) == 3


@pytest.mark.parametrize("status", [401, 503])
def test_creation_whose_fate_is_unknown_says_where_to_look(api, pipeline, status):
    api.faults = [
        Fault("POST .*/runs", carried_out=True),
        Fault("GET .*/runs", status, times=float("inf")),
    ]
    with pytest.raises(BranchlineError, match="Whether the run was created is not known: look for"):
        run(pipeline, "--host", api.url, "--retries", "2")
    assert (len(api.runs), api.sent("POST /runs")) == (1, 1)


def test_what_another_submission_just_made_is_used(api, pipeline):
    made = {"experiment_id": "e", "display_name": "mixed", "namespace": ""}

    def make_between():
        if api.sent("POST /experiments"):
            api.experiments["e"] = made

    api.on_request = make_between
    run(pipeline, "--host", api.url)
    assert only(api.runs)["experiment_id"] == "e"


@pytest.mark.parametrize(
    "status, body, words",
    [
        (400, '{"error": "Invalid input: the root"}', r"refused the request \(400: Invalid input"),
        (
            403,
            '{"message": "RBAC: access denied"}',
            r"\(403: RBAC: access denied\); check --namesp",
        ),
        (404, "Not Found", "refused the request"),
        (409, '{"error": "Already exist"}', r"has that already \(409: Already exist\)"),
    ],
)
def test_4xx_is_told_in_the_servers_words_and_not_repeated(api, pipeline, status, body, words):
    api.faults = [Fault("POST .*/runs", status, body, times=float("inf"))]
    with pytest.raises(BranchlineError, match=words) as caught:
        run(pipeline, "--host", api.url)
    assert api.sent("POST /runs") == 1
    assert "\n" not in str(caught.value) and not isinstance(caught.value, RecipeError)
