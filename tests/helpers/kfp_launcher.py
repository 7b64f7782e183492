"""What a launcher puts around a container: its inputs as files before, its outputs published after.

Two launchers: `TfxLauncher` gives a step all that TFX (and Vertex AI) say of its artifacts;
`KfpLauncher` is the one of open-source Kubeflow Pipelines, which copies files between an object
store and the container and hands on what MLMD has kept. Facts: provisionOutputs in
backend/src/v2/driver/driver.go and backend/src/v2/component/launcher_v2.go of
https://github.com/kubeflow/pipelines, read at 2.17.

A container has a file system of its own. Here steps share one, so what the launcher put there for
a step is removed after it, as soon as no other step that runs at that time uses the same.
"""

import os
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from kfp_stores import SCHEMES, ArtifactStore, ObjectStore, local_path


class StepFailed(Exception):
    """A container's command, or the launcher after it; the message has the end of the log."""


class TfxLauncher:
    """Files lie where they are written; a consumer gets what the producer wrote of an artifact."""

    def __init__(self, root: Path):
        self.root = str(root)
        self._artifacts: dict[str, dict] = {}

    def provision(self, task_root: str, task: str, definitions: dict) -> dict:
        """The outputs of an ExecutorInput."""
        artifacts = definitions.get("artifacts", {})
        return {
            "artifacts": {
                name: {"artifacts": [self._output(f"{task_root}/{name}", output)]}
                for name, output in artifacts.items()
            },
            "parameters": {
                name: {"outputFile": f"{task_root}/{name}.txt"}
                for name in definitions.get("parameters", {})
            },
            "outputFile": f"{task_root}/executor_output.json",
        }

    def _output(self, uri: str, output: dict) -> dict:
        return {
            "name": f"projects/1/locations/here/metadataStores/default/artifacts/{uuid.uuid4()}",
            "type": output["artifactType"],
            "uri": uri,
            "metadata": output.get("metadata", {}),
        }

    @contextmanager
    def files(self, task_root: str, executor_input: dict) -> Iterator[None]:
        """Nothing is copied."""
        Path(task_root).mkdir(parents=True)
        yield

    def path_of(self, artifact: dict) -> str | None:
        """Where its files are."""
        return artifact["uri"]

    def publish(self, run_root: str, name: str, artifact: dict) -> str:
        """Records an output; its name."""
        self._artifacts[artifact["name"]] = artifact
        return artifact["name"]

    def artifact(self, name: str) -> dict:
        """As a consumer is given it."""
        return deepcopy(self._artifacts[name])

    def close(self) -> None:
        """Leaves the files to whoever gave the directory."""


class KfpLauncher:
    """Downloads inputs to the root of the file system, uploads outputs from there.

    Args:
        root: The pipeline root, s3://bucket/… or minio://bucket/….
        store: The object store.
        scratch: Where local files go if the root of the file system cannot be written.
        custom_paths: Whether artifacts then have the `customPath` that newer releases know.
    """

    def __init__(
        self,
        root: str,
        store: ObjectStore,
        scratch: Path | None = None,
        custom_paths: bool = True,
    ):
        self.root = root
        self.store = store
        self._scratch = str(scratch or "")
        self._custom_paths = custom_paths and bool(scratch)
        self._artifacts = ArtifactStore()
        self._lock = threading.Lock()
        self._in_use: Counter[str] = Counter()

    def provision(self, task_root: str, task: str, definitions: dict) -> dict:
        """The outputs of an ExecutorInput: no names but the key, and the step's log as one more."""
        artifacts = definitions.get("artifacts", {}) | {
            "executor-logs": {"artifactType": {"schemaTitle": "system.Artifact"}}
        }
        uris = {name: f"{task_root}/{name}" for name in artifacts}
        uris["executor-logs"] += "-0"  # the first try
        parameters = definitions.get("parameters", {})
        return {
            "artifacts": {
                name: {"artifacts": [self._output(name, uris[name], output)]}
                for name, output in artifacts.items()
            },
            # /tmp/kfp/outputs there; here two steps may run at once
            "parameters": {
                name: {"outputFile": f"{self.local(task_root)}/kfp/outputs/{name}"}
                for name in parameters
            },
            "outputFile": f"{self.local(task_root)}/output_metadata.json",
        }

    def _output(self, name: str, uri: str, output: dict) -> dict:
        artifact = {"name": name, "type": output["artifactType"], "uri": uri}
        if "metadata" in output:
            artifact["metadata"] = output["metadata"]
        return self._with_path(artifact)

    def local(self, uri: str) -> str:
        """The place of a URI in this file system."""
        return f"{self._scratch}{local_path(uri)}"

    def path_of(self, artifact: dict) -> str | None:
        """Where its files are put or taken from; None if it is left alone."""
        known = local_path(artifact["uri"])
        return artifact.get("customPath") or (self.local(artifact["uri"]) if known else None)

    def _with_path(self, artifact: dict) -> dict:
        custom = {"customPath": self.local(artifact["uri"])} if self._custom_paths else {}
        return artifact | custom

    @contextmanager
    def files(self, task_root: str, executor_input: dict) -> Iterator[None]:
        """Inputs are there; afterwards all that is local is gone, as with a container."""
        inputs = [a for a in _artifacts(executor_input["inputs"]) if local_path(a["uri"])]
        uris = {artifact["uri"] for artifact in inputs}
        try:
            for uri in uris:
                with self._lock:
                    self._in_use[uri] += 1
                    if self._in_use[uri] == 1:
                        self._download(uri)
            for artifact in _artifacts(executor_input["outputs"]):
                Path(self.local(artifact["uri"])).parent.mkdir(parents=True, exist_ok=True)
            for parameter in executor_input["outputs"]["parameters"].values():
                Path(parameter["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            shutil.rmtree(self.local(task_root), ignore_errors=True)
            for uri in uris:
                with self._lock:
                    self._in_use[uri] -= 1
                    if not self._in_use[uri]:
                        shutil.rmtree(self.local(uri), ignore_errors=True)

    def _download(self, uri: str) -> None:
        try:
            self.store.download(uri, self.local(uri))
        except OSError as error:
            raise StepFailed(f"failed to download input artifact from {uri}: {error}") from error

    def publish(self, run_root: str, name: str, artifact: dict) -> str:
        """Uploads an output and records it; its id."""
        path = self.path_of(artifact)
        if path:
            if not artifact["uri"].startswith(f"{run_root}/"):
                raise StepFailed(
                    f"failed to upload output artifact {name!r}: URI {artifact['uri']!r} does not "
                    f"have expected bucket prefix {run_root!r}"
                )
            self.store.upload(path, artifact["uri"])
        return self._artifacts.put(name, artifact)

    def artifact(self, name: str) -> dict:
        """As a consumer is given it."""
        return self._with_path(self._artifacts.get(name))

    def close(self) -> None:
        """Removes what is left at the root of the file system, but no folder of somebody else."""
        bucket = Path(self.local("/".join(self.root.split("/")[:3])))
        shutil.rmtree(bucket, ignore_errors=True)
        if not any(bucket.parent.glob("*")) and bucket.parent.exists():
            bucket.parent.rmdir()


Launcher = TfxLauncher | KfpLauncher


def at_root(root: Path = Path("/")) -> bool:
    """Whether the launcher's own places can be written here."""
    return os.access(root, os.W_OK) and not any(
        (root / p.lstrip("/")).exists() and not os.access(root / p.lstrip("/"), os.W_OK)
        for p in SCHEMES.values()
    )


def _artifacts(side: dict) -> list[dict]:
    return [artifact for each in side["artifacts"].values() for artifact in each["artifacts"]]
