"""A recipe's code is its file and the modules beside it that it imports."""

import sys

import pytest

from branchline.components.code_version import file_hash
from branchline.components.user_code import (
    files_hash,
    import_file,
    recipe_files,
    recipe_hash,
    where_raised,
)
from branchline.pipeline.load_recipe import load_recipe
from branchline.schemas import RecipeError

MAIN = """import my_layers


def width():
    from lazily.loaded import WIDTH

    return WIDTH + my_layers.EXTRA
"""


def write(folder, width=1, extra=10, main=MAIN):
    (folder / "lazily").mkdir(parents=True, exist_ok=True)
    (folder / "support.py").write_text(main)
    (folder / "my_layers.py").write_text(f"EXTRA = {extra}")
    (folder / "lazily" / "loaded.py").write_text(f"WIDTH = {width}")
    (folder / "unused.py").write_text("")
    return folder / "support.py"


def test_the_hash_covers_the_file_and_what_it_imports_beside_it(tmp_path):
    path = write(tmp_path)
    files = recipe_files(path)
    assert files == {
        "": file_hash(path),
        "my_layers.py": file_hash(tmp_path / "my_layers.py"),
        "lazily/loaded.py": file_hash(tmp_path / "lazily" / "loaded.py"),
    }
    assert recipe_hash(path) == files_hash(files)


@pytest.mark.parametrize("changed", ["support.py", "my_layers.py", "lazily/loaded.py"])
def test_a_change_in_any_of_them_changes_the_hash_and_no_other_does(tmp_path, changed):
    before = recipe_hash(write(tmp_path))
    (tmp_path / "unused.py").write_text("changed = True")
    assert recipe_hash(tmp_path / "support.py") == before
    with open(tmp_path / changed, "a") as file:
        file.write("\n")
    assert recipe_hash(tmp_path / "support.py") != before


def test_the_hash_does_not_depend_on_where_the_recipe_lies(tmp_path):
    here, there = write(tmp_path / "here"), write(tmp_path / "there")
    there = there.rename(there.with_name("in_the_image.py"))
    assert recipe_hash(here) == recipe_hash(there)


def test_a_changed_module_beside_the_recipe_is_imported_anew(tmp_path):
    first = import_file(write(tmp_path))
    assert first.width() == 11
    second = import_file(write(tmp_path, extra=200))
    assert second is not first and second.width() == 201
    third = import_file(write(tmp_path, width=3000, extra=200))
    assert third is not second and third.width() == 3200
    assert import_file(write(tmp_path)) is first and first.my_layers.EXTRA == 10


def test_two_recipes_with_modules_of_one_name_each_get_their_own(tmp_path):
    here, there = write(tmp_path / "here"), write(tmp_path / "there", width=5, extra=50)
    for path, width in ((here, 11), (there, 55), (here, 11), (there, 55)):
        assert import_file(path).width() == width
    layers = import_file(here).my_layers
    import_file(there)
    assert import_file(here).my_layers is layers is sys.modules["my_layers"]


def test_a_module_of_that_name_which_somebody_else_imported_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my_layers.py").write_text("EXTRA = 7000")
    import_file(write(tmp_path / "there", main="x = 1"))  # whatever was in use before is put away
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "elsewhere"))
        import my_layers  # pyright: ignore[reportMissingImports]
    assert my_layers.EXTRA == 7000
    assert import_file(write(tmp_path / "here")).width() == 11


def test_names_beside_the_recipe_that_it_does_not_import_stay_what_they_are(tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError")
    module = import_file(write(tmp_path, main="import json\n" + MAIN))
    assert module.json is sys.modules["json"] and module.json.dumps(1) == "1"
    assert str(tmp_path) not in sys.path


def test_a_module_that_disappeared_is_named_in_one_line(tmp_path):
    path = write(tmp_path)
    import_file(path)
    (tmp_path / "my_layers.py").unlink()
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    message = str(error.value)
    assert message == f"{path}, line 1: ModuleNotFoundError: No module named 'my_layers'"


def test_an_error_in_a_package_beside_the_recipe_is_found_there(tmp_path):
    path = write(tmp_path)
    (tmp_path / "lazily" / "loaded.py").write_text("\n1 / 0")
    with pytest.raises(ZeroDivisionError) as error:
        import_file(path).width()
    assert where_raised(error.value, path) == f"{tmp_path}/lazily/loaded.py, line 2"
