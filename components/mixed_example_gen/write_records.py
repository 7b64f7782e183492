"""Has a recipe write its own records, and checks that there are some."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from branchline.components.files.scratch import outer_temporary_folder
from branchline.components.user_code import (
    import_file,
    importable,
    in_one_line,
    recipe_hash,
    recipe_path,
    where_raised,
)
from branchline.schemas import RecipeError


def write_records(write_fn: Callable[[Path], Any], recipe_file: Path, directory: Path) -> None:
    """Has a recipe's function write its records into `directory`, which is there and empty.

    Raises:
        RecipeError: The function raises, or writes nothing; tells where.
    """
    try:
        with importable(recipe_file.parent):
            write_fn(directory)
    except Exception as error:
        where = where_raised(error, recipe_file)
        raise RecipeError(f"{where}: the recipe's data: {in_one_line(error)}") from error
    check_records(directory, f"{recipe_file.name}: what the recipe's data function wrote:")


@contextmanager
def own_records(recipe_file: str) -> Iterator[str]:
    """Has a recipe write its records on the local disk, where they are while the context lasts.

    The directory is named by the recipe and its code, because examples and quarantine name it
    as the records' source: it is the same on every run.

    Args:
        recipe_file: As `recipe_path` takes it; "" for none.

    Yields:
        The path of the directory.

    Raises:
        RecipeError: There is no recipe file, it has no `data` function, or that fails.
        BranchlineError: The recipe file is not on this machine.
    """
    if not recipe_file:
        raise RecipeError(
            "the pipeline parameter data: got '', expected a path of records, or a JSON list of "
            "paths; only a recipe whose data is a function writes its own records"
        )
    path = recipe_path(recipe_file)
    recipe = getattr(import_file(recipe_file), "recipe", None)
    write_fn = getattr(recipe, "data", None)
    if recipe is None or not callable(write_fn):
        raise RecipeError(
            f"{path}: got no path of records, and the recipe's data is {write_fn!r}, expected a "
            "function that writes them; give the pipeline parameter data a path"
        )
    name = f"branchline-{recipe.name}-{recipe_hash(path)}"
    folder = Path(outer_temporary_folder(), name)
    with _locked(f"{folder}.lock"):  # one at a time: the name is the same for all
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            write_records(write_fn, path, folder)
            yield str(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Holds a lock, whose file goes with it."""
    while True:
        with open(path, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(path, lock):  # whoever had it before has deleted it
                continue
            try:
                yield
            finally:
                os.unlink(path)
            return


def _is_at(path: str, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def check_records(path: Path, what: str) -> str:
    """The absolute path of a file or directory of records.

    Raises:
        RecipeError: It does not exist, cannot be read, or holds nothing; begins with `what`.
    """
    if not path.exists():
        raise RecipeError(f"{what} {path} does not exist")
    if not os.access(path, os.R_OK):
        raise RecipeError(f"{what} {path} cannot be read: permission denied")
    if path.is_file() and not path.stat().st_size:
        raise RecipeError(f"{what} {path} is an empty file")
    if path.is_dir() and not any(_holds_records(found) for found in path.rglob("*")):
        raise RecipeError(f"{what} {path} holds no file with anything in it")
    return str(path.resolve())


def _holds_records(path: Path) -> bool:
    return path.is_file() and not path.name.startswith((".", "_")) and path.stat().st_size > 0
