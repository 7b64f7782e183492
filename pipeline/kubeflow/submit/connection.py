"""Talks to the API of Kubeflow Pipelines; needs the extra `kubeflow`."""

import json
import random
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import kfp_server_api
import urllib3
from kfp_server_api.rest import RESTResponse
from urllib3.util import Retry

from branchline.pipeline.kubeflow.submit.server_errors import (
    Conflict,
    Unavailable,
    is_page,
    no_answer,
    refusal,
    tls_failure,
    web_page,
)
from branchline.schemas import BranchlineError

_Made = TypeVar("_Made")

_TIMEOUTS_S = (10, 120)  # to connect, and for the answer
_LONGEST_PAUSE_S = 30.0
# Otherwise urllib3 repeats requests by itself: without a pause, or as long as the server says.
_ONLY_REDIRECTS: dict[str, Any] = {
    **{"redirect": 5, "connect": 0, "read": 0, "status": 0, "other": 0},
    "respect_retry_after_header": False,
}


class Connection(kfp_server_api.ApiClient):
    """kfp's API client with timeouts, retries, and errors that say what to do.

    `kfp.Client` stands on the same API client. But it waits without end for a silent host, its
    constructor tries five times, 5 s apart, and hides what the server said, and its `run_pipeline`
    cannot mark a run.

    Args:
        host: Such as `https://kubeflow.example.com/pipeline`.
        read_token: Gives the bearer token; asked before every request, as tokens get renewed.
        ca_cert: File of a certificate authority, PEM.
        retries: How often a request is repeated.
        backoff_s: Pause before the first repetition; doubles each time, up to 30 s.
        note: Told of every repetition.
    """

    def __init__(
        self,
        host: str,
        *,
        read_token: Callable[[], str] | None,
        ca_cert: str | None,
        retries: int,
        backoff_s: float,
        note: Callable[[str], None],
    ):
        configuration: Any = kfp_server_api.Configuration(host=host)
        configuration.ssl_ca_cert = ca_cert
        configuration.retries = Retry(**_ONLY_REDIRECTS)
        if read_token is not None:
            configuration.api_key = {"authorization": read_token()}
            configuration.api_key_prefix = {"authorization": "Bearer"}
            configuration.refresh_api_key_hook = lambda self: self.api_key.update(
                authorization=read_token()
            )
        super().__init__(configuration)
        self.host = host
        self._has_token = read_token is not None
        self._retries = retries
        self._backoff_s = backoff_s
        self._note = note

    def request(self, method: str, url: str, *arguments: Any, **details: Any) -> RESTResponse:
        """Sends one request; one that only reads is repeated.

        Raises:
            Unavailable: No answer, or 5xx, also after the repetitions.
            Conflict: The server has that already.
            BranchlineError: The server refused, or is no API of Kubeflow Pipelines.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._send(method, url, *arguments, **details)
            except Unavailable as error:
                if method != "GET" or attempt > self._retries:
                    raise
                self._pause(attempt, error)

    def make_once(self, make: Callable[[], _Made], find: Callable[[], _Made | None]) -> _Made:
        """Makes something on the server, and not twice where it can be known.

        A request without an answer may have been carried out. So `find` looks before every
        repetition, and after the last. What stays possible: a server that carries a request out
        only after it was seen not to have.

        Args:
            make: Sends the request.
            find: Finds what `make` makes, None where it is not there.

        Raises:
            Unavailable: It was not made, or that could not be found out.
            BranchlineError: The server refused.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return make()
            except (Conflict, Unavailable) as error:
                failure = error
            if isinstance(failure, Unavailable) and attempt <= self._retries:
                self._pause(attempt, failure)
            found = find()
            if found is not None:
                return found
            if isinstance(failure, Conflict) or attempt > self._retries:
                raise failure

    def _pause(self, attempt: int, error: Unavailable) -> None:
        longest = min(_LONGEST_PAUSE_S, self._backoff_s * 2 ** (attempt - 1))
        pause = longest * random.uniform(0.5, 1)  # not all clients at the same moment
        self._note(f"{error}; trying again in {pause:.1f} s ({attempt} of {self._retries})")
        time.sleep(pause)

    def _send(self, method: str, url: str, *arguments: Any, **details: Any) -> RESTResponse:
        details["_request_timeout"] = _TIMEOUTS_S
        try:
            response = super().request(method, url, *arguments, **details)
        except kfp_server_api.ApiException as error:
            reason = str(error.reason)
            if not error.status:
                raise tls_failure(self.host, reason) from error
            raise refusal(
                self.host, url, int(error.status), reason, error.body, self._has_token
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise no_answer(self.host, error) from error
        if is_page(response.data):
            raise BranchlineError(web_page(self.host, self._has_token))
        if not response.data.lstrip().startswith(b"{"):
            raise BranchlineError(
                f"{self.host} answers with something else than the JSON of Kubeflow Pipelines; "
                "check --host"
            )
        return response


def call(service: object, method: str, *arguments: Any, **options: Any) -> Any:
    """Calls a method of the API: `create_run` is `run_service_create_run` in later clients."""
    name = type(service).__name__.removesuffix("Api")
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    function = getattr(service, f"{prefix}_{method}", None) or getattr(service, method)
    return function(*arguments, **options)


def named(name: str) -> str:
    """The filter of the API for what is called `name`."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})
