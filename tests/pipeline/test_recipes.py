"""Every built-in recipe of a system, through the whole pipeline, in this process."""

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import builders as build
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from branchline.components.branch_trainer.recipe.packed_weights import read_weights
from branchline.pipeline.collect_outputs import collect_outputs, find_pushed
from branchline.pipeline.find_data import write_data
from branchline.pipeline.graph import needs_file
from branchline.pipeline.load_recipe import load_recipe
from branchline.pipeline.local import run_pipeline
from branchline.schemas import Recipe, Target

pytestmark = pytest.mark.e2e
QUARANTINED: dict[str, dict[str, int]] = {
    "typed": {"no_route": 20},
    "alternating": {},
    "tangled": {},
    "selective": {},
    "losses": {},
    "everyday": {},
}


class Run(NamedTuple):
    """A finished run, and what it left."""

    recipe: Recipe
    module: ModuleType
    output: Path
    metrics: dict
    history: dict
    served: Any

    def rows(self, split: str) -> list[bytes]:
        """The serialized examples of a split as they came from the records, of all routes."""
        (folder,) = self.output.glob(f"pipeline/MixedExampleGen/examples/*/Split-{split}")
        files = sorted(map(str, folder.iterdir()))
        dataset = tf.data.TFRecordDataset(files, compression_type="GZIP")
        return list(dataset.as_numpy_iterator())  # pyright: ignore[reportReturnType]


def values_of(rows: list[bytes], key: str) -> list[list]:
    """The values of a key in each example, [] where there are none."""
    found = []
    for row in rows:
        feature = tf.train.Example.FromString(row).features.feature[key]
        kind = feature.WhichOneof("kind")
        found.append(list(getattr(feature, kind).value) if kind else [])
    return found


def run_recipe(name: str, output: Path) -> Run:
    recipe, file, module = load_recipe(name)
    run_pipeline(
        recipe,
        recipe_file=file,
        recipe_module=module,
        data_paths=[write_data(recipe, file, output)],
        output_dir=output,
        enable_cache=False,
        resume=False,
    )
    collect_outputs(output / "metadata.sqlite", output)
    (history,) = output.glob("pipeline/BranchTrainer/model_run/*/history.json")
    pushed = find_pushed(output / "serving" / recipe.name)
    return Run(
        recipe,
        module,
        output,
        json.loads((output / "metrics.json").read_text()),
        json.loads(history.read_text()),
        tf.saved_model.load(str(pushed)) if pushed else None,
    )


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Name → its run, made when first asked for."""
    runs: dict[str, Run] = {}

    def run(name: str) -> Run:
        if name not in runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", sys.argv[:1])  # TFX's executors parse it
                runs[name] = run_recipe(name, tmp_path_factory.mktemp(name))
        return runs[name]

    return run


@pytest.mark.parametrize("name", QUARANTINED)
def test_a_recipe_is_blessed_and_loses_no_record(run_of, name):
    run = run_of(name)
    assert run.metrics["blessed"], run.metrics["routes"]
    records = run.metrics["records"]
    assert records["quarantined"] == QUARANTINED[name]
    files = [each for each in (run.output / "data").iterdir() if each.is_file()]
    headers = sum(each.suffix == ".csv" for each in files)
    lines = sum(len(each.read_text().splitlines()) for each in files) - headers
    assert records["in"] == lines
    assert records["train"] + records["eval"] + sum(QUARANTINED[name].values()) == lines
    assert run.history["seconds"] < 60


@pytest.mark.parametrize("name", QUARANTINED)
def test_its_figures_are_those_of_the_pushed_model_by_numpy(run_of, name):
    run = run_of(name)
    rows = run.rows("eval")
    outputs = run.served.signatures["serving_default"](examples=tf.constant(rows))
    taken = outputs["route"].numpy().astype(str)
    for route in run.recipe.routing.routes:
        mine = np.flatnonzero(taken == route.name)
        told = run.metrics["routes"][route.name]
        assert told["examples"] == len(mine)
        for key, target in route.labels.items():
            labels = values_of([rows[i] for i in mine], key)
            there = [bool(label) for label in labels]
            assert all(there) or target.optional
            label = np.array([label for label in labels if label])
            if target.classes:
                label = np.searchsorted(np.sort(target.classes), label.astype(str))
                label = np.argsort(target.classes)[label]
            found = figures(target, label, outputs[route.output(key)].numpy()[mine][there])
            for metric, value in found.items():
                assert told[route.metric(key, metric)] == pytest.approx(value, rel=1e-3), metric


def figures(target: Target, label: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Metric → value, of labels [rows, entries] and what was predicted of these rows."""
    if target.task == "regression":
        error = predicted.reshape(label.shape) - label
        mean_square = np.mean(np.square(error))
        return {
            "mean_absolute_error": np.mean(np.abs(error)),
            "root_mean_squared_error": np.sqrt(mean_square),
        }
    guess = predicted.argmax(-1) if target.task == "multiclass" else predicted > 0.5
    guess = guess.reshape(label.shape)
    found = {"accuracy": np.mean(guess == label)}
    if target.shape:
        found["exact_match"] = np.mean(np.all(guess == label, axis=1))
    if target.loss == "dice":
        both = 2 * np.sum(guess * label, axis=1)
        found["dice"] = np.mean(both / (guess.sum(1) + label.sum(1)))
    return found


