"""Labels of any number of classes are judged class by class, as scikit-learn does."""

import builders_evaluator as build
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score
from tfx.utils import path_utils

from branchline.components.branch_evaluator.by_class import count, over_all
from branchline.components.branch_evaluator.metric_configs import check_metrics
from branchline.components.files.classes_file import write_classes
from branchline.schemas import (
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    when,
)
from branchline.schemas.class_names import NONE_OF_THEM

NAMES = ("news", "a/b[c]", "spört", "never")
X = {"x": Numeric((4,))}
TOPICS = Target("multilabel", classes=NAMES, separator=";", optional=True)
TABLE = RoutingTable(
    Route("one", when.equals("k", 0), features=X, label="y", task="multilabel", classes=NAMES),
    Route("some", when.equals("k", 1), features=X, targets={"y": TOPICS, "z": Target("binary")}),
)


def rows(size=1500):
    """Entries [size, 4], no row of the last class, and probabilities near them, some just 0.5."""
    rng = np.random.default_rng(3)
    entries = (rng.random((size, 4)) < (0.5, 0.3, 0.05, 0)).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(entries * 2 - 1, 1.5)))
    scores[:50, 1] = 0.5
    return entries, scores.astype(np.float32)


ENTRIES, SCORES = rows()


def held(entries, separator=None):
    """What routed examples hold of each row; a name may be there twice."""
    some = [[name for name, one in zip(NAMES, row, strict=True) if one] for row in entries]
    some = [names + names[:1] for names in some]
    return [[separator.join(n)] if separator and n else n or [NONE_OF_THEM] for n in some]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("multilabel")
    examples = build.routed_examples(root / "e", {"one": (held(ENTRIES), SCORES)}, TABLE)
    for number, row in enumerate(zip(held(ENTRIES, ";"), SCORES, strict=True)):
        there = {} if number % 3 == 0 else {TABLE.column("some", "y"): row[0]}
        line = build.example(_route="some", x=row[1], z=number % 2, **there)
        build.write_rows(root / "e", f"some-{number:05d}-of-01500.gz", [line])
        if number == 299:
            break
    outputs = {"one": ("x", (4,), "one", lambda x: x), "some/y": ("x", (4,), "some", lambda x: x)}
    outputs["some/z"] = ("x", (4,), "some", lambda x: x[:, :1])
    asked = {"one": {"auc": 0.6, "precision[a/b[c]]": 0.1, "auc[never]": 0.1}}
    asked["some"] = {"y/recall[news]": 0.99}
    model = build.save_model(root / "m", outputs)
    base = build.save_model(root / "b", outputs)
    metrics = {"one": ["exact_match", "accuracy"]}
    return build.run(root, examples, model, asked, metrics, [base], TABLE)[0]["routes"]


def expected(entries, scores):
    """By class and over all, as scikit-learn has it."""
    guess, by_class = (scores >= 0.5).astype(int), {}
    for number, name in enumerate(NAMES):
        mine = entries[:, number], guess[:, number]
        there = len(set(mine[0])) == 2
        by_class[name] = {
            "positives": int(mine[0].sum()),
            "auc": roc_auc_score(mine[0], scores[:, number]) if there else None,
            "precision": precision_score(*mine) if mine[1].any() else None,
            "recall": recall_score(*mine) if mine[0].any() else None,
        }
    return by_class, {
        "auc": roc_auc_score(entries[:, :3], scores[:, :3], average="macro"),
        "precision": precision_score(entries, guess, average="micro"),
        "recall": recall_score(entries, guess, average="micro"),
    }


def close(got, want):
    assert got.keys() == want.keys()
    for name in want:
        assert got[name] == (None if want[name] is None else pytest.approx(want[name], abs=1e-4))


def test_figures_are_those_of_scikit_learn(found):
    by_class, over = expected(ENTRIES, SCORES)
    one = found["one"]
    over["exact_match"] = accuracy_score(ENTRIES, SCORES > 0.5)
    over["accuracy"] = ((SCORES > 0.5) == ENTRIES).mean()
    over |= {"precision[a/b[c]]": by_class["a/b[c]"]["precision"], "auc[never]": None}
    close(one["metrics"], over)
    assert one["baseline"] == one["metrics"] and one["examples"] == 1500
    for name in NAMES:
        close(one["by_class"]["y"][name], by_class[name])
    holds = {check["metric"]: check["holds"] for check in one["checks"]}
    assert holds == {"auc": True, "precision[a/b[c]]": True, "auc[never]": False}


def test_rows_without_the_label_count_for_nothing(found):
    mine = np.arange(300)[np.arange(300) % 3 > 0]
    by_class, over = expected(ENTRIES[mine], SCORES[mine])
    some = found["some"]
    got = {name[2:]: each for name, each in some["metrics"].items() if name.startswith("y/")}
    close(got, over | {"recall[news]": by_class["news"]["recall"]})
    for name in NAMES:
        close(some["by_class"]["y"][name], by_class[name])
    assert "y: 200 of 300 examples have this label" in some["note"]
    assert [check["metric"] for check in some["checks"] if not check["holds"]] == ["y/recall[news]"]


