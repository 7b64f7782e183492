"""Identifies a component's code, so that TFX's cache sees when it changes.

TFX's cache key holds a component's inputs and execution properties, not its installed source.
"""

import hashlib
import inspect
from pathlib import Path

import branchline


def code_version(module_file: str) -> str:
    """Names the code beside `module_file`: the package's version and a hash of its sources.

    The hash covers the `.py` and `.jinja` files of the component's own folder, of `schemas`, and
    what the components share.
    """
    folder = Path(module_file).resolve().parent
    components = folder.parent
    schemas = Path(inspect.getfile(branchline)).resolve().parent / "schemas"
    digest = hashlib.sha256()
    for source in (folder, components, components / "routing", components / "files", schemas):
        for path in sorted([*source.glob("*.py"), *source.glob("*.jinja")]):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{branchline.__version__}+{digest.hexdigest()[:16]}"


def file_hash(path: str | Path) -> str:
    """Identifies a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
