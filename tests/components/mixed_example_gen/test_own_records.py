"""A recipe's own file in an image: found there, and writing its own records there."""

import tempfile

import builders as build
import pytest
from tfx.orchestration.portable import data_types
from tfx.types import standard_artifacts

from branchline.components import MixedExampleGen
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen.component import Driver, Executor
from branchline.components.user_code import import_file, load_function, recipe_hash, recipe_path
from branchline.pipeline.load_recipe import RECIPES_DIR, list_recipes
from branchline.schemas import BranchlineError, RecipeError

RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, when


def write(directory):
    (directory / "deep").mkdir()
    (directory / "deep" / "records.jsonl").write_text('{"x": 1}\\n{"x": 2}\\n{\\n')


recipe = Recipe(
    "own",
    RoutingTable(
        Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="regression")
    ),
    data=write,
)
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The directory of temporary files."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def write(tmp_path):
    def write_file(source):
        path = tmp_path / "own.py"
        path.write_text(source)
        return str(path)

    return write_file


def ingest(folder, recipe_file):
    examples = build.empty_artifact(standard_artifacts.Examples, folder / "examples")
    aside = build.empty_artifact(Quarantine, folder / "quarantine")
    step = MixedExampleGen("", recipe_file=recipe_file, splits={"all": 1})
    Executor().Do({}, {"examples": [examples], "quarantine": [aside]}, step.exec_properties)
    rows = [build.read_example(row) for row in build.read_split(examples, "all")]
    return rows, build.read_quarantine(folder / "quarantine")[0]


def test_without_data_the_recipe_writes_its_records_and_they_are_ingested(tmp_path, scratch, write):
    recipe_file = write(RECIPE)
    rows, aside = ingest(tmp_path, recipe_file)
    assert sorted(row["x"][1] for row in rows) == [[1], [2]]
    place = f"{scratch}/branchline-own-{recipe_hash(recipe_file)}/deep/records.jsonl"
    assert {row["branchline.source"][1][0].decode() for row in rows} == {place}
    assert [line["source"] for line in aside] == [place]


def test_what_the_recipe_wrote_is_removed_even_if_ingestion_fails(tmp_path, scratch, write):
    ingest(tmp_path, write(RECIPE))
    assert not list(scratch.glob("branchline-*"))
    with pytest.raises(BranchlineError, match="no file of records"):
        ingest(tmp_path, write(RECIPE.replace("records.jsonl", "records.txt")))
    assert not list(scratch.glob("branchline-*"))


def test_what_a_run_that_was_killed_left_is_not_taken_for_records(tmp_path, scratch, write):
    recipe_file = write(RECIPE)
    left = scratch / f"branchline-own-{recipe_hash(recipe_file)}"
    left.mkdir()
    (left / "half.jsonl").write_text('{"x": 5}\n')
    assert len(ingest(tmp_path, recipe_file)[0]) == 2


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "data: got '', expected a path"),
        (RECIPE.replace("data=write", "data='a.jsonl'"), "data is 'a.jsonl', expected a function"),
        (RECIPE.replace("data=write,", ""), "data is None, expected a function"),
        ("x = 1", "data is None, expected a function"),
        (RECIPE.replace('(directory / "deep").mkdir()', "1 / 0"), "own.py, line 6: .*ZeroDiv"),
        (RECIPE.replace('{"x": 1}\\n{"x": 2}\\n{\\n', ""), "holds no file with anything"),
    ],
    ids=["no-recipe-file", "path", "none", "no-recipe", "raises", "writes-nothing"],
)
def test_a_recipe_that_writes_no_records_is_told(tmp_path, scratch, write, source, told):
    with pytest.raises(RecipeError, match=told):
        ingest(tmp_path, write(source) if source else "")
    assert not list(scratch.glob("branchline-*"))


def test_the_local_driver_does_without_data(write):
    properties = MixedExampleGen("", recipe_file=write(RECIPE)).exec_properties
    made = Driver(None).run(data_types.ExecutionInfo(exec_properties=properties))
    assert made.exec_properties["input_fingerprint"].string_value == "recipe"
    assert made.exec_properties["recipe_hash"].string_value == recipe_hash(write(RECIPE))


def test_the_cache_sees_when_the_recipe_file_changes(write):
    before = MixedExampleGen("", recipe_file=write(RECIPE)).exec_properties
    after = MixedExampleGen("", recipe_file=write(RECIPE + "\n")).exec_properties
    assert before["recipe_hash"] != after["recipe_hash"]
    told = MixedExampleGen("", recipe_file="/in/image.py", recipe_hash="abc").exec_properties
    assert (told["recipe_file"], told["recipe_hash"]) == ("/in/image.py", "abc")
    assert MixedExampleGen("/data").exec_properties["recipe_hash"] == ""


@pytest.mark.parametrize("name", list_recipes())
def test_a_built_in_recipe_is_found_by_its_name(name):
    assert recipe_path(f"recipe:{name}") == (RECIPES_DIR / f"{name}.py").resolve()
    assert recipe_hash(f"recipe:{name}") == recipe_hash(RECIPES_DIR / f"{name}.py")


def test_functions_are_taken_out_of_a_built_in_recipe():
    module = import_file("recipe:mixed")
    assert module.recipe.name == "mixed" and module is import_file(RECIPES_DIR / "mixed.py")
    assert load_function("recipe:mixed", "write_records") is module.write_records


@pytest.mark.parametrize("name", ["mixd", "../secrets", "", "losses.x"])
def test_a_built_in_recipe_that_is_not_there_is_told(name):
    with pytest.raises(BranchlineError, match=f"recipe:{name}: .*no built-in recipe.*image"):
        recipe_path(f"recipe:{name}")


def test_a_recipe_file_that_the_image_lacks_is_told_with_what_to_do():
    for use in (recipe_path, import_file, recipe_hash, lambda path: load_function(path, "f")):
        with pytest.raises(BranchlineError, match="/recipes/no.py: .*COPY.*--recipe-in-image"):
            use("/recipes/no.py")
    assert recipe_hash("") == ""
