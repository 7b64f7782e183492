"""Finds the model that was blessed last among the artifacts of a pipeline's runs, and copies it.

BranchEvaluator leaves a file BLESSED for a model that passes, with the model's URI in it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from branchline.components.files.artifact_paths import beam_path, to_remote
from branchline.components.files.check_access import check_access, refused
from branchline.components.mixed_example_gen.find_files import literal
from branchline.schemas import BranchlineError

ABSENT = "absent"  # custom properties of the artifact
COPIED_FROM = "copied_from"
_BLESSED = "BLESSED"
_SAVED_MODEL = "Format-Serving/saved_model.pb"
_CHUNK = 1 << 22  # bytes
_LEAST_BELOW = 3  # <pipeline>/<run>/<task>/<output>, on newer Kubeflow with a UUID before the last


class Place(NamedTuple):
    """Where a pipeline's artifacts lie, as Beam's file systems know it, and those of this run."""

    root: str
    own_run: str


class Candidate(NamedTuple):
    """A blessed model: when it was, its URI as the blessing step saw it, and as Beam knows it."""

    updated: float
    uri: str
    model: str


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
            "pipeline's artifacts, so that those of earlier runs cannot be found"
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
        (each.last_updated_in_seconds, each.path)
        for each in list_files(root)
        if each.path.rpartition("/")[2] == _BLESSED
        and not (own_run and each.path.startswith(f"{own_run}/"))
    ]
    for updated, path in sorted(blessings, reverse=True):
        uri = _read(path)
        if uri:
            yield Candidate(updated, uri, beam_path(to_remote(uri.rstrip("/"), volume)))


def copy_newest(place: Place, directory: str, volume: str | None = None) -> str | None:
    """Copies the model that was blessed last, and is still there, to a local directory.

    Returns:
        The model's URI as the step saw it that blessed it; None when there is none.

    Raises:
        BranchlineError: A place cannot be listed or read.
    """
    for candidate in find_blessed(*place, volume):
        if copy_model(candidate.model, Path(directory)):
            return candidate.uri
    return None


def copy_model(model: str, directory: Path) -> bool:
    """Copies a model under a temporary name, and renames it when it is whole.

    Returns:
        False when there is no model, or it went away meanwhile; then nothing is left behind.

    Raises:
        BranchlineError: It is there and cannot be read.
    """
    files = [each.path for each in list_files(model)]
    if f"{model}/{_SAVED_MODEL}" not in files:
        return False
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for path in files:
            _copy_file(path, part / path.removeprefix(f"{model}/"))
        shutil.rmtree(directory, ignore_errors=True)
        part.rename(directory)
    except Exception as error:  # file systems differ in what they raise
        if _is_there(f"{model}/{_SAVED_MODEL}"):
            raise refused(model, error) from error
        return False
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def list_files(root: str) -> list[FileMetadata]:
    """All files below `root`, without the empty objects that stand for directories.

    Raises:
        BranchlineError: It cannot be listed.
    """
    check_access(root)
    try:
        (result,) = FileSystems.match([f"{literal(root)}/**"])
    except (BeamIOError, ValueError) as error:
        raise refused(root, error) from error
    return [each for each in result.metadata_list if not each.path.endswith("/")]


def _is_there(path: str) -> bool:
    try:
        return FileSystems.exists(path)
    except (BeamIOError, ValueError) as error:
        raise refused(path, error) from error


def _copy_file(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _open(source) as content, open(target, "wb") as copy:
        shutil.copyfileobj(content, copy, _CHUNK)


def _read(path: str) -> str:
    try:
        with _open(path) as content:
            return content.read().decode(errors="replace").strip()
    except Exception as error:  # as above
        if _is_there(path):
            raise refused(path, error) from error
        return ""  # deleted since it was listed


def _open(path: str):
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
