"""Keeps what a step set aside when the step fails, as TFX deletes all that a failed step wrote."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from branchline.components.files.artifact_paths import VOLUME_VARIABLE, to_remote
from branchline.components.files.storage import copy_tree
from branchline.components.quarantine import read_counts
from branchline.schemas import BranchlineError

KEPT = "-kept"  # behind the name of a quarantine's own folder


@contextmanager
def kept_if_failing(uri: str) -> Iterator[None]:
    """Copies a quarantine beside its place, as `<uri>-kept`, if what is done meanwhile fails.

    On Kubeflow, where a step's outputs lie in its container until it ends well, the copy goes to
    the store. The error says where it is, or why there is none.

    Args:
        uri: Of the quarantine, which is written; nothing is copied of one without a record.
    """
    try:
        yield
    except BranchlineError as error:
        if read_counts(uri)["quarantined"]:
            error.args = (f"{str(error).rstrip('.')}. {_keep(uri)}",)
        raise


def _keep(uri: str) -> str:
    place = to_remote(uri.rstrip("/"), os.environ.get(VOLUME_VARIABLE)) + KEPT
    try:
        copy_tree(uri, place)
    except BranchlineError as error:
        return f"What was set aside could not be kept: {error}"
    return f"What was set aside is kept in {place}"
