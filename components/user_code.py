"""Imports a recipe file and takes functions out of it.

A recipe is the user's own code; its path comes from the command line or the pipeline's definition,
never from records or artifacts.
"""

import hashlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import branchline
from branchline.components.code_version import file_hash
from branchline.components.imported_files import imported_files
from branchline.components.modules_beside import use_modules_beside
from branchline.schemas import BranchlineError, RecipeError

BUILT_IN = "recipe:"


def recipe_path(recipe_file: str | Path) -> Path:
    """Finds a recipe file, which may be a built-in recipe's as `recipe:NAME`.

    A built-in recipe lies at another place on every machine; its name holds on all of them.

    Raises:
        BranchlineError: There is no such file on this machine.
    """
    if not str(recipe_file).startswith(BUILT_IN):
        path = Path(recipe_file).resolve()
        if not path.is_file():
            raise BranchlineError(
                f"{path}: there is no such recipe file on this machine; if this is a container of "
                f"a compiled pipeline, its image lacks the file: COPY it to {path} in the "
                "Dockerfile, or compile with --recipe-in-image and the path that it has there"
            )
        return path
    name = str(recipe_file).removeprefix(BUILT_IN)
    package = Path(inspect.getfile(branchline)).resolve().parent
    path = package / "pipeline" / "recipes" / f"{name}.py"
    if not name.isidentifier() or not path.is_file():
        raise BranchlineError(
            f"{recipe_file}: branchline {branchline.__version__} as installed on this machine, or "
            f"in this image, has no built-in recipe {name!r}; build the image from the branchline "
            "that compiled the pipeline"
        )
    return path.resolve()


def recipe_files(recipe_file: str | Path) -> dict[str, str]:
    """Identifies a recipe's code: the recipe file's, and that of each module beside it.

    Returns:
        "" → the hash of the recipe file's content, which may have another name in an image; path
        within its folder → the hash of each module there, or in a package there, that it imports
        or a module that it imports does.

    Raises:
        BranchlineError: There is no such file on this machine.
        OSError: A file cannot be read.
    """
    path = recipe_path(recipe_file)
    others = [each for each in imported_files([path], path.parent) if each != path]
    return {"": file_hash(path)} | {
        each.relative_to(path.parent).as_posix(): file_hash(each) for each in others
    }


def recipe_hash(recipe_file: str | Path) -> str:
    """Identifies all that `recipe_files` lists; "" for "", no file.

    Raises:
        BranchlineError: There is no such file on this machine.
        OSError: A file cannot be read.
    """
    return files_hash(recipe_files(recipe_file)) if recipe_file else ""


def files_hash(files: Mapping[str, str]) -> str:
    """Identifies what `recipe_files` gave.

    >>> files_hash({"": "a", "my_layers.py": "b"}) == files_hash({"my_layers.py": "b", "": "a"})
    True
    """
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def import_file(path: str | Path) -> ModuleType:
    """Imports a Python file by its path, with its folder importable meanwhile.

    The module is registered, so that functions in it can be found again by name; the same file
    with the same content, and that of the modules beside it, is imported once in a process. From
    then on, and until another file is imported, the names of the modules beside it that it imports
    lead to these, also within its functions.

    Args:
        path: As `recipe_path` takes it.

    Raises:
        BranchlineError: There is no such file on this machine.
        Exception: Whatever the file raises.
    """
    path = recipe_path(path)
    files = recipe_files(path)
    key = hashlib.sha256(f"{path}\0{files_hash(files)}".encode()).hexdigest()[:12]
    name = f"branchline_recipe_{key}"
    use_modules_beside(name, path.parent, files)
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

    Args:
        path: As `recipe_path` takes it.
        name: Of the function.

    Raises:
        BranchlineError: The file is missing or has no such function.
    """
    function = getattr(import_file(path), name, None)
    if not callable(function):
        raise BranchlineError(f"{path}: got no function {name}, expected one")
    return function


def where_raised(error: BaseException, path: Path) -> str:
    """File and line of `path`, or of a module beside it, in which `error` arose."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    own = {str(each) for each in imported_files([path], path.parent)}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in own or Path(frame.filename).parent == path.parent:
            return f"{frame.filename}, line {frame.lineno}"
    return str(path)


def in_one_line(error: BaseException) -> str:
    """Type and message of an error; of a RecipeError the message, which speaks for itself."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    message = " ".join(message.split())
    if isinstance(error, RecipeError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
