"""Several targets of one route, shaped ones and missing ones, against scikit-learn and NumPy."""

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn import metrics as sk
from tfx.types import artifact_utils, standard_artifacts

from branchline.components.branch_evaluator.metric_configs import check_metrics
from branchline.components.branch_evaluator.row_mean import dice, exact_match
from branchline.schemas import (
    Bound,
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    when,
)

TARGETS = {
    "labels.category": Target("multiclass", num_classes=3),
    "urgent": Target("binary", optional=True),
    "mask": Target("binary", shape=(2, 3), loss="dice"),
    "tokens": Target("multiclass", num_classes=5, shape=(4,), optional=True),
    "sizes": Target("regression", shape=(2,), optional=True),
    "never": Target("binary", shape=(3,), optional=True),
}
TABLE = RoutingTable(
    Route("a", when.present("a"), features={"a": Numeric()}, targets=TARGETS),
    # Of the same keys, to see that nothing leaks from one route into the other.
    Route("b", when.present("b"), features={"b": Numeric()}, targets={"urgent": Target("binary")}),
)
METRICS = {
    "a": [
        "labels.category/sparse_categorical_crossentropy",
        "urgent/precision",
        "mask/recall",
        "mask/binary_crossentropy",
        "sizes/mean_squared_error",
        "tokens/sparse_categorical_crossentropy",
    ]
}
SIZE = 300


def softmax(logits):
    powers = np.exp(logits)
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def labelled(route):
    """Key → labels [rows, …], predictions [rows, …], and which rows have the label."""
    rng = np.random.default_rng(TABLE.names.index(route))
    found = {}
    for key, target in TABLE[route].targets.items():
        shape = (SIZE, *target.shape)
        if target.task == "regression":
            label = rng.normal(3, 2, shape).astype(np.float32)
            guess = (label + rng.normal(0.5, 1, shape)).astype(np.float32)
        elif target.task == "binary":
            label = rng.integers(0, 2, shape)
            label[:20] = 0  # empty masks
            guess = (1 / (1 + np.exp(-rng.normal(3 * label - 1.5, 1.0)))).astype(np.float32)
        else:
            label = rng.integers(0, target.num_classes, shape)
            guess = softmax(
                rng.normal(0, 1, (*shape, target.num_classes))
                + 2.5 * np.eye(5)[label][..., : target.num_classes]
            )
        there = rng.random(SIZE) < 0.7 if target.optional else np.ones(SIZE, bool)
        found[key] = (label, guess, there if key != "never" else np.zeros(SIZE, bool))
    return found


def write_examples(root):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.split_names = artifact_utils.encode_split_names(["eval"])
    rows = []
    for row in range(SIZE):  # of one route after the other: mixed files are as good as any
        for name in TABLE.names:
            fields = {}
            for key, (label, guess, there) in labelled(name).items():
                fields[f"guess {key}"] = guess[row].ravel()
                if there[row]:
                    fields[key] = label[row].ravel()
            rows.append(build.example(_route=name, **fields))
    build.write_rows(root, "mixed.gz", rows)
    return artifact


def save_model(root, leave_out=()):
    """A model that returns what the rows hold as its predictions."""
    outputs = {
        route.output(key): (f"guess {key}", target.prediction_shape, route.name, tf.identity)
        for route in TABLE.routes
        for key, target in route.targets.items()
        if key not in leave_out
    }
    return build.save_model(root, outputs)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("targets")
    return write_examples(root / "examples"), save_model(root / "model")


@pytest.fixture(scope="module")
def summary_and_folder(tmp_path_factory, places):
    """A run against a baseline that lacks one of the targets of `a`."""
    root = tmp_path_factory.mktemp("run")
    base = save_model(root / "base", leave_out=["sizes"])
    thresholds = {"a": {"tokens/accuracy": 0.5, "mask/dice": Bound(least=0.9999)}}
    summary, _, folder = build.run(root, *places, thresholds, METRICS, [base], TABLE)
    return summary, folder


@pytest.fixture(scope="module")
def summary(summary_and_folder):
    return summary_and_folder[0]


def by_hand(name):
    """Metric → its value over the entries of the rows that have the label."""
    found = {}
    for key, (label, guess, there) in labelled(name).items():
        label, guess = label[there], guess[there]
        flat, task, right = label.ravel(), TABLE[name].targets[key].task, None
        if key == "never":
            continue
        if task == "regression":
            figures = {
                "mean_absolute_error": sk.mean_absolute_error(flat, guess.ravel()),
                "root_mean_squared_error": sk.mean_squared_error(flat, guess.ravel()) ** 0.5,
                "mean_squared_error": sk.mean_squared_error(flat, guess.ravel()),
            }
        elif task == "binary":
            figures = {
                "auc": sk.roc_auc_score(flat, guess.ravel()),
                "accuracy": sk.accuracy_score(flat, guess.ravel() > 0.5),
            }
            right = (guess > 0.5) == label
        else:
            classes = guess.reshape(-1, guess.shape[-1])
            figures = {
                "accuracy": sk.accuracy_score(flat, classes.argmax(-1)),
                "sparse_categorical_crossentropy": sk.log_loss(flat, classes),
            }
            right = guess.argmax(-1) == label
        if label.ndim > 1 and right is not None:
            figures["exact_match"] = right.reshape(len(right), -1).all(1).mean()
        if key == "urgent" and name == "a":
            figures["precision"] = sk.precision_score(flat, guess.ravel() > 0.5)
        if key == "mask":
            figures["recall"] = sk.recall_score(flat, guess.ravel() > 0.5)
            figures["binary_crossentropy"] = sk.log_loss(flat, guess.ravel())
            pairs = zip(label.reshape(-1, 6), guess.reshape(-1, 6) > 0.5, strict=True)
            figures["dice"] = np.mean([sk.f1_score(y, p, zero_division=1.0) for y, p in pairs])
        found |= {f"{key}/{metric}": value for metric, value in figures.items()}
    return found


