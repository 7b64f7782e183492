"""Finds the statistics of the run that blessed a model last, and copies them.

A run whose steps came from the cache has no statistics of its own among its artifacts: it leaves a
file that says where those are that it used.
"""

from typing import NamedTuple

from branchline.components.baseline_finder.find_baseline import (
    Place,
    find_blessed,
    read_if_there,
)
from branchline.components.files.artifact_paths import beam_path, to_remote
from branchline.components.files.storage import copy_tree, list_files, write_bytes
from branchline.schemas import BranchlineError

_OF_RUN = "statistics_of_this_run"  # the file, in the output that holds those of an earlier run
_SPLIT = "Split-"


class Found(NamedTuple):
    """Statistics of an earlier run: their URI as its steps saw it, and their splits."""

    uri: str
    splits: list[str]


def copy_statistics(
    place: Place, current: str, directory: str, volume: str | None = None
) -> Found | None:
    """Copies the statistics of the run that blessed last and had others than `current`.

    Those that came from the cache are compared with what they were compared with at first.

    Args:
        place: Where the runs' artifacts are.
        current: The URI of this run's statistics as the step sees it; is written down.
        directory: Where the copy goes, local or not.
        volume: See `to_local`.

    Returns:
        None when there are none, or they are gone.

    Raises:
        BranchlineError: A place cannot be listed, read or written.
    """
    found = None
    for candidate in find_blessed(*place, volume):
        uri = _statistics_of(candidate.run)
        if uri not in ("", current) and (splits := _copy(uri, directory, volume)):
            found = Found(uri, splits)
            break
    write_bytes(f"{directory.rstrip('/')}/{_OF_RUN}", current.encode())
    return found


def _statistics_of(run: str) -> str:
    """The URI of the statistics that a run used; "" where it did not say."""
    said = [each for each in list_files(run) if each.path.rpartition("/")[2] == _OF_RUN]
    newest = sorted((each.changed, each.path) for each in said)[-1:]  # of a step that was repeated
    return read_if_there(newest[0][1]) if newest else ""


def _copy(uri: str, directory: str, volume: str | None) -> list[str]:
    """Copies statistics, and gives their splits; of what is not there, or goes away, none."""
    source = beam_path(to_remote(uri.rstrip("/"), volume))
    listed = [each.path for each in list_files(source)]
    paths = [path for path in listed if path.removeprefix(f"{source}/").startswith(_SPLIT)]
    if not paths:
        return []
    try:
        copy_tree(source, directory, paths)
    except BranchlineError:
        if {each.path for each in list_files(source)} >= set(paths):
            raise
        return []
    folders = {path.removeprefix(f"{source}/").partition("/")[0] for path in paths}
    return sorted(folder.removeprefix(_SPLIT) for folder in folders)
