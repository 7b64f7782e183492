import argparse
import copy
import datetime
import io
import os
import pathlib
import subprocess
import sys
import time

import pytest
import yaml
from kfp_api import API, Fault, KfpApi, served

from branchline.pipeline.kubeflow.main import main
from branchline.pipeline.kubeflow.run_values import check_values
from branchline.pipeline.kubeflow.submit import submit
from branchline.pipeline.kubeflow.submit_arguments import add_submit_arguments
from branchline.schemas import (
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    to_json,
    when,
)

ROOT = pathlib.Path(__file__).parent.parent
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
pytestmark = pytest.mark.filterwarnings("ignore:::kfp")  # its words about urllib3 and itself

PLATFORMS = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"run": {}}}}}}


@pytest.fixture
def api():
    with served(KfpApi()) as server:
        yield server


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in (
        "KF_PIPELINES_ENDPOINT",
        "BRANCHLINE_KFP_TOKEN",
        "KF_PIPELINES_SA_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pipeline(tmp_path):
    return write(tmp_path / "mixed.yaml", SPEC, PLATFORMS)


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


def task(name, state, **fields):
    return {"display_name": name, "state": state, **fields}


def tasks(run_state, *details, **fields):
    return {"state": run_state, "run_details": {"task_details": list(details)}, **fields}


# What reaches the server


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


# Several users


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


# Tokens


@pytest.mark.parametrize("way", ["file", "environment", "pod", "pod's place"])
def test_token_reaches_every_request_and_no_output(
    api, pipeline, tmp_path, monkeypatch, capfd, way
):
    api.token = "s3cret-token"
    api.faults = [Fault(f"POST {API}/runs")]
    file = tmp_path / "token"
    file.write_text("s3cret-token\n")
    arguments = {
        "file": ["--token-file", file],
        "pod": ["--service-account-token", file],
        "pod's place": ["--service-account-token"],
        "environment": [],
    }[way]
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    if way == "environment":
        monkeypatch.setenv("BRANCHLINE_KFP_TOKEN", "s3cret-token")
    code, printed = run(pipeline, "--host", api.url, *arguments)
    streams = capfd.readouterr()
    assert code == 0
    assert set(headers(api)) == {"Bearer s3cret-token"}
    assert "trying again" in streams.err
    assert "s3cret" not in printed + streams.out + streams.err


def test_pods_token_lies_where_kfp_looks_for_it():
    import kfp.client

    from branchline.pipeline.kubeflow import credentials

    assert credentials.POD_TOKEN == kfp.client.KF_PIPELINES_SA_TOKEN_PATH
    assert credentials.POD_TOKEN_VARIABLE == kfp.client.KF_PIPELINES_SA_TOKEN_ENV


def test_renewed_token_file_is_read_again(api, pipeline, tmp_path):
    file = tmp_path / "token"
    file.write_text("first")

    def renew():
        if len(api.requests) == 3:
            file.write_text("second")

    api.on_request = renew
    run(pipeline, "--host", api.url, "--token-file", file)
    assert headers(api)[2:4] == ["Bearer first", "Bearer second"]


def test_expired_token_is_said_to_be_refused_without_repetition(api, pipeline, tmp_path, capfd):
    api.token = "new"
    file = tmp_path / "token"
    file.write_text("expired-token")
    with pytest.raises(BranchlineError) as caught:
        run(pipeline, "--host", api.url, "--token-file", file)
    assert "the token was refused" in str(caught.value) and "401" in str(caught.value)
    assert "kubectl create token" in str(caught.value)
    assert len(api.requests) == 1
    assert "expired-token" not in str(caught.value) + "".join(capfd.readouterr())


def test_missing_token_is_asked_for(api, pipeline):
    api.token = "wanted"
    with pytest.raises(
        BranchlineError, match=r"wants a token \(401: Unauthenticated\).*--token-file"
    ):
        run(pipeline, "--host", api.url)


@pytest.mark.parametrize("text", ["", "two words", "a\nb", "ключ"], ids=str)
def test_token_that_cannot_be_one_is_not_sent(api, pipeline, tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(RecipeError, match="expected a bearer token") as caught:
        run(pipeline, "--host", api.url, "--token-file", file)
    assert not api.requests
    assert not text or text not in str(caught.value)


def test_token_given_as_the_path_of_its_file_is_not_shown(pipeline):
    with pytest.raises(RecipeError, match="got what looks like a token") as caught:
        run(pipeline, "--host", "http://localhost", "--token-file", "eyJhbGci.s3cret")
    assert "s3cret" not in str(caught.value)


def test_token_does_not_follow_a_redirect_to_another_host(api, pipeline, monkeypatch):
    monkeypatch.setenv("BRANCHLINE_KFP_TOKEN", "s3cret")
    with served(KfpApi()) as other:
        to_other = {"Location": f"{other.url}{API}/healthz"}
        api.faults = [Fault(f"GET {API}/healthz", 302, "", to_other)]
        run(pipeline, "--host", api.url)
        assert headers(other) == [None]


# Servers that fail


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


# Addresses that are wrong


def test_other_server_is_no_kubeflow(api, pipeline):
    with pytest.raises(
        BranchlineError, match="no API of Kubeflow Pipelines 2.*ends with /pipeline"
    ):
        run(pipeline, "--host", f"{api.url}/wrong")


@pytest.mark.parametrize("status", [200, 401, 403])
@pytest.mark.parametrize("redirected", [False, True])
def test_login_page_is_named_as_such(api, pipeline, status, redirected):
    page = Fault(".*/dex", status, "<!doctype html><title>Log in</title>", times=9)
    if redirected:
        away = Fault("GET .*/healthz", 302, "", {"Location": f"{api.url}/dex"}, times=9)
        api.faults = [away, page]
    else:
        page.request = "GET .*/healthz"
        api.faults = [page]
    with pytest.raises(
        BranchlineError, match="a web page instead of the API: a proxy's login page"
    ):
        run(pipeline, "--host", api.url)


def test_server_that_answers_anything_is_no_kubeflow(api, pipeline):
    api.faults = [Fault(".*", 200, "ok", times=float("inf"))]
    with pytest.raises(BranchlineError, match="something else than the JSON of Kubeflow Pipelines"):
        run(pipeline, "--host", api.url)


def test_refused_port_is_told_after_the_repetitions(pipeline, capfd):
    with served(KfpApi()) as gone:
        pass
    with pytest.raises(BranchlineError, match="refuses the connection: nothing listens there"):
        run(pipeline, "--host", gone.url, "--retries", "2")
    assert capfd.readouterr().err.count("trying again") == 2


def test_unknown_name_is_told(pipeline):
    with pytest.raises(
        BranchlineError, match=r"the name in http://no-such-host\.invalid is not known"
    ):
        run(pipeline, "--host", "http://no-such-host.invalid", "--retries", "1")


def test_silent_server_is_given_up(api, pipeline, monkeypatch):
    from branchline.pipeline.kubeflow import connection

    monkeypatch.setattr(connection, "_TIMEOUTS_S", (0.2, 0.2))
    api.on_request = lambda: time.sleep(0.5)
    with pytest.raises(BranchlineError, match="does not answer in time"):
        run(pipeline, "--host", api.url, "--retries", "0")


@pytest.mark.parametrize(
    "host", ["localhost:8080", "ftp://kubeflow", "https://", "http://h:port", "http://[half"]
)
def test_host_that_is_no_address_is_an_argument_error(pipeline, host):
    with pytest.raises(RecipeError, match="--host.*expected an address as https://HOST"):
        run(pipeline, "--host", host)


def test_password_in_the_host_is_refused_and_not_shown(pipeline):
    with pytest.raises(RecipeError, match="--token-file") as caught:
        run(pipeline, "--host", "https://me:s3cret@kubeflow.example.com")
    assert "s3cret" not in str(caught.value)


def test_host_must_be_given(pipeline):
    with pytest.raises(RecipeError, match="no host: give --host, or set KF_PIPELINES_ENDPOINT"):
        run(pipeline)


# TLS


@pytest.fixture
def certificate(tmp_path):
    file, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split()
    named = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*make, *named, "-keyout", key, "-out", file], check=True, capture_output=True)
    return file, key