@pytest.mark.parametrize("name", ["a", "b"])
def test_figures_of_every_target_agree_with_scikit_learn(summary, name):
    found = summary["routes"][name]
    assert found["examples"] == SIZE, "examples are counted, not entries"
    assert found["metrics"] == pytest.approx(by_hand(name), abs=1e-3)


def test_an_optional_target_says_over_how_many_examples_it_is(summary):
    there = sum(labelled("a")["urgent"][2])
    note = summary["routes"]["a"]["note"]
    assert f"urgent: {there} of {SIZE} examples have this label" in note
    assert f"never: 0 of {SIZE} examples have this label" in note
    assert "mask:" not in note


def test_thresholds_of_targets_are_checked_and_a_baseline_without_one_is_not_compared(summary):
    checks = {check["metric"]: check["holds"] for check in summary["routes"]["a"]["checks"]}
    assert checks == {"tokens/accuracy": True, "mask/dice": False}
    assert "one of its targets" in summary["routes"]["a"]["note"]
    assert summary["routes"]["b"]["baseline"] == summary["routes"]["b"]["metrics"]
    assert summary["blessed"] is False


def test_a_model_without_a_targets_output_fails_by_name(tmp_path, places):
    partial = save_model(tmp_path / "partial", leave_out=["mask"])
    with pytest.raises(BranchlineError, match="cannot predict route 'a': expected .*'a/mask'"):
        build.run(tmp_path, places[0], partial, table=TABLE)


def test_a_row_that_lacks_a_required_label_fails_by_route(tmp_path, places):
    examples = write_examples(tmp_path / "examples")
    build.write_rows(tmp_path / "examples", "more.gz", [build.example(_route="a", mask=[1] * 6)])
    says = "route 'a' .*0 values in 'labels.category', expected one int"
    with pytest.raises(BranchlineError, match=says):
        build.run(tmp_path, examples, places[1], table=TABLE)


def test_tfmas_own_result_tells_targets_apart_by_output_name(summary_and_folder):
    summary, folder = summary_and_folder
    result = tfma.load_eval_result(str(folder))
    route = (("_route", "a"),)
    assert result.get_metrics_for_slice(route)["example_count"] == {"doubleValue": SIZE}
    mask = result.get_metrics_for_slice(route, output_name="mask")
    assert mask["dice"]["doubleValue"] == summary["routes"]["a"]["metrics"]["mask/dice"]
    asked = {"auc", "accuracy", "exact_match", "dice", "recall", "binary_crossentropy"}
    assert asked < set(mask) <= asked | {"example_count", "mean_label", "mean_prediction"}


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("accuracy", "expected one of a target, such as 'labels.category/accuracy'; the targets"),
        ("mask/acuracy", "target 'mask' of route 'a'.*close to it: Accuracy"),
        ("labels.category/exact_match", "multiclass target .*needs a target with a shape"),
        ("sizes/exact_match", "regression target 'sizes'.*needs a binary target or classes"),
        ("tokens/dice", "needs a binary target$"),
        ("tokens/precision", "multiclass target 'tokens' of route 'a'"),
        ("sizes/cosine_similarity", "another over the examples than over their entries"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_before_the_run(metric, says):
    with pytest.raises(RecipeError, match=says):
        check_metrics(TABLE, metrics={"a": [metric]})


def test_metrics_that_can_be_are_let_through():
    check_metrics(TABLE, {"a": {"mask/dice": 0.5, "tokens/exact_match": 0.5}}, METRICS)


def test_dice_is_one_on_two_empty_masks_and_zero_on_one():
    empty, full = np.zeros(4), np.ones(4)
    assert [dice(empty, empty), dice(empty, full), dice(full, full)] == [1.0, 0.0, 1.0]
    assert dice(np.array([1, 1, 0, 0]), np.array([0.9, 0.1, 0.8, 0.5])) == 0.5


def test_an_exact_match_has_every_entry_right():
    classes = np.array([[0.1, 0.9], [0.6, 0.4]])
    assert exact_match(np.array([1, 0]), classes) == 1
    assert exact_match(np.array([1, 1]), classes) == 0
    assert exact_match(np.array([1, 0, 0]), np.array([0.6, 0.2, 0.5])) == 1
    assert exact_match(np.array([0]), np.array([np.nan])) == 0
