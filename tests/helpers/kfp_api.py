"""An API server of Kubeflow Pipelines v2beta1, its state in memory, to submit to."""

import json
import re
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"


@dataclass
class Fault:
    """What the server answers `times` times to requests of one kind, instead of the truth.

    With `carried_out` it does what was asked before, and only the answer is lost.
    """

    request: str  # a regular expression, for "POST /apis/v2beta1/runs"
    status: int = 503
    body: str = '{"error": "upstream connect error"}'
    headers: dict[str, str] = field(default_factory=dict)
    times: float = 1
    carried_out: bool = False
    hang_up: bool = False


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class KfpApi:
    """The server's state; `url` is its address.

    Attributes:
        requests: (method, path, headers) of all requests.
        states: What the next questions for a run are answered with, the last one for ever.
        token: The bearer token it wants to see, None for any or none.
    """

    def __init__(self):
        self.pipelines: dict[str, dict] = {}
        self.versions: dict[str, dict] = {}
        self.files: dict[str, bytes] = {}
        self.experiments: dict[str, dict] = {}
        self.runs: dict[str, dict] = {}
        self.requests: list[tuple[str, str, dict]] = []
        self.faults: list[Fault] = []
        self.states: list[dict] = [{"state": "SUCCEEDED"}]
        self.token: str | None = None
        self.multi_user = False
        self.url = ""
        self.on_request: Callable[[], None] = lambda: None

    def sent(self, request: str) -> int:
        """How many requests such as "POST /runs" came."""
        return [f"{m} {p}" for m, p, _ in self.requests].count(request.replace(" ", f" {API}"))

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> dict:
        method_of = {
            rf"GET {API}/healthz": self._health,
            rf"GET {API}/experiments": lambda **k: self._list("experiments", **k),
            rf"POST {API}/experiments": self._make_experiment,
            rf"GET {API}/pipelines": lambda **k: self._list("pipelines", **k),
            rf"POST {API}/pipelines": self._make_pipeline,
            rf"GET {API}/pipelines/(?P<pipeline_id>[^/]+)/versions": self._list_versions,
            rf"POST {API}/pipelines/upload_version": self._upload_version,
            rf"GET {API}/runs": self._list_runs,
            rf"POST {API}/runs": self._make_run,
            rf"GET {API}/runs/(?P<run_id>[^/]+)": self._get_run,
        }
        for pattern, function in method_of.items():
            if match := re.fullmatch(pattern, f"{method} {path}"):
                extra = {"body": body} if method == "POST" else {}
                return function(**match.groupdict(), **query, **extra)
        raise Refused(404, "Not Found")

    def _health(self) -> dict:
        return {"multi_user": True} if self.multi_user else {}

    def _namespace(self, namespace: str) -> str:
        if self.multi_user and not namespace:
            raise Refused(400, "Invalid input error: namespace is empty")
        return namespace if self.multi_user else ""

    def _list(self, kind: str, filter: str, namespace: str = "") -> dict:
        found = [
            one
            for one in _filtered(getattr(self, kind), filter)
            if one["namespace"] == self._namespace(namespace)
        ]
        return {kind: found} if found else {}

    def _make_experiment(self, body: dict) -> dict:
        return _make(self.experiments, "experiment_id", self._owned(body))

    def _make_pipeline(self, body: dict) -> dict:
        return _make(self.pipelines, "pipeline_id", self._owned(body))

    def _owned(self, body: dict) -> dict:
        return body | {"namespace": self._namespace(body.get("namespace", ""))}

    def _list_versions(self, pipeline_id: str, filter: str) -> dict:
        found = [v for v in _filtered(self.versions, filter) if v["pipeline_id"] == pipeline_id]
        return {"pipeline_versions": found} if found else {}

    def _upload_version(
        self, name: str, pipelineid: str, body: tuple[str, bytes], description: str = ""
    ) -> dict:
        file_name, content = body
        if not file_name.endswith(".yaml") or pipelineid not in self.pipelines:
            raise Refused(400, "Failed to create a pipeline version")
        fields = {"display_name": name, "pipeline_id": pipelineid, "description": description}
        version = _make(self.versions, "pipeline_version_id", fields)
        self.files[version["pipeline_version_id"]] = content
        return version

    def _list_runs(self, experiment_id: str, filter: str, sort_by: str, page_size: str) -> dict:
        if sort_by != "created_at desc":
            raise Refused(400, f"Invalid sort {sort_by}")
        found = [r for r in _filtered(self.runs, filter) if r["experiment_id"] == experiment_id]
        return {"runs": found[::-1][: int(page_size)]} if found else {}

    def _make_run(self, body: dict) -> dict:
        version = body["pipeline_version_reference"]["pipeline_version_id"]
        if body["experiment_id"] not in self.experiments or version not in self.versions:
            raise Refused(404, "Failed to find it")
        return _make(self.runs, "run_id", body, unique=False)

    def _get_run(self, run_id: str) -> dict:
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return self.runs[run_id] | state


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # clients hang up in some tests
            super().handle_error(request, client_address)


@contextmanager
def served(api: KfpApi, ssl_context=None):
    """Serves `api` at `api.url` meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._serve()

        def do_POST(self):
            self._serve()

        def _serve(self):
            url = urlsplit(self.path)
            api.requests.append((self.command, url.path, dict(self.headers)))
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.on_request()
            for fault in api.faults:
                if fault.times > 0 and re.fullmatch(fault.request, f"{self.command} {url.path}"):
                    fault.times -= 1
                    if fault.carried_out:
                        self._answer(url, content)
                    if not fault.hang_up:
                        self._send(fault.status, fault.body, fault.headers)
                    return
            self._send(*self._answer(url, content))

        def _answer(self, url, content):
            headers = {"Content-Type": "application/json"}
            if api.token is not None and self.headers["authorization"] != f"Bearer {api.token}":
                return 401, '{"error": "Unauthenticated", "code": 16}', headers
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            kind = self.headers.get("Content-Type", "")
            try:
                if kind.startswith("multipart/form-data"):
                    body = _uploaded(content, kind.partition("boundary=")[2])
                else:
                    body = json.loads(content) if content else None
                return 200, json.dumps(api.answer(self.command, url.path, query, body)), headers
            except Refused as error:
                return error.status, json.dumps({"error": str(error), "code": 5}), headers

        def _send(self, status, body, headers):
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body.encode()))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format, *args):
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if ssl_context is not None:
        scheme = "https"
        server.socket = ssl_context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    api.url = f"{scheme}://localhost:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _make(table: dict[str, dict], key: str, fields: dict, unique: bool = True) -> dict:
    same = ("display_name", "namespace", "pipeline_id")
    if unique and any(all(o.get(f) == fields.get(f) for f in same) for o in table.values()):
        raise Refused(409, "Already exist error: the name must be unique")
    made = fields | {key: f"{key}-{len(table) + 1}"}
    table[made[key]] = made
    return made


def _filtered(table: dict[str, dict], filter: str) -> list[dict]:
    (predicate,) = json.loads(filter)["predicates"]
    assert predicate["operation"] in ("EQUALS", 1) and predicate["key"] == "display_name"
    return [one for one in table.values() if one["display_name"] == predicate["stringValue"]]


def _uploaded(content: bytes, boundary: str) -> tuple[str, bytes]:
    part = content.split(b"--" + boundary.encode())[1]
    head, _, rest = part.partition(b"\r\n\r\n")
    assert b'name="uploadfile"' in head
    match = re.search(rb'filename="([^"]+)"', head)
    assert match is not None
    return match[1].decode(), rest.removesuffix(b"\r\n")
