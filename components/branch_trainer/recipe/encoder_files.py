"""Identifies the encoders that a table's texts name, so that a cache sees when one changes."""

import hashlib
import os

from branchline.components.code_version import file_hash
from branchline.components.files.storage import exists, list_files
from branchline.schemas import RoutingTable, Text
from branchline.schemas.features.text import SAVED_MODEL


def encoder_paths(table: RoutingTable) -> list[str]:
    """The paths of all encoders, each once, in the table's order."""
    kinds = [kind for route in table.routes for kind in route.features.values()]
    return list(dict.fromkeys(k.encoder for k in kinds if isinstance(k, Text) and k.encoder))


def encoder_hashes(table: RoutingTable) -> dict[str, str]:
    """Path of each encoder → its hash, of those that are there."""
    return {path: encoder_hash(path) for path in encoder_paths(table)}


def has_encoder(path: str) -> bool:
    """Whether there is a SavedModel in this folder, on this machine or in a store."""
    return exists(os.path.join(path, SAVED_MODEL))


def encoder_hash(path: str) -> str:
    """Identifies what is in a folder.

    Files on this machine are read; of those in a store, size and time of change tell.

    Returns:
        "" if there is no SavedModel in it.

    Raises:
        BranchlineError: It cannot be read.
    """
    if not has_encoder(path):
        return ""
    digest = hashlib.sha256()
    for file in list_files(path):
        is_remote = "://" in path
        content = f"{file.size} {file.changed}" if is_remote else file_hash(file.path)
        digest.update(f"{os.path.relpath(file.path, path)}\0{content}\0".encode())
    return digest.hexdigest()[:16]