def test_certificate_authority_is_trusted_where_given(pipeline, certificate):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with served(KfpApi(), context) as api:
        assert run(pipeline, "--host", api.url, "--ca-cert", certificate[0])[0] == 0
        with pytest.raises(BranchlineError, match="TLS with .* fails.*certificate.*--ca-cert"):
            run(pipeline, "--host", api.url)


def test_plain_http_behind_https_is_told(api, pipeline):
    with pytest.raises(BranchlineError, match="TLS with .* fails"):
        run(pipeline, "--host", api.url.replace("http", "https"))
    assert not api.requests


# Waiting


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


@pytest.mark.parametrize("root", ["volume://claim/runs", "/data", ""])
def test_root_that_has_to_be_compiled_in_is_an_argument_error(api, pipeline, root):
    with pytest.raises(RecipeError, match="--pipeline-root: got .*`compile` has to know it"):
        run(pipeline, "--host", api.url, "--pipeline-root", root)
    assert not api.requests


@pytest.mark.parametrize(
    "arguments, compiled_for",
    [([], "minio"), (["--volume=/branchline-volume"], "volume")],
    ids=["store", "volume"],
)
def test_root_in_a_store_that_the_steps_cannot_reach_is_an_argument_error(
    api, tmp_path, arguments, compiled_for
):
    command = ["-c", "exec python -m branchline.pipeline.kubeflow.entrypoint"]
    container = {"image": "branchline:1", "command": command, "args": arguments}
    executors = {"executors": {"run": {"container": container}}}
    path = write(
        tmp_path / "mixed.yaml",
        SPEC | {"deploymentSpec": executors, "defaultPipelineRoot": "minio://bucket/a"},
    )
    with pytest.raises(RecipeError, match=f"compiled for {compiled_for}://…, and its steps"):
        run(path, "--host", api.url, "--pipeline-root", "s3://bucket/b")
    assert not api.requests
    if compiled_for == "minio":
        assert run(path, "--host", api.url, "--pipeline-root", "minio://bucket/b")[0] == 0


