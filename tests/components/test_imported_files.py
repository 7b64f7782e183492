"""Which files a file's imports lead to, found without importing any."""

import pytest

from branchline.components.imported_files import imported_files


@pytest.fixture
def folder(tmp_path):
    """Function (path → source) that writes files; gives what those imported from main.py are."""

    def of_main(sources, package=None):
        for name, source in sources.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        found = imported_files([tmp_path / "main.py"], tmp_path, package)
        return [path.relative_to(tmp_path).as_posix() for path in found]

    return of_main


@pytest.mark.parametrize(
    ("source", "files", "expected"),
    [
        ("import beside", ["beside.py", "other.py"], ["beside.py"]),
        ("import beside as b, deep.inner", ["beside.py", "deep/inner.py"], None),
        ("import a.b.c", ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"], None),
        (
            "from a import b, name",
            ["a/__init__.py", "a/b.py", "a/c.py"],
            ["a/__init__.py", "a/b.py"],
        ),
        ("from a import *", ["a/__init__.py", "a/b.py"], None),
        ("def f():\n  import beside", ["beside.py"], None),
        ("class A:\n  if x:\n    from beside import y", ["beside.py"], None),
        ("import importlib\nimportlib.import_module('beside')", ["beside.py"], None),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import beside", ["beside.py"], []),
        ("if TYPE_CHECKING:\n  pass\nelse:\n  import beside", ["beside.py"], None),
        ("import random, branchline.schemas", ["random.py", "branchline/schemas.py"], []),
        ("import tensorflow, nowhere", [], []),
        ("import (", ["beside.py"], []),
    ],
    ids=lambda value: value.replace("\n", " ") if isinstance(value, str) else "",
)
def test_every_way_to_import_leads_to_its_files(folder, source, files, expected):
    found = folder(dict.fromkeys(files, "") | {"main.py": source})
    assert found == sorted([*(files if expected is None else expected), "main.py"])


def test_what_an_imported_module_imports_counts_and_circles_end(folder):
    sources = {
        "main.py": "import pack.one",
        "pack/__init__.py": "from .two import x",
        "pack/one.py": "from ..lost import y\nfrom . import three",
        "pack/two.py": "import main\nimport beside",
        "pack/three.py": "from .deep.four import z",
        "pack/deep/four.py": "from .. import five",
        "pack/five.py": "",
        "pack/six.py": "",
        "beside.py": "import pack.one",
    }
    assert folder(sources) == sorted(set(sources) - {"pack/six.py"})


def test_a_name_that_a_package_exports_lazily_leads_to_its_module(folder):
    init = "if TYPE_CHECKING:\n  from pack.heavy import Heavy\n  from .light import make as Light"
    sources = {"pack/__init__.py": init, "pack/heavy.py": "", "pack/light.py": ""}
    assert folder(sources | {"main.py": "import pack"}) == ["main.py", "pack/__init__.py"]
    heavy = folder(sources | {"main.py": "from pack import Heavy"})
    assert heavy == ["main.py", "pack/__init__.py", "pack/heavy.py"]
    light = folder(sources | {"main.py": "def f():\n  from pack import Light"})
    assert light == ["main.py", "pack/__init__.py", "pack/light.py"]


def test_the_modules_of_one_package_alone_can_be_asked_for(folder):
    sources = {
        "main.py": "import beside, pack.one",
        "beside.py": "",
        "pack/one.py": "import beside",
    }
    assert folder(sources, "pack") == ["main.py", "pack/one.py"]
