"""Finds the model that was blessed last among the artifacts of a pipeline's runs, and copies it.

BranchEvaluator leaves a file BLESSED for a model that passes, with the model's URI in it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from branchline.components.files.artifact_paths import beam_path, to_remote
from branchline.components.files.storage import copy_tree, exists, list_files, read_bytes
from branchline.schemas import BranchlineError

ABSENT = "absent"  # custom properties of the artifact
COPIED_FROM = "copied_from"
_BLESSED = "BLESSED"
_SAVED_MODEL = "Format-Serving/saved_model.pb"
_LEAST_BELOW = 3  # <pipeline>/<run>/<task>/<output>, on newer Kubeflow with a UUID before the last


class Place(NamedTuple):
    """Where a pipeline's artifacts lie, as Beam's file systems know it, and those of this run."""

    root: str
    own_run: str


class Candidate(NamedTuple):
    """A blessed model.

    Attributes:
        updated: When it was blessed.
        uri: Its URI as the blessing step saw it.
        model: And as Beam knows it.
        run: Where the run that blessed it has its artifacts.
    """

    updated: float
    uri: str
    model: str
    run: str


def own_place(uri: str, pipeline_name: str, volume: str | None = None) -> Place:
    """Tells from the URI of an output where the runs of its pipeline have theirs.

    Args:
        uri: `<root>/<pipeline>/<run>/<task>/…/<output>`, remote or as a step sees it.
        pipeline_name: The pipeline.
        volume: See `to_local`.

    Raises:
        BranchlineError: The pipeline's name is not in the URI.

    >>> own_place("/minio/b/v2/mixed/run-1/Baseline/1-2/model", "mixed")
    Place(root='s3://b/v2/mixed', own_run='s3://b/v2/mixed/run-1')
    """
    parts = beam_path(to_remote(uri.rstrip("/"), volume)).split("/")
    places = [i for i, part in enumerate(parts[:-_LEAST_BELOW]) if part == pipeline_name]
    if not places:
        raise BranchlineError(
            f"{uri}: the step's output does not lie in a directory {pipeline_name!r} of the "
            "pipeline's artifacts, as Kubeflow lays them out, so that those of earlier runs cannot "
            "be found; elsewhere use TFX's Resolver with LatestBlessedModelStrategy"
        )
    return Place("/".join(parts[: places[-1] + 1]), "/".join(parts[: places[-1] + 2]))


def find_blessed(
    root: str, own_run: str | None = None, volume: str | None = None
) -> Iterator[Candidate]:
    """Lists the blessed models below `root`, newest blessing first.

    Args:
        root: A directory, local or of a bucket.
        own_run: What lies in it is passed over.
        volume: See `to_local`.

    Yields:
        Candidates, whose models may be gone.

    Raises:
        BranchlineError: `root` cannot be listed, or a blessing not be read.
    """
    blessings = [
        (each.changed, each.path)
        for each in list_files(root)
        if each.path.rpartition("/")[2] == _BLESSED
        and not (own_run and each.path.startswith(f"{own_run}/"))
    ]
    for updated, path in sorted(blessings, reverse=True):
        uri = read_if_there(path)
        if uri:
            run = path.removeprefix(f"{root}/").partition("/")[0]
            model = beam_path(to_remote(uri.rstrip("/"), volume))
            yield Candidate(updated, uri, model, f"{root}/{run}")


def copy_newest(place: Place, directory: str, volume: str | None = None) -> str | None:
    """Copies the model that was blessed last, and is still there, to a directory, local or not.

    Returns:
        The model's URI as the step saw it that blessed it; None when there is none.

    Raises:
        BranchlineError: A place cannot be listed or read.
    """
    for candidate in find_blessed(*place, volume):
        if copy_model(candidate.model, directory):
            return candidate.uri
    return None


def copy_model(model: str, directory: str) -> bool:
    """Copies a model; from one that is not there, or goes away meanwhile, nothing.

    Returns:
        Whether there was one.

    Raises:
        BranchlineError: It is there and cannot be read, or `directory` not be written.
    """
    paths = [each.path for each in list_files(model)]
    if f"{model}/{_SAVED_MODEL}" not in paths:
        return False
    try:
        copy_tree(model, directory, paths)
    except BranchlineError:
        if exists(f"{model}/{_SAVED_MODEL}"):
            raise
        return False
    return True


def read_if_there(path: str) -> str:
    """Reads a short text; of a file that is gone since it was listed there is none."""
    try:
        return read_bytes(path).decode(errors="replace").strip()
    except BranchlineError:
        if exists(path):
            raise
        return ""
