"""Finds a recipe, built in or a file of the user's own, and imports it."""

import ast
import difflib
from pathlib import Path
from types import ModuleType

from branchline.components.user_code import import_file, in_one_line, where_raised
from branchline.schemas import Recipe, RecipeError

RECIPES_DIR = Path(__file__).parent / "recipes"


def load_recipe(name_or_path: str | Path) -> tuple[Recipe, Path, ModuleType]:
    """Loads a built-in recipe by its name, or a recipe file by its path.

    A file is imported as the user's own code, with its folder importable meanwhile. Its module is
    registered, so that functions in it can be found again by name; the same file with the same
    content is imported once in a process.

    Args:
        name_or_path: A name of `list_recipes()`, or the path of a `.py` file.

    Returns:
        The recipe, its file and its module.

    Raises:
        RecipeError: No such recipe or file, the import raises, or the file defines no `recipe`.
    """
    path = _find(str(name_or_path))
    module = _import(path)
    if not hasattr(module, "recipe"):
        raise RecipeError(f"{path} defines no `recipe`; a recipe file has `recipe = Recipe(…)`")
    if not isinstance(module.recipe, Recipe):
        kind = type(module.recipe).__name__
        raise RecipeError(f"{path}: `recipe` is of type {kind}, expected branchline.schemas.Recipe")
    return module.recipe, path, module


def list_recipes() -> dict[str, str]:
    """Name → first line of the docstring, of each built-in recipe; imports none of them."""
    found = {}
    for path in sorted(RECIPES_DIR.glob("*.py")):
        if not path.name.startswith("_"):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = docstring.partition("\n")[0]
    return found


def suggest(name: str, known: list[str]) -> str:
    """What to add to an error about an unknown name.

    >>> suggest("step", ["steps", "seed"])
    '; did you mean steps?'
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if path.suffix != ".py" and "/" not in name:
        names = list(list_recipes())
        if name in names:
            return RECIPES_DIR / f"{name}.py"
        known = ", ".join(names)
        raise RecipeError(
            f"no recipe is named {name!r}; built in: {known}{suggest(name, names)} "
            "(a recipe of your own is given by its path, FILE.py)"
        )
    if path.is_dir():
        raise RecipeError(f"recipe {name} is a directory, expected a .py file")
    if not path.is_file():
        raise RecipeError(f"recipe file {name} does not exist")
    if path.suffix != ".py":
        raise RecipeError(f"recipe file {name} is not a .py file")
    return path.resolve()


def _import(path: Path) -> ModuleType:
    try:
        return import_file(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise RecipeError(f"{where_raised(error, path)}: {in_one_line(error)}") from error