def test_interrupted_wait_says_that_the_run_goes_on(api, pipeline, monkeypatch, capfd):
    api.states = [{"state": "RUNNING"}]

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("branchline.pipeline.kubeflow.follow_run.time.sleep", interrupt)
    assert main(["submit", str(pipeline), "--host", api.url, "--wait"]) == 130
    address = f"{api.url}/#/runs/details/run_id-1"
    assert capfd.readouterr().err == (
        f"run_kubeflow: interrupted; waiting stops, the run goes on: {address}\n"
    )


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


# Pipelines and parameters that are wrong


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: [", "is no YAML in line"),
        ("just text", "is no pipeline"),
        ("", "is no pipeline"),
        ("pipelineInfo: {name: a}", "it has no root.dag.tasks"),
        ('{"pipelineSpec": {}}', "is a job with a pipeline inside"),
        (yaml.safe_dump_all([SPEC, {"kind": "Workflow"}]), "only one with `platforms`"),
        (b"\xff\xfe\x00\xd8", "is no YAML"),
        (edited("pipelineInfo", name=7), "pipelineInfo.name is no text"),
        (edited("root", "dag", tasks=["Router"]), "root.dag.tasks is no table of tables"),
        (edited("root", "dag", "tasks", Router=None), "root.dag.tasks is no table of tables"),
        (edited(components=None), "it has no components"),
        (edited("components", step=None), "components is no table of tables"),
        (edited("components", "step", dag={"tasks": [1]}), "components.step.dag.tasks is no"),
        (edited("root", "inputDefinitions", parameters=[1]), "parameters is no table of tables"),
        (edited("root", "inputDefinitions", "parameters", steps=None), "is no table of tables"),
        (edited("deploymentSpec", "executors", run={"resolver": {}}), "with --backend vertex"),
    ],
)
def test_file_that_is_no_pipeline_is_an_argument_error(api, tmp_path, text, words):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError, match=words) as caught:
        run(path, "--host", api.url)
    assert str(path) in str(caught.value) and "compile" in str(caught.value)
    assert not api.requests


@pytest.mark.parametrize("definitions", [None, []], ids=["null", "list"])
def test_pipeline_without_parameters_has_none(api, tmp_path, definitions):
    path = tmp_path / "mixed.yaml"
    path.write_text(edited("root", inputDefinitions=definitions))
    assert run(path, "--host", api.url)[0] == 0
    with pytest.raises(RecipeError, match="it has: none"):
        run(path, "--host", api.url, "--parameter", "steps=3")


