"""Reads and writes files, on this machine and in the stores that Beam knows."""

import json
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from branchline.components.files.artifact_paths import beam_path
from branchline.components.files.check_access import check_access


def exists(path: str) -> bool:
    """Whether there is such a file."""
    return FileSystems.exists(_accessible(path))


def read_json(path: str) -> Any:
    """Reads a file of JSON."""
    with FileSystems.open(_accessible(path)) as file:
        return json.loads(file.read())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file as a whole: what is seen of it is all or nothing."""
    path = _accessible(path)
    part = f"{path}.part"
    with FileSystems.create(part, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(content)
    FileSystems.rename([part], [path])


def _accessible(path: str) -> str:
    path = beam_path(path)
    check_access(path)
    return path
