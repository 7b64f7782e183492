"""Where Kubeflow Pipelines keeps things: files in a bucket, what is known of them in MLMD.

Facts: backend/src/v2/objectstore/object_store.go, backend/src/v2/metadata/{client,converter}.go of
https://github.com/kubeflow/pipelines, read at 2.17.
"""

import itertools
import json
import os
import posixpath
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import yaml

SCHEMES = {"s3": "/s3", "minio": "/minio", "gs": "/gcs"}  # where the launcher puts them


def local_path(uri: str) -> str | None:
    """The launcher's place for an artifact, None where it knows none and copies nothing."""
    scheme, _, rest = uri.partition("://")
    return f"{SCHEMES[scheme]}/{rest}" if scheme in SCHEMES else None


class ObjectStore:
    """The launcher's side of an S3 server."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str):
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
        )

    def keys(self, uri: str) -> dict[str, int]:
        """Key → size of all whose key begins so, as an object store lists them."""
        bucket, prefix = _split(uri)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}

    def download(self, uri: str, directory: str) -> None:
        """Every key under the artifact's becomes a file; one that ends in / is no folder to it."""
        bucket, prefix = _split(uri)
        for key in self.keys(uri):
            if key != prefix.rstrip("/") and not key.startswith(prefix.rstrip("/") + "/"):
                continue  # model_run, where model was asked for
            path = Path(posixpath.normpath(f"{directory}/{posixpath.relpath(key, prefix)}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                self.client.download_fileobj(bucket, key, file)

    def upload(self, path: str, uri: str) -> None:
        """Files keep their names; folders are only parts of names, so empty ones are lost."""
        if not Path(path).exists():
            return  # a component need not write its outputs
        if Path(path).is_file():
            self.client.upload_file(path, *_split(uri))
            return
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                self.upload(entry.path, f"{uri}/{entry.name}")
            else:
                self.client.upload_file(entry.path, *_split(f"{uri}/{entry.name}"))


class ArtifactStore:
    """Artifacts as they come out of MLMD: an id for a name, no type, properties of few types."""

    def __init__(self):
        self._ids = itertools.count(1)
        self._artifacts: dict[str, dict] = {}

    def put(self, output: str, artifact: dict) -> str:
        """Records an output of a step; its id."""
        schema = artifact["type"]
        if "schemaTitle" not in schema and "instanceSchema" not in schema:
            raise ValueError(f"failed to determine schema for output {output!r}: {schema}")
        title = schema.get("schemaTitle") or yaml.safe_load(schema["instanceSchema"])["title"]
        properties = {k: _as_property(v) for k, v in artifact.get("metadata", {}).items()}
        properties.setdefault("display_name", output)
        properties.setdefault("store_session_info", '{"Provider":"s3","Params":{"fromEnv":"true"}}')
        name = str(next(self._ids))
        self._artifacts[name] = {"uri": artifact["uri"], "title": title, "properties": properties}
        return name

    def get(self, name: str) -> dict:
        """The RuntimeArtifact that a consumer is given."""
        artifact = self._artifacts[name]
        return {
            "name": name,
            "type": {"instanceSchema": ""},
            "uri": artifact["uri"],
            "metadata": dict(artifact["properties"]),
        }


def go_json(value: Any) -> str:
    """JSON as Go writes a protocol buffer: a double without a fraction looks like an integer."""
    return json.dumps(_whole(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_property(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    raise ValueError(f"unknown/unsupported value type of {value!r}")


def _split(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")
