import sys

import pytest

from branchline.pipeline import load_recipe as module
from branchline.pipeline.load_recipe import list_recipes, load_recipe
from branchline.pipeline.set_fields import set_fields
from branchline.schemas import Bound, RecipeError, Validation

RECIPE = '''"""Two routes for tests.

More about them.
"""

from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Text, when

recipe = Recipe(
    name="two",
    routing=RoutingTable(
        Route("text", when.present("message"), features={"message": Text()}, label="urgent",
              task="binary"),
        Route("meter", when.present("reading"), features={"reading": Numeric()}, label="days",
              task="regression"),
    ),
    thresholds={"text": {"auc": 0.9}},
)
'''


@pytest.fixture
def write(tmp_path):
    def write_file(source, name="two.py"):
        path = tmp_path / name
        path.write_text(source)
        return path

    return write_file


@pytest.fixture
def recipe(write):
    return load_recipe(write(RECIPE))[0]


def test_a_file_is_loaded_by_its_path(write):
    path = write(RECIPE)
    recipe, file, loaded = load_recipe(path)
    assert (recipe.name, file, loaded.recipe) == ("two", path.resolve(), recipe)


def test_an_unchanged_file_is_imported_once_and_a_changed_one_anew(write):
    first = load_recipe(write(RECIPE))[2]
    assert load_recipe(write(RECIPE))[2] is first
    assert load_recipe(write(RECIPE.replace('"two"', '"other"')))[0].name == "other"


def test_the_module_is_found_again_by_its_name(write):
    loaded = load_recipe(write(RECIPE))[2]
    assert sys.modules[loaded.__name__] is loaded and loaded.__name__.isidentifier()


def test_a_file_may_import_what_lies_beside_it(write):
    write("NAME = 'beside'", "helper_beside.py")
    source = RECIPE.replace('name="two"', "name=helper_beside.NAME")
    assert load_recipe(write("import helper_beside\n" + source))[0].name == "beside"
    assert str(write(source).parent) not in sys.path


def test_built_in_recipes_are_listed_without_being_imported(write, monkeypatch, tmp_path):
    write(RECIPE)
    write('"""Broken."""\nraise RuntimeError', "broken.py")
    write("", "__init__.py")
    monkeypatch.setattr(module, "RECIPES_DIR", tmp_path)
    assert list_recipes() == {"broken": "Broken.", "two": "Two routes for tests."}


def test_an_unknown_name_gets_the_known_ones_and_the_close_one(write, monkeypatch, tmp_path):
    write("", "mixed.py")
    write("", "clicks.py")
    monkeypatch.setattr(module, "RECIPES_DIR", tmp_path)
    with pytest.raises(RecipeError, match="clicks, mixed; did you mean mixed"):
        load_recipe("mixd")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1", "defines no `recipe`"),
        ("recipe = {'name': 'x'}", "`recipe` is of type dict, expected"),
        ("x = 1\nimport no_such_module", "two.py, line 2: ModuleNotFoundError: No module named"),
        ("x = 1\n\nrecipe = (", "two.py, line 3: SyntaxError:"),
        ("raise ValueError('first\\nsecond')", "line 1: ValueError: first second"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        (RECIPE.replace("0.9", "'high'"), "Recipe.thresholds"),
    ],
    ids=["none", "type", "import", "syntax", "raises", "exits", "invalid"],
)
def test_a_bad_file_is_told_in_one_line(write, source, told):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(source))
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_failed_is_not_taken_for_imported(write):
    for _ in range(2):
        with pytest.raises(RecipeError, match="ZeroDivisionError"):
            load_recipe(write("1 / 0"))


def test_a_path_that_is_no_python_file_is_told(tmp_path):
    (tmp_path / "recipe.yaml").write_text("")
    for path, told in (
        (tmp_path / "nope.py", "does not exist"),
        (tmp_path / "recipe.yaml", "is not a .py file"),
        (tmp_path, "is a directory"),
    ):
        with pytest.raises(RecipeError, match=told):
            load_recipe(path)


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("training.steps=500", lambda r: r.training.steps == 500),
        ("training.learning_rate=1e-2", lambda r: r.training.learning_rate == 0.01),
        ("training.clip_norm=null", lambda r: r.training.clip_norm is None),
        ("name=2024", lambda r: r.name == "2024"),
        ("data=records.jsonl", lambda r: r.data == "records.jsonl"),
        ("quarantine_limit=0", lambda r: r.quarantine_limit == 0),
        ("thresholds.text.auc=0.8", lambda r: r.thresholds["text"]["auc"] == Bound(least=0.8)),
        ("thresholds.text.auc.least=0.8", lambda r: r.thresholds["text"]["auc"].least == 0.8),
        (
            "thresholds.meter.mean_absolute_error=2",
            lambda r: r.thresholds["meter"]["mean_absolute_error"] == Bound(greatest=2),
        ),
        ('metrics.text=["precision"]', lambda r: r.metrics["text"] == ("precision",)),
        (
            'training.early_stopping={"type": "EarlyStopping", "patience": 2}',
            lambda r: r.training.early_stopping.patience == 2,
        ),
        (
            "training.routes.text.optimizer=sgd",
            lambda r: r.training.path("text").optimizer == "sgd",
        ),
        ("validation.drift=0.1", lambda r: r.validation.drift == 0.1),
        ("schema=curated.pbtxt", lambda r: r.schema == "curated.pbtxt"),
        ("routing.text.label=late", lambda r: r.routing["text"].label == "late"),
        (
            "routing.text.features.message.max_words=50",
            lambda r: r.routing["text"].features["message"].max_words == 50,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_fields_are_set_by_their_dotted_names(recipe, assignment, read):
    assert read(set_fields(recipe, [assignment]))


def test_fields_that_belong_together_are_set_together(recipe):
    both = ['validation.block=["anomalies","skew"]', "validation.skew=0.2"]
    assert set_fields(recipe, both).validation == Validation(skew=0.2, block=["anomalies", "skew"])
    changed = set_fields(recipe, ["routing.meter.task=multiclass", "routing.meter.num_classes=7"])
    assert changed.routing["meter"].num_classes == 7
    assert changed.routing.names == ("text", "meter") and recipe.routing["meter"].task != "multi"


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("training.step=5", "training.step: no such field;.* did you mean steps"),
        ("trainin.steps=5", "the fields of a recipe are .*did you mean training"),
        ("routing.txt.label=x", "the routes of routing are text, meter; did you mean text"),
        ("routing.text.features.mesage.length=5", "features .* did you mean message"),
        ("training.steps=many", "Training.steps: got 'many', expected an int"),
        ("training.steps.x=5", "training.steps is 1000, it has no fields"),
        ("training.steps", "expected FIELD=VALUE"),
        ("training..steps=1", "expected FIELD=VALUE"),
        ("training=5", "Recipe.training: got 5, expected"),
        ("thresholds.txt.auc=0.5", "expected one of the routes text, meter"),
        ('training.early_stopping={"type": "EarlyStopping", "foo": 2}', "unexpected keyword"),
        ('training.early_stopping={"type": "Early"}', "got 'Early', expected"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value else "",
)
def test_a_bad_assignment_is_told(recipe, assignment, told):
    with pytest.raises(RecipeError, match=told):
        set_fields(recipe, [assignment])


def test_a_field_and_what_lies_under_it_are_not_both_set(recipe):
    for pair in (["training=1", "training.steps=2"], ["training.steps=2", "training=1"]):
        with pytest.raises(RecipeError, match="already set"):
            set_fields(recipe, pair)
