"""Labels by name are judged as their numbers are, and counted by name."""

import builders_evaluator as build
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from branchline.schemas import BranchlineError, Numeric, Route, RoutingTable, when

NAMES = {"b": ("no", "yes"), "m": ("spam", "häm", "a")}
X = {"b": Numeric(), "m": Numeric((3,))}


def table(*, named: bool) -> RoutingTable:
    """The binary and the multiclass route of `build.routing`, with names or without."""
    return RoutingTable(
        *(
            Route(
                name,
                when.equals("kind", name),
                features={"x": X[name]},
                label="y",
                task=task,
                num_classes=None if named or task == "binary" else 3,
                classes=NAMES[name] if named else None,
            )
            for name, task in (("b", "binary"), ("m", "multiclass"))
        )
    )


def by_name(rows):
    return {
        route: (np.array(NAMES[route])[rows[route][0]], rows[route][1])
        for route in NAMES
        if route in rows
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Whether by name → what the evaluation says, against a baseline."""
    rows = {route: build.rows()[route] for route in NAMES}
    summaries = {}
    for named in (True, False):
        root = tmp_path_factory.mktemp("names")
        own = table(named=named)
        examples = build.routed_examples(root / "examples", by_name(rows) if named else rows, own)
        model, baseline = build.model(root / "m", own), build.model(root / "base", own)
        summaries[named], *_ = build.run(
            root,
            examples,
            model,
            {"b": {"auc": 0.6}, "m": {"accuracy": 0.5}},
            {"m": ["sparse_categorical_crossentropy"]},
            [baseline],
            own,
        )
    return summaries


def test_figures_and_checks_are_those_of_the_numbers(found):
    for route in NAMES:
        named, numbered = (found[named]["routes"][route] for named in (True, False))
        assert {key: of for key, of in named.items() if key != "confusion"} == numbered
        assert numbered["checks"] and numbered["baseline"] and named["examples"] == 1500


def test_classes_are_counted_as_scikit_learn_counts_them(found):
    for route, (labels, scores) in build.rows().items():
        if route not in NAMES:
            continue
        guess = scores.argmax(1) if scores.ndim > 1 else (scores > 0.5).astype(int)
        (table_of,) = found[True]["routes"][route]["confusion"].values()
        assert table_of["classes"] == list(NAMES[route])
        assert table_of["counts"] == confusion_matrix(labels, guess).tolist()


def test_a_label_that_is_no_name_is_told(tmp_path):
    own = table(named=True)
    rows = by_name(build.rows(size=4))
    rows["m"][0][2] = "egg"
    examples = build.routed_examples(tmp_path / "examples", rows, own)
    told = "route 'm' could not be evaluated: a row has 'egg' in 'y', expected one class name in"
    with pytest.raises(BranchlineError, match=told):
        build.run(tmp_path, examples, build.model(tmp_path / "m", own), table=own)
