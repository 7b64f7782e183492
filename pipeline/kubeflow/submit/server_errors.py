"""Says in one line why a server did not do what it was asked, and what helps."""

import json
import socket
from typing import Any

import urllib3

from branchline.schemas import BranchlineError

_NEW_TOKEN = (
    "make a new one, for example with `kubectl create token SERVICE_ACCOUNT --namespace NAMESPACE "
    "--audience pipelines.kubeflow.org`, and give it as --token-file"
)


class Unavailable(BranchlineError):
    """No answer came, or 5xx: the same request may succeed later, or has without our knowing."""


class Conflict(BranchlineError):
    """What was to be made is already there (409)."""


def refusal(
    host: str, url: str, status: int, reason: str, body: str | bytes | None, has_token: bool
) -> BranchlineError:
    """The error of an answer whose status is not 2xx."""
    said = f"{status}: {_message(body) or reason}"
    if status >= 500:
        return Unavailable(f"{host} cannot serve now ({said})")
    if status in (401, 403) and is_page(body):
        return BranchlineError(f"{web_page(host, has_token)} ({status})")
    if status == 401 and has_token:
        return BranchlineError(
            f"the token was refused by {host} ({said}): it may have expired or be meant for "
            f"another audience; {_NEW_TOKEN}"
        )
    if status == 401:
        return BranchlineError(f"{host} wants a token ({said}); {_NEW_TOKEN}")
    if status == 403:
        return BranchlineError(
            f"{host} does not allow it ({said}); check --namespace, and the roles in it of the "
            "account whose token this is"
        )
    if status == 404 and url.endswith("/healthz"):
        return BranchlineError(
            f"no API of Kubeflow Pipelines 2 at {host} ({status}); the address of a whole Kubeflow "
            "ends with /pipeline, as in https://kubeflow.example.com/pipeline"
        )
    if status == 409:
        return Conflict(f"{host} has that already ({said})")
    return BranchlineError(f"{host} refused the request ({said})")


def no_answer(host: str, error: urllib3.exceptions.HTTPError) -> BranchlineError:
    """The error of a request to which no answer came."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.SSLError):
        return tls_failure(host, str(cause))
    if isinstance(cause, urllib3.exceptions.ResponseError) and "redirect" in str(cause):
        return BranchlineError(f"{host} redirects without end; check --host")
    lookup = _among_causes(cause, socket.gaierror)
    if lookup is not None:
        problem = f"the name in {host} is not known ({lookup.strerror}); check --host"
        lasting = lookup.errno == socket.EAI_NONAME
        return BranchlineError(problem) if lasting else Unavailable(problem)
    if _among_causes(cause, ConnectionRefusedError) is not None:
        return Unavailable(
            f"{host} refuses the connection: nothing listens there; check --host, and whether a "
            "port-forward still runs"
        )
    if isinstance(cause, urllib3.exceptions.TimeoutError):
        return Unavailable(f"{host} does not answer in time; check --host and the network")
    return Unavailable(f"the connection to {host} broke ({_one_line(str(cause))})")


def tls_failure(host: str, text: str) -> BranchlineError:
    """The error of a connection that could not be secured."""
    if "WRONG_VERSION_NUMBER" in text.upper().replace(" ", "_"):
        advice = "the server speaks plain http:// there"
    elif "CERTIFICATE" in text.upper():
        advice = "give the file of its certificate authority as --ca-cert"
    else:
        advice = "check --host and --ca-cert"
    return BranchlineError(f"TLS with {host} fails: {_one_line(text)}; {advice}")


def web_page(host: str, has_token: bool) -> str:
    """What to say of an answer that is HTML."""
    token = "its token was not accepted" if has_token else "give a token as --token-file"
    return (
        f"{host} answers with a web page instead of the API: a proxy's login page (as of dex or "
        f"oauth2-proxy; {token}) or an address that is not the API's"
    )


def is_page(body: str | bytes | None) -> bool:
    """Whether an answer is HTML."""
    return _text(body).lstrip().startswith("<")


def _message(body: str | bytes | None) -> str:
    text = _text(body)
    try:
        answer: Any = json.loads(text)
    except ValueError:
        return "" if is_page(text) else _one_line(text)
    fields = ("error_message", "message", "error")  # of uploads, of later and earlier servers
    said = [answer[field] for field in fields if isinstance(answer, dict) and answer.get(field)]
    return _one_line(str(said[0]) if said else text)


def _text(body: str | bytes | None) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else body or ""


def _among_causes(error: BaseException | None, kind: type[OSError]) -> OSError | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}…"
