"""The folders of the trainer stand along one street: nothing imports from what comes behind it."""

import ast
import pathlib

import pytest

import branchline.components.branch_trainer as package

STREET = ["model", "streams", "step", "loop", "trainer", "recipe", "component"]
FOLDER = pathlib.Path(package.__file__).parent
README = pathlib.Path(__file__).parents[3] / "components/branch_trainer/README.md"
MODULES = sorted(path for path in FOLDER.rglob("*.py") if path.name != "__init__.py")


def place_of(module):
    """Where on the street a module stands; None: at its side, as the settings."""
    first = module.split(".")[0]
    return STREET.index(first) if first in STREET else None


def imported(path):
    """Modules of the trainer that a file imports, also for annotations only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package.__name__):
            yield (node.module or "")[len(package.__name__) + 1 :]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_module_imports_from_no_folder_behind_its_own(path):
    own = place_of(".".join(path.relative_to(FOLDER).with_suffix("").parts))
    places = [place_of(module) for module in imported(path) if module]
    behind = [STREET[place] for place in places if place is not None and place > (own or 0)]
    assert own is None or not behind


def test_the_street_is_that_of_the_readme():
    text = README.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "→" in line)
    names = [name.strip().removesuffix("/").removesuffix(".py") for name in line.split("→")]
    assert names == STREET
    words = (word.strip("`,.;:()") for word in text.split())
    files = {word for word in words if word.endswith(".py") and "/" not in word}
    assert files <= {path.name for path in MODULES}
