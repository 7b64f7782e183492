import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchline.schemas import (
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    from_json,
    to_json,
    when,
)
from branchline.schemas.class_names import MOST_LEARNT, spellings
from branchline.schemas.learnt_names import with_names


def route(**fields):
    return Route("r", when.present("x"), features={"x": Numeric()}, **fields)


WRONG = {
    "one": ({"classes": ("a",)}, "at least two names"),
    "none": ({"classes": ()}, "at least two names"),
    "twice": ({"classes": ("a", "b", "a")}, "all different"),
    "empty": ({"classes": ("a", "")}, "not empty"),
    "spaces": ({"classes": ("a", " b")}, "without spaces around"),
    "number": ({"classes": (1, 2)}, "names that are texts"),
    "surrogate": ({"classes": ("a", "\ud800")}, "Unicode"),
    "text": ({"classes": "ab"}, "a tuple of names"),
    "number-of-classes": ({"classes": ("a", "b"), "num_classes": 3}, "num_classes=3"),
    "binary-three": ({"task": "binary", "classes": ("a", "b", "c")}, "two names"),
    "binary-number": ({"task": "binary", "classes": ("a", "b"), "num_classes": 2}, "None unless"),
    "regression": ({"task": "regression", "classes": ("a", "b")}, "None unless the task is one of"),
    "list-without-names": ({"task": "multilabel"}, "a tuple of names"),
    "list-of-one": ({"task": "multilabel", "num_classes": 1}, "at least 2"),
    "list-weighed": (
        {"task": "multilabel", "num_classes": 3, "class_weight": "balanced"},
        'None for task="multilabel"',
    ),
    "separator-alone": (
        {"classes": ("a", "b"), "separator": ";"},
        'for task="multilabel", or None',
    ),
    "separator-in-name": (
        {"task": "multilabel", "classes": ("a", "b;c"), "separator": ";"},
        "a text that none of the names holds",
    ),
    "learnt-weighed": ({"classes": "learn", "class_weight": {"a": 2}}, "None or 'balanced'"),
    "learnt-binary-number": (
        {"task": "binary", "classes": "learn", "num_classes": 3},
        "None unless",
    ),
    "learnt-one": ({"classes": "learn", "num_classes": 1}, "at least 2"),
}


@pytest.mark.parametrize(("fields", "expected"), WRONG.values(), ids=WRONG)
def test_names_that_cannot_be_are_refused(fields, expected):
    fields = {"task": "multiclass"} | fields
    with pytest.raises(RecipeError) as target:
        Target(**fields)
    with pytest.raises(RecipeError) as short:
        route(label="y", **fields)
    assert expected in str(target.value) and expected in str(short.value)
    assert str(target.value).startswith("Target.") and str(short.value).startswith("Route('r').")


def test_a_list_has_no_shape():
    with pytest.raises(RecipeError, match=r"Target\.shape: .* a label is a list"):
        Target("multilabel", num_classes=3, shape=(2,))


def test_a_number_of_classes_of_a_list_is_short_for_their_names():
    assert Target("multilabel", num_classes=3) == Target("multilabel", classes=("0", "1", "2"))


@pytest.mark.parametrize(("task", "most"), [("multiclass", 1000), ("multilabel", 1000)])
def test_names_that_are_learnt_take_the_place_of_the_limit(task, most):
    target = Target(task, classes="learn")
    assert target.num_classes == most == MOST_LEARNT and target.names is None and target.learns
    learnt = target.with_names(["x", "y", "z"])
    assert learnt == Target(task, classes=("x", "y", "z"))
    made = route(label="y", task=task, classes="learn", num_classes=7)
    assert from_json(to_json(made)) == made and made.labels["y"].num_classes == 7
    table = with_names(RoutingTable(made), {"r": ("b", "c")})
    assert table.routes == (route(label="y", task=task, classes=("b", "c")),)
    several = route(targets={"y": Target("binary", classes="learn"), "z": Target("binary")})
    table = with_names(RoutingTable(several), {"r/y": ("b", "c")})
    assert table["r"].labels["y"].classes == ("b", "c") and table["r"].labels["z"].classes is None


def test_names_beside_targets_are_refused():
    with pytest.raises(RecipeError, match=r"Route\('r'\)\.classes: got \('a', 'b'\)"):
        route(targets={"y": Target("binary")}, classes=("a", "b"))


def test_the_number_of_classes_is_that_of_the_names():
    target = Target("multiclass", classes=["ham", "spam", "other"], shape=(2,))
    assert target == Target("multiclass", classes=("ham", "spam", "other"), num_classes=3, shape=2)
    assert (target.num_classes, target.dtype, target.num_codes) == (3, "string", None)
    assert target.prediction_shape == (2, 3)
    binary = Target("binary", classes=("no", "yes"), optional=True)
    assert (binary.num_classes, binary.dtype, binary.missing) == (None, "string", -1)
    assert Target("binary").num_codes == 2 and Target("multiclass", num_classes=4).num_codes == 4
    same = route(label="y", task="multiclass", classes=("ham", "spam"))
    assert same.num_classes == 2
    assert same.labels == {"y": Target("multiclass", classes=("ham", "spam"))}


def test_a_table_with_names_survives_json():
    table = RoutingTable(
        route(label="y", task="binary", classes=("nö", "yes")),
        Route(
            "s",
            when.present("z"),
            features={"z": Numeric()},
            targets={"k": Target("multiclass", classes=("b", "a", "c"))},
        ),
    )
    assert from_json(to_json(table)) == table
    assert from_json(to_json(table)).fields("s")["k"].classes == ("b", "a", "c")


def test_a_key_that_would_name_the_output_of_another_is_refused():
    kind = Target("binary", classes=("a", "b"))
    with pytest.raises(RecipeError, match="'kind/class'.*output for the name of 'kind'"):
        route(targets={"kind/class": Target("binary"), "kind": kind})
    names = route(targets={"kind/class": Target("binary"), "kind": Target("binary")})
    assert names.output("kind/class") == "r/kind/class"


@given(st.lists(st.text("abtruefalsFT01", min_size=1), min_size=2, max_size=4, unique=True))
def test_every_name_is_spelt_by_itself_and_no_text_spells_two(classes):
    found = spellings(tuple(classes))
    assert all(found[name] == index for index, name in enumerate(classes))
    others = found.keys() - set(classes)
    others = {text for text in others if not text.endswith(".0")}
    assert not others or {name.lower() for name in classes} == {"true", "false"}


def test_whole_numbers_are_spelt_as_pandas_writes_them_beside_gaps():
    assert spellings(("1", "-20")) == {"1": 0, "-20": 1, "1.0": 0, "-20.0": 1}
    assert spellings(("1.0", "1")) == {"1.0": 0, "1": 1}


@pytest.mark.parametrize("classes", [("false", "true"), ("TRUE", "False")])
def test_names_of_booleans_are_spelt_as_formats_write_booleans(classes):
    found = spellings(classes)
    for text in ("0", "1", "false", "true", "False", "True", "FALSE", "TRUE"):
        is_true = text.lower() in ("true", "1")
        assert classes[found[text]].lower() == str(is_true).lower()
