"""Imports a function of a recipe file.

A recipe is the user's own code; its path comes from the command line or the pipeline's definition,
never from records or artifacts.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from branchline.schemas import BranchlineError


def load_module(path: str | Path) -> ModuleType:
    """Imports a Python file by its path, with its folder importable meanwhile.

    Raises:
        BranchlineError: There is no such file on this machine.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise BranchlineError(f"{path}: there is no such recipe file on this machine")
    spec = importlib.util.spec_from_file_location(f"branchline_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def load_function(path: str | Path, name: str) -> Callable[..., Any]:
    """Imports the function `name` of a recipe file.

    Raises:
        BranchlineError: The file is missing or has no such function.
    """
    function = getattr(load_module(path), name, None)
    if not callable(function):
        raise BranchlineError(f"{path}: got no function {name}, expected one")
    return function