def test_a_name_that_is_none_is_told(tmp_path):
    odd = [["news"], ["egg"]], SCORES[:2]
    examples = build.routed_examples(tmp_path / "e", {"one": odd}, TABLE)
    model = build.model(tmp_path / "m", RoutingTable(TABLE["one"]))
    with pytest.raises(BranchlineError, match="a row has 'egg' in 'y', expected class names"):
        build.run(tmp_path, examples, model, table=RoutingTable(TABLE["one"]))


def test_a_nan_is_below_every_score():
    scores = np.array([[np.nan], [0.0], [1.0]])
    found = over_all(count(np.array([[1], [0], [1]]), scores), 1)
    assert found == {"auc": 0.5, "precision": 1.0, "recall": 0.5}


def test_metrics_of_classes_are_checked_by_name():
    check_metrics(TABLE, {"one": {"auc[news]": 0.5}, "some": {"y/recall[a/b[c]]": 0.5}})
    with pytest.raises(RecipeError, match="'auc\\[sport\\]'.*its classes are news, "):
        check_metrics(TABLE, {"one": {"auc[sport]": 0.5}})
    with pytest.raises(RecipeError, match="it needs a multiclass route"):
        check_metrics(TABLE, {"one": {"categorical_accuracy": 0.5}})


LEARNS = RoutingTable(
    Route("one", when.equals("k", 0), features=X, label="y", task="multiclass", classes="learn"),
    Route("set", when.equals("k", 1), features=X, label="y", task="multilabel", classes="learn"),
)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    root = tmp_path_factory.mktemp("learnt")
    labels = np.array([*NAMES, "new"])[np.arange(500) % 5]
    held_by_set = [names + ["new"] * (n % 5 == 4) for n, names in enumerate(held(ENTRIES[:500]))]
    rows = {"one": (labels, SCORES[:500]), "set": (held_by_set, SCORES[:500])}
    examples = build.routed_examples(root / "e", rows, LEARNS)
    models = [build.model(root / name, LEARNS) for name in ("m", "b")]
    for model, of_one in zip(models, (NAMES, NAMES[::-1]), strict=True):
        folder = path_utils.serving_model_dir(model.uri)
        write_classes(folder, {"one": of_one, "set": NAMES})
    asked = {"one": {"accuracy": 0.1}, "set": {"auc": 0.5}}
    return build.run(root, examples, models[0], asked, None, [models[1]], LEARNS)[0]["routes"]


def test_names_that_were_not_learnt_are_left_out_and_counted(learnt):
    one, of_sets = learnt["one"], learnt["set"]
    known = np.arange(500)[np.arange(500) % 5 < 4]
    accuracy = (SCORES[known].argmax(1) == known % 5).mean()
    assert one["metrics"] == {"accuracy": pytest.approx(accuracy), "unlearnt": 100}
    assert one["examples"] == 500 and "100 examples have a name that was not" in one["note"]
    assert np.sum(one["confusion"]["y"]["counts"]) == 400
    by_class, over = expected(ENTRIES[:500], SCORES[:500])
    close(of_sets["metrics"], over | {"unlearnt": 100})
    assert of_sets["by_class"]["y"]["news"]["positives"] == by_class["news"]["positives"]


def test_a_baseline_that_learnt_other_names_is_not_compared(learnt):
    assert (
        learnt["one"]["baseline"] is None and "with these names of classes" in learnt["one"]["note"]
    )
    assert learnt["set"]["baseline"]["auc"] == learnt["set"]["metrics"]["auc"]


def test_a_model_that_does_not_say_what_it_learnt_is_told(tmp_path):
    examples = build.routed_examples(tmp_path / "e", {"one": (["a"], SCORES[:1])}, LEARNS)
    with pytest.raises(BranchlineError, match="does not say which names of classes .* 'one'"):
        build.run(tmp_path, examples, build.model(tmp_path / "m", LEARNS), table=LEARNS)


def test_figures_count_by_weight_as_scikit_learn_counts_them():
    weights = np.random.default_rng(1).integers(0, 4, len(ENTRIES)).astype(float)
    got = over_all(count(ENTRIES, SCORES, weights), 4)
    guess = (SCORES >= 0.5).astype(int)
    by = {"sample_weight": weights, "average": "micro"}
    auc = roc_auc_score(ENTRIES[:, :3], SCORES[:, :3], average="macro", sample_weight=weights)
    assert got["auc"] == pytest.approx(auc, abs=1e-4)
    assert got["precision"] == pytest.approx(precision_score(ENTRIES, guess, **by))
    assert got["recall"] == pytest.approx(recall_score(ENTRIES, guess, **by))
