"""Imports a recipe file and takes functions out of it.

A recipe is the user's own code; its path comes from the command line or the pipeline's definition,
never from records or artifacts.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from branchline.components.code_version import file_hash
from branchline.schemas import BranchlineError


def import_file(path: str | Path) -> ModuleType:
    """Imports a Python file by its path, with its folder importable meanwhile.

    The module is registered, so that functions in it can be found again by name; the same file
    with the same content is imported once in a process.

    Raises:
        BranchlineError: There is no such file on this machine.
        Exception: Whatever the file raises.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise BranchlineError(f"{path}: there is no such recipe file on this machine")
    key = hashlib.sha256(f"{path}\0{file_hash(path)}".encode()).hexdigest()[:12]
    name = f"branchline_recipe_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Puts `folder` first among the places that imports are taken from."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def load_function(path: str | Path, name: str) -> Callable[..., Any]:
    """Imports the function `name` of a recipe file.

    Raises:
        BranchlineError: The file is missing or has no such function.
    """
    function = getattr(import_file(path), name, None)
    if not callable(function):
        raise BranchlineError(f"{path}: got no function {name}, expected one")
    return function
