"""Where on a cluster artifacts, models and records lie, and whether steps can reach them there."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from branchline.schemas import RecipeError

VOLUME_MOUNT = "/branchline-volume"
_STORES = ("s3", "gs", "minio")
_BUCKET = re.compile(r"[\w.-]+", re.ASCII)
# No dots: KFP's driver (driver/k8s.go makeVolumeMountPatch) names the pod's volume like the claim.
_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Of an installation of Kubeflow Pipelines that brings its own object store.
_MINIO_SECRETS = {
    "AWS_ACCESS_KEY_ID": "mlpipeline-minio-artifact/accesskey",
    "AWS_SECRET_ACCESS_KEY": "mlpipeline-minio-artifact/secretkey",
}


@dataclass(frozen=True)
class Place:
    """Where everything lies that outlives a step.

    Args:
        root: The pipeline root; "" for the cluster's own.
        volume: Folder of a mounted volume that holds the artifacts instead; "" for none.
        serving_dir: Gets the pushed models.
        checkpoint_dir: Where training can go on from; "" for nowhere.
        mounts: Persistent volume claim → where it is mounted in every step.
        data: Paths of records, or "".
        env: Environment variables that steps need to reach the object store.
        secrets: The same, each as `<secret>/<key>`.
        cluster_store: Whether steps look for the store that Kubeflow Pipelines brought.
    """

    root: str
    volume: str
    serving_dir: str
    checkpoint_dir: str
    mounts: dict[str, str] = field(default_factory=dict)
    data: str = ""
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    cluster_store: bool = False


def find_place(
    recipe_name: str,
    *,
    backend: str,
    pipeline_root: str,
    serving_dir: str | None = None,
    volumes: Sequence[str] = (),
    data: Sequence[str] = (),
    s3_endpoint: str | None = None,
) -> Place:
    """Reads what the command line says about places.

    Args:
        recipe_name: Names the folder of the pushed models.
        backend: "kfp" or "vertex".
        pipeline_root: `s3://`, `gs://`, `minio://` or `volume://CLAIM/PATH`.
        serving_dir: A folder; None for one under the root.
        volumes: `CLAIM:PATH` each.
        data: Where records lie.
        s3_endpoint: URL of an S3 that is not Amazon's.

    Raises:
        RecipeError: Steps on the backend could not reach a place.
    """
    scheme = _scheme(pipeline_root)
    if backend == "vertex":
        if scheme != "gs":
            raise RecipeError(f"--pipeline-root {pipeline_root}: Vertex AI needs gs://BUCKET/PATH")
        if volumes or s3_endpoint:
            raise RecipeError("--volume and --s3-endpoint are of Kubernetes; Vertex AI has neither")
    elif scheme not in (*_STORES, "volume"):
        raise RecipeError(
            f"--pipeline-root {pipeline_root} {_not_there(scheme)}; expected s3://BUCKET/PATH, "
            "gs://…, minio://… or volume://CLAIM/PATH"
        )
    _check_path("--pipeline-root", pipeline_root)
    mounts = _read_volumes(volumes)
    root, volume = pipeline_root.rstrip("/"), ""
    if scheme == "volume":
        claim, _, path = root.removeprefix("volume://").partition("/")
        _check_claim(f"--pipeline-root {pipeline_root}", claim)
        mounts = {claim: VOLUME_MOUNT} | mounts
        root, volume = "", str(PurePosixPath(mounts[claim], path))
    _check_mounts(mounts)
    place = Place(
        root=root,
        volume=volume,
        # A root may have a query, such as ?endpoint=…, for KFP's launcher.
        serving_dir=serving_dir or f"{volume or root.partition('?')[0]}/serving/{recipe_name}",
        checkpoint_dir=f"{volume}/checkpoints/{recipe_name}" if volume else "",
        mounts=mounts,
        data=data[0] if len(data) == 1 else json.dumps(list(data)) if data else "",
    )
    for what, path in [("--serving-dir", place.serving_dir), *(("--data", each) for each in data)]:
        _check_reachable(what, path, backend, place)
    return _with_store(place, [root, place.serving_dir, *data], s3_endpoint)


def _with_store(place: Place, paths: Sequence[str], endpoint: str | None) -> Place:
    """Adds what it takes to reach an object store that is not the cloud's own."""
    if endpoint and not re.fullmatch(r"https?://[^\s/?#]+/?", endpoint):
        raise RecipeError(f"--s3-endpoint: got {endpoint!r}, expected http(s)://HOST[:PORT]")
    schemes = {_scheme(path) for path in paths}
    if {"s3", "minio"} <= schemes and not endpoint:
        raise RecipeError(
            "s3:// and minio:// together: a step can reach only one of Amazon's S3 and the "
            "cluster's own store; use one scheme, or --s3-endpoint for a store that has both"
        )
    minio = "minio" in schemes
    return dataclasses.replace(
        place,
        env={"AWS_ENDPOINT_URL": endpoint} if endpoint else {},
        secrets=dict(_MINIO_SECRETS) if minio else {},
        cluster_store=minio and not endpoint,
    )


def _check_reachable(what: str, path: str, backend: str, place: Place) -> None:
    scheme = _scheme(path)
    _check_path(what, path)
    if scheme in (("gs",) if backend == "vertex" else _STORES):
        return
    mounts = place.mounts.values()
    if not scheme and any(PurePosixPath(path).is_relative_to(mount) for mount in mounts):
        return
    if backend == "vertex":
        raise RecipeError(f"{what} {path}: Vertex AI needs gs://BUCKET/PATH")
    known = f" ({', '.join(mounts)})" if mounts else ""
    raise RecipeError(
        f"{what} {path} {_not_there(scheme)}; expected s3://…, gs://…, minio://…, or a path on a "
        f"mounted --volume{known}"
    )


def _check_path(what: str, path: str) -> None:
    scheme = _scheme(path)
    rest = path.removeprefix(f"{scheme}://").partition("?")[0]
    if ".." in rest.split("/"):
        raise RecipeError(f"{what} {path}: expected a path without ..")
    if scheme in _STORES and not _BUCKET.fullmatch(rest.partition("/")[0]):
        raise RecipeError(f"{what} {path} names no bucket; expected {scheme}://BUCKET/PATH")


def _not_there(scheme: str) -> str:
    if scheme:
        return f"has the scheme {scheme}://, which no step can read"
    return "is a path on this machine, which the cluster's containers do not see"


def _read_volumes(texts: Sequence[str]) -> dict[str, str]:
    mounts: dict[str, str] = {}
    for text in texts:
        claim, _, path = text.partition(":")
        _check_claim(f"--volume {text}", claim)
        if not re.fullmatch(r"(/[^/:]+)+/?", path) or ".." in path.split("/"):
            raise RecipeError(f"--volume {text}: expected CLAIM:/ABSOLUTE/PATH")
        if claim in mounts:
            raise RecipeError(f"--volume {text}: {claim} is mounted at {mounts[claim]} already")
        mounts[claim] = path.rstrip("/")
    return mounts


def _check_mounts(mounts: Mapping[str, str]) -> None:
    if len(set(mounts.values())) < len(mounts):
        raise RecipeError(
            "two volumes are mounted at the same path: "
            + ", ".join(f"{claim} at {path}" for claim, path in mounts.items())
        )


def _check_claim(what: str, claim: str) -> None:
    if not _CLAIM.fullmatch(claim):
        raise RecipeError(
            f"{what}: got {claim!r}, expected the name of a persistent volume claim "
            "(a-z, 0-9 and dashes)"
        )


def _scheme(path: str) -> str:
    scheme, found, _ = path.partition("://")
    return scheme if found else ""
