"""What of branchline is part of a component's version, and so of the cache's key."""

import importlib.metadata
import inspect
from pathlib import Path

import pytest

import branchline
from branchline.components import code_version as module
from branchline.components.code_version import code_version, sources, sources_hash

PACKAGE = Path(inspect.getfile(branchline)).resolve().parent
COMPONENTS = PACKAGE / "components"


def covered(component):
    paths = sources(COMPONENTS / component / "component.py")
    return {path.relative_to(PACKAGE).as_posix() for path in paths}


def test_a_component_covers_its_folder_and_all_that_it_imports():
    found = covered("branch_trainer")
    own = COMPONENTS / "branch_trainer"
    assert {path.relative_to(PACKAGE).as_posix() for path in own.rglob("*.py")} <= found
    assert {
        "__init__.py",
        "components/__init__.py",
        "components/code_version.py",
        "components/imported_files.py",
        "components/user_code.py",
        "components/transform/groups.py",
        "schemas/fields.py",
    } <= found


def test_a_component_does_not_cover_what_it_never_imports():
    assert not any("run_report" in path for path in covered("branch_trainer"))
    assert not any("branch_trainer" in path for path in covered("router"))
    assert not any(path.startswith("pipeline/") for path in covered("run_report"))
    assert any(path.endswith(".jinja") for path in covered("run_report"))


def test_a_version_is_the_same_whichever_way_the_file_is_named():
    for folder in (COMPONENTS, COMPONENTS.resolve()):
        assert code_version(str(folder / "router" / "component.py")) == code_version(
            str(COMPONENTS / "router" / "component.py")
        )


def test_a_changed_and_a_renamed_file_change_the_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(branchline, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(module.inspect, "getfile", lambda found: found.__file__)
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a = 1")
    two.write_text("a = 1")
    first = sources_hash([one])
    assert sources_hash([two]) != first
    one.write_text("a = 2")
    assert sources_hash([one]) != first


@pytest.mark.parametrize("library", ["tensorflow", "tfx", "keras", "tensorflow-transform"])
def test_another_version_of_a_library_is_another_version(library, monkeypatch):
    file = str(COMPONENTS / "router" / "component.py")
    before, installed = code_version(file), importlib.metadata.version

    def upgraded(name):
        return "99.0" if name == library else installed(name)

    monkeypatch.setattr(importlib.metadata, "version", upgraded)
    assert code_version(file) != before and f"{library} 99.0" in code_version(file)
