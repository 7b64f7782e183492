"""Where the server is and what it wants to see: tokens, addresses and TLS."""

import subprocess
import time

import pytest
from builders_submit import api as api
from builders_submit import headers, kfp_is_quiet, run
from builders_submit import pipeline as pipeline
from kfp_api import API, Fault, KfpApi, served

from branchline.schemas import BranchlineError, RecipeError

pytestmark = kfp_is_quiet


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

    from branchline.pipeline.kubeflow.submit import credentials

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
    from branchline.pipeline.kubeflow.submit import connection

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
