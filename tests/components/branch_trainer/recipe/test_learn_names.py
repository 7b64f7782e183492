"""Names of classes that are learnt from the training rows."""

import builders as build
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.recipe.learn_names import learn_names
from branchline.schemas import BranchlineError, Numeric, Recipe, Route, RoutingTable, Target, when

X = {"x": Numeric()}
TABLE = RoutingTable(
    Route("one", when.present("o"), features=X, label="y", task="multiclass", classes="learn"),
    Route(
        "some",
        when.present("s"),
        features=X,
        targets={
            "two": Target("binary", classes="learn", optional=True),
            "tags": Target("multilabel", classes="learn", separator=";", num_classes=3),
            "plain": Target("binary"),
        },
    ),
)


def write(folder, **rows):
    """Writes routed examples of the split train; route → records."""
    (folder / "Split-train").mkdir(parents=True)
    for route, records in rows.items():
        path = folder / "Split-train" / f"{route}-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for record in records:
                writer.write(build.example(record))
    return [str(folder)]


ONE = [{"y": name} for name in ["b", " b", "a b", "10", "näh", "9", "b"]]
SOME = [{"two": "yes", "tags": "x; y"}, {"tags": "y;;x"}, {"two": "no", "tags": " "}]


def test_names_are_those_of_the_training_rows_sorted(tmp_path):
    learnt = learn_names(Recipe("r", TABLE), write(tmp_path, one=ONE, some=SOME), "train")
    one, some = learnt.routing.routes
    assert one.classes == ("10", "9", "a b", "b", "näh") and one.num_classes == 5
    assert some.targets["two"] == Target("binary", classes=("no", "yes"), optional=True)
    assert some.targets["tags"] == Target("multilabel", classes=("x", "y"), separator=";")
    assert some.targets["plain"] == Target("binary")


WRONG = {
    "too-many": (
        {"some": [*SOME, {"tags": "p;q"}]},
        "route 'some', label 'tags': train has more than 3 names of classes, such as 'p', 'q', 'x'",
    ),
    "not-two": (
        {"some": [*SOME, {"two": "perhaps"}]},
        "label 'two': train has more than two names of classes, 'no', 'perhaps', 'yes'",
    ),
    "but-one": ({"one": ONE[:2]}, "route 'one', label 'y': train has 1 names of classes, 'b'; two"),
    "none": ({"one": []}, "train has 0 names of classes, none at all"),
}


@pytest.mark.parametrize(("rows", "told"), WRONG.values(), ids=WRONG)
def test_too_many_or_too_few_names_are_told(tmp_path, rows, told):
    uris = write(tmp_path, **{"one": ONE, "some": SOME} | rows)
    with pytest.raises(BranchlineError, match=told):
        learn_names(Recipe("r", TABLE), uris, "train")


def test_a_route_that_is_not_trained_may_have_too_few(tmp_path):
    recipe = Recipe("r", TABLE, least_rows=3, scarce={"one": "skip"})
    uris = write(tmp_path, one=ONE[:1], some=SOME)
    assert learn_names(recipe, uris, "train").routing["one"].num_classes == 2


def test_a_recipe_that_learns_no_names_reads_nothing():
    recipe = Recipe(
        "r", RoutingTable(Route("r", when.present("x"), features=X, label="y", task="binary"))
    )
    assert learn_names(recipe, ["nowhere"], "train") is recipe
