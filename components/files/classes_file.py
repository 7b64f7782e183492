"""The file beside a model that says which names stand for which numbers."""

import json
import os
from collections.abc import Mapping, Sequence

from branchline.components.files.storage import exists, read_json, write_bytes

CLASSES_FILE = os.path.join("assets.extra", "classes.json")  # TensorFlow Serving leaves it alone


def write_classes(directory: str, classes: Mapping[str, Sequence[str]]) -> None:
    """Writes the file.

    Args:
        directory: Of the SavedModel.
        classes: Output → the names of its classes, in order.
    """
    text = json.dumps(classes, ensure_ascii=False, indent=2) + "\n"
    write_bytes(os.path.join(directory, CLASSES_FILE), text.encode())


def read_classes(directory: str) -> dict[str, list[str]]:
    """Reads what `write_classes` wrote; nothing where there is no such file."""
    path = os.path.join(directory, CLASSES_FILE)
    return read_json(path) if exists(path) else {}
