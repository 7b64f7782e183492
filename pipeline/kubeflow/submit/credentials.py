"""Reads from options and environment where the server is and what it wants to see."""

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from branchline.pipeline.kubeflow.submit.submit_arguments import HOST_VARIABLE, TOKEN_VARIABLE
from branchline.schemas import RecipeError

# As in kfp.client, whose import takes half a second.
POD_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"


def find_host(given: str | None) -> str:
    """The address without what a browser adds to it.

    Raises:
        RecipeError: There is none, or it is no address.
    """
    host = given or os.environ.get(HOST_VARIABLE)
    if not host:
        raise RecipeError(
            f"no host: give --host, or set {HOST_VARIABLE}; for example "
            "https://kubeflow.example.com/pipeline, or http://localhost:8080 with "
            "`kubectl port-forward --namespace kubeflow svc/ml-pipeline-ui 8080:80`"
        )
    expected = "expected an address as https://HOST[:PORT][/PATH]"
    try:
        parts = urlsplit(host)
        port = parts.port
    except ValueError as error:
        raise RecipeError(f"--host: got {host!r} ({error}), {expected}") from error
    if parts.username is not None:
        raise RecipeError(f"--host: {expected}, without a user or password; see --token-file")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise RecipeError(f"--host: got {host!r}, {expected}")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def token_reader(options: Namespace) -> Callable[[], str] | None:
    """What gives the bearer token at every request, None without one.

    A file is read anew each time: Kubernetes replaces the tokens that it projects. Errors never
    show a token.
    """
    if options.token_file is not None:
        return _file_reader("--token-file", options.token_file)
    if options.service_account_token is not None:
        path = options.service_account_token or os.environ.get(POD_TOKEN_VARIABLE) or POD_TOKEN
        return _file_reader("--service-account-token", path)
    if text := os.environ.get(TOKEN_VARIABLE):
        return lambda: _check_token(TOKEN_VARIABLE, text)
    return None


def check_file(option: str, path: str) -> None:
    """Rejects a file that cannot be read."""
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(f"{option} {path}: {error.strerror}") from error


def _file_reader(option: str, path: str) -> Callable[[], str]:
    if path.startswith("eyJ"):  # how every JSON web token begins
        raise RecipeError(f"{option}: expected the path of a file, got what looks like a token")

    def read() -> str:
        check_file(option, path)
        return _check_token(f"{option} {path}", Path(path).read_text(errors="replace"))

    return read


def _check_token(where: str, text: str) -> str:
    token = text.strip().removeprefix("Bearer ").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise RecipeError(f"{where}: expected a bearer token, one line without spaces")
    return token