def test_missing_files_are_argument_errors(api, pipeline, tmp_path):
    with pytest.raises(RecipeError, match="nowhere.yaml: No such file"):
        run(tmp_path / "nowhere.yaml", "--host", api.url)
    for option in ("--token-file", "--service-account-token", "--ca-cert"):
        with pytest.raises(RecipeError, match=f"{option} .*nowhere: No such file"):
            run(pipeline, "--host", api.url, option, tmp_path / "nowhere")
    assert not api.requests


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("step=3", r"no such parameter; did you mean steps\? \(it has: data, steps, rate"),
        ("steps", "expected NAME=VALUE"),
        ("steps=many", "got 'many', expected a whole number"),
        ("steps=1.5", "got '1.5', expected a whole number"),
        ("steps=true", "got 'true', expected a whole number"),
        ("rate=NaN", "got 'NaN', expected a number"),
        ("resume=1", "got '1', expected true or false"),
        ("routes=a", "expected a JSON list"),
        ("thresholds=[]", "expected a JSON object"),
    ],
)
def test_wrong_parameter_is_an_argument_error(api, pipeline, assignment, words):
    with pytest.raises(RecipeError, match=words):
        run(pipeline, "--host", api.url, "--parameter", assignment)
    assert not api.requests


ROUTING = to_json(
    RoutingTable(Route("a", when.present("x"), features={"x": Numeric()}, label="y", task="binary"))
)


def recipe_spec(recipe_file="", routing=ROUTING):
    constants = {
        "DataFingerprint": {},
        "MixedExampleGen": {"recipe_file": recipe_file},
        "BranchTrainer": {},
        "BranchEvaluator": {"routing": routing},
    }
    steps = {
        step: {
            "inputs": {"parameters": {n: {"runtimeValue": {"constant": v}} for n, v in of.items()}}
        }
        for step, of in constants.items()
    }
    return {"root": {"dag": {"tasks": steps}}}


@pytest.mark.parametrize(
    "values, words",
    [
        ({"data": "records/"}, "--parameter data: got 'records/', a path on this machine"),
        ({"data": ""}, "the recipe writes no records of its own"),
        ({"steps": 0}, "--parameter steps: got 0, expected an int of at least 1"),
        ({"thresholds": "0.9"}, "thresholds: got 0.9, expected an object"),
        ({"thresholds": "{'a'"}, "expected JSON such as"),
        ({"thresholds": '{"b": {"auc": 0.9}}'}, "got 'b', expected one of the routes a"),
        ({"thresholds": '{"a": {"auc": "high"}}'}, "got 'high', expected a finite number"),
    ],
)
def test_value_that_a_step_would_fail_on_is_an_argument_error(values, words):
    with pytest.raises(RecipeError, match=words):
        check_values(values, recipe_spec())
    check_values(values, {"root": {"dag": {"tasks": {"Another": {}}}}})


@pytest.mark.parametrize("routing", [None, 7, "{", "[]", '{"type": "Unknown"}'])
def test_values_that_can_be_right_are_let_through(routing):
    values = {"data": '["s3://b/x"]', "steps": 3, "thresholds": '{"a": {"auc": 0.9}}'}
    check_values(values, recipe_spec())
    check_values({"data": "/data/records"}, recipe_spec())
    check_values({"data": ""}, recipe_spec("recipe:mixed"))
    check_values({"thresholds": "{}"}, recipe_spec(routing=routing))


def test_parameter_without_default_must_be_given_once(api, tmp_path):
    declared = {"data": {"parameterType": "STRING"}}
    path = write(
        tmp_path / "mixed.yaml",
        SPEC | {"root": SPEC["root"] | {"inputDefinitions": {"parameters": declared}}},
    )
    with pytest.raises(RecipeError, match="parameter data has no default"):
        run(path, "--host", api.url)
    with pytest.raises(RecipeError, match="--parameter data: given twice"):
        run(path, "--host", api.url, "--parameter", "data=a", "--parameter", "data=b")
    assert run(path, "--host", api.url, "--parameter", "data=")[0] == 0
    assert only(api.runs)["runtime_config"]["parameters"] == {"data": ""}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--retries", "-1"],
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--token-file", "a", "--service-account-token", "b"],
        ["--no-such-option"],
    ],
)
def test_wrong_option_ends_with_code_2(pipeline, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(pipeline, "--host", "http://localhost", *arguments)
    assert caught.value.code == 2


def test_submit_imports_nothing_heavy():
    code = (
        "import branchline.pipeline.kubeflow.submit, sys; "
        "print({'kfp', 'kfp_server_api', 'yaml', 'tensorflow', 'tfx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