def test_typed_sets_aside_the_texts_and_nothing_else(run_of):
    lines = (run_of("typed").output / "data" / "records.jsonl").read_text().splitlines()
    texts = [line for line in lines if isinstance(json.loads(line)["value"], str)]
    assert len(texts) == run_of("typed").module.NUM_TEXTS == QUARANTINED["typed"]["no_route"]


def test_alternating_models_take_turns_by_the_pattern(run_of):
    run = run_of("alternating")
    steps = {name: route["steps"] for name, route in run.history["routes"].items()}
    names = dict(zip("abc", run.recipe.routing.names, strict=True))
    turns = run.recipe.training.steps // len(run.module.PATTERN)
    assert steps == {names[x]: turns * run.module.PATTERN.count(x) for x in "abc"}


def test_alternating_models_are_about_as_good_as_scikit_learns_alone(run_of):
    run = run_of("alternating")

    def errors(route, key, estimator):
        label = run.recipe.routing[route].label
        splits = []
        for rows in (run.rows("train"), run.rows("eval")):
            splits += ([v for v in values_of(rows, k) if v] for k in (key, label))
        x, y, new_x, new_y = map(np.array, splits)
        return (
            make_pipeline(StandardScaler(), estimator).fit(x, y[:, 0]).predict(new_x) - new_y[:, 0]
        )

    ridge = np.sqrt(np.mean(errors("diabetes", "baseline", RidgeCV()) ** 2))
    line = np.mean(np.abs(errors("iris", "flower", LinearRegression())))
    found = run.metrics["routes"]
    assert found["diabetes"]["root_mean_squared_error"] < 1.1 * ridge
    assert found["iris"]["mean_absolute_error"] < 1.2 * line


def test_tangled_gets_every_sum_right_on_all_eight_paths(run_of):
    run = run_of("tangled")
    sums = list(itertools.product(("binary", "decimal"), ("plus1", "times2"), range(10)))
    examples = []
    for encoding, operation, digit in sums:
        written = (
            {"bits": [digit >> place & 1 for place in range(4)]}
            if encoding == "binary"
            else {"digit": digit}
        )
        examples.append(build.example({"encoding": encoding, "operation": operation, **written}))
    outputs = run.served.signatures["serving_default"](examples=tf.constant(examples))
    for row, (encoding, operation, digit) in enumerate(sums):
        wanted = digit + 1 if operation == "plus1" else 2 * digit
        path = f"{encoding}_{operation}"
        assert outputs["route"][row] == path.encode()
        bits = outputs[f"{path}/result.binary"][row].numpy() > 0.5
        assert sum(int(bit) << place for place, bit in enumerate(bits)) == wanted
        assert outputs[f"{path}/result.decimal"][row].numpy().argmax() == wanted


def test_tangled_has_all_forty_sums_in_either_split(run_of):
    for split in ("train", "eval"):
        rows = run_of("tangled").rows(split)
        keys = ("encoding", "operation", "bits", "digit")
        sums = {str(found) for found in zip(*(values_of(rows, key) for key in keys), strict=True)}
        assert len(sums) == 40


def test_selective_leaves_masked_weights_at_zero_and_switched_its_layers_on(run_of):
    run = run_of("selective")
    (served,) = run.output.glob("serving/selective/*")
    variables = dict(read_weights(str(served)))
    (kernel,) = [v for name, v in variables.items() if name.endswith("local/kernel")]
    mask = run.module.NEIGHBOURS
    assert kernel.shape == mask.shape == (64, 256)
    assert np.all(kernel[mask == 0] == 0) and np.all(kernel[mask == 1] != 0)
    (change,) = [v for name, v in variables.items() if name.endswith("change/kernel")]
    assert np.any(change != 0), "it starts at 0 and is trained from a step on"
    conditions = [value for name, value in variables.items() if name.endswith("/on")]
    assert conditions == [1, 1]


def test_losses_beats_the_most_frequent_symbol_by_far(run_of):
    run = run_of("losses")
    symbols = np.concatenate([np.array(v) for v in values_of(run.rows("eval"), "next") if v])
    most_frequent = np.bincount(symbols).max() / symbols.size
    assert run.metrics["routes"]["text"]["next/accuracy"] > 2 * most_frequent


def test_losses_lacks_the_colour_of_a_third_of_the_pictures(run_of):
    rows = run_of("losses").rows("train")
    digits, colours = (values_of(rows, f"labels.category_{i}") for i in (1, 2))
    pictures = [bool(colour) for digit, colour in zip(digits, colours, strict=True) if digit]
    assert 0.6 < np.mean(pictures) < 0.73


@pytest.mark.parametrize("name", ["build_model", "preprocessing_fn", "configure_trainer", None])
def test_a_recipe_file_goes_to_training_when_it_has_a_function_for_it(name):
    recipe: Any = SimpleNamespace(training=SimpleNamespace(schedule=None))
    module: Any = SimpleNamespace(**({name: print} if name else {}))
    assert needs_file(recipe, module) is (name is not None)
