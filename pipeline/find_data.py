"""Finds where a run's records come from: the command line, or the recipe."""

import glob
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from branchline.components.files.artifact_paths import beam_path
from branchline.components.mixed_example_gen.find_files import fingerprint_of
from branchline.components.mixed_example_gen.write_records import check_records, write_records
from branchline.components.user_code import recipe_hash
from branchline.schemas import BranchlineError, Recipe, RecipeError


def find_data(recipe: Recipe, recipe_file: Path, paths: Iterable[str] | None) -> list[str] | None:
    """The absolute paths of the files and folders that hold the records.

    Args:
        recipe: Says where records come from when `paths` does not.
        recipe_file: A path in the recipe is relative to its folder.
        paths: From the command line, relative to the working directory, or in an object store, or
            patterns of files; None or empty for none.

    Returns:
        None when the recipe has a function for it; then `write_data` calls that.

    Raises:
        RecipeError: There is no data, or a path does not exist or holds nothing.
    """
    if paths:
        return [found for path in paths for found in _find(path, Path(), "--data", recipe)]
    if recipe.data is None:
        raise RecipeError(f"recipe {recipe.name!r} brings no data of its own; give --data PATH")
    if callable(recipe.data):
        return None
    what = f"Recipe.data of {recipe_file.name}:"
    return _find(str(recipe.data), recipe_file.parent, what, recipe)


def _find(path: str, folder: Path, what: str, recipe: Recipe) -> list[str]:
    """Finds what a path in an object store, a path below `folder` or a pattern stands for.

    A path with a place for a span stays as it is: the span is chosen when it is read.
    """
    if "://" in path:
        return [beam_path(path)]
    whole = folder / Path(path).expanduser()
    if "{" in path and _has_span(os.path.abspath(whole), what, recipe):
        return [os.path.abspath(whole)]
    if whole.exists() or not set("*?[") & set(path):
        return [check_records(whole, what)]
    found = sorted(glob.glob(str(whole), recursive=True))
    if not found:
        raise RecipeError(f"{what} {whole}: got a pattern that no file matches")
    return [str(Path(each).resolve()) for each in found]


def _has_span(path: str, what: str, recipe: Recipe) -> bool:
    """Whether a path has a place for a span, of which there is one that the recipe wants."""
    from branchline.components.mixed_example_gen.find_spans import choose_spans, range_of_spans

    try:
        return bool(choose_spans([path], range_of_spans(recipe.spans)).spans)
    except BranchlineError as error:
        raise RecipeError(f"{what} {error}") from error


def write_data(recipe: Recipe, recipe_file: Path, output_dir: Path, again: bool = False) -> str:
    """Has the recipe's function write its records into `output_dir`/data, unless it has before.

    They are written under another name until the function has returned, and again only when the
    recipe's code or its `data_inputs` have changed.

    Args:
        recipe: Its `data` is the function.
        recipe_file: Where it was defined.
        output_dir: Of the run.
        again: They are written whatever has changed.

    Returns:
        The path of the directory.

    Raises:
        RecipeError: One of `data_inputs` does not exist; the function raises, or writes nothing.
    """
    folder, stamp = output_dir / "data", output_dir / ".data-of"
    inputs = fingerprint_of([], recipe.data_inputs, recipe_file.parent)
    source = f"{recipe_hash(recipe_file)} {inputs}"
    if not again and folder.is_dir() and stamp.is_file() and stamp.read_text() == source:
        return str(folder)
    unfinished = output_dir / ".data-unfinished"
    stamp.unlink(missing_ok=True)
    for left in (unfinished, folder):
        shutil.rmtree(left, ignore_errors=True)
    unfinished.mkdir()
    assert callable(recipe.data)
    write_records(recipe.data, recipe_file, unfinished)
    unfinished.rename(folder)
    stamp.write_text(source)
    return str(folder)
