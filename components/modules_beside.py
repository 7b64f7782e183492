"""Lets the modules beside a recipe be imported by their names, one recipe's at a time.

Two recipes in two folders may each have a `my_layers.py`; Python knows one module of a name.
"""

import importlib
import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any


class _Finder(MetaPathFinder):
    """Finds the modules of the recipe in use, before those that are installed."""

    def __init__(self) -> None:
        self.owner, self.folder, self.names = "", "", frozenset()
        self._loaded: dict[str, dict[str, ModuleType]] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Finds a top-level module; those in packages Python finds by the package's path."""
        return PathFinder.find_spec(fullname, [self.folder]) if fullname in self.names else None

    def use(self, owner: str, folder: str, names: frozenset[str]) -> None:
        """Puts away the modules of the recipe in use before, and brings those of `owner`."""
        if owner == self.owner:
            return
        self._loaded[self.owner] = _take(self.names)
        self.owner, self.folder, self.names = owner, folder, names
        _take(names)
        sys.modules.update(self._loaded.pop(owner, {}))


def _take(names: frozenset[str]) -> dict[str, ModuleType]:
    taken = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in taken}


_finder = _Finder()


def use_modules_beside(owner: str, folder: Path, files: Iterable[str]) -> None:
    """Makes the names of modules in `folder` lead to these, until another owner uses its own.

    Args:
        owner: Names one state of the files; what it has imported comes back when it is used again.
        folder: The recipe's.
        files: Paths of modules within it; "" is passed over.
    """
    importlib.invalidate_caches()  # a file may be newer than Python's list of its folder
    names = frozenset(PurePosixPath(each).parts[0].removesuffix(".py") for each in files if each)
    _finder.use(owner, str(folder), names)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
