"""A route with no rows in a split, through the whole pipeline, in real subprocesses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from builders import example

from branchline.components.mixed_example_gen.split_records import choose_split

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Training, when

recipe = Recipe(
    name="scarce",
    routing=RoutingTable(
        *(
            Route(name, when.equals("kind", name), features={"x": Numeric()}, label="y",
                  task="regression")
            for name in ("usual", "unjudged", "untrained")
        ),
    ),
    training=Training(steps=60, batch_size=16, learning_rate=0.01),
    thresholds={"usual": {"mean_absolute_error": 9.0}, "unjudged": {"mean_absolute_error": 9.0}},
    split_key="id",
)
"""
COUNTS = {"usual": {"train": 60, "eval": 15}, "unjudged": {"train": 40}, "untrained": {"eval": 8}}


def records():
    """As many of each kind in each split as COUNTS says; `y` is three times `x`."""
    ids = {"train": [], "eval": []}
    for number in range(1000):
        split = choose_split({"id": [number]}, {"train": 4, "eval": 1}, "id")
        ids[split].append(number)
    return [
        {"id": number, "kind": kind, "x": number / 100, "y": 3 * number / 100}
        for kind, counts in COUNTS.items()
        for split, count in counts.items()
        for number in ids[split][:count]
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scarce")
    (folder / "scarce.py").write_text(RECIPE)
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records())))
    return folder


def run_local(project, *arguments):
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "scarce.py", *arguments]
    return subprocess.run(
        [*command, "--data", "records.jsonl", "--output", "out"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_unless_told_otherwise_the_run_ends_in_the_router_naming_route_and_split(project):
    failed = run_local(project)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    cause, advice, log = failed.stderr.splitlines()
    assert cause.startswith("run_local: Router failed: ")
    assert "'unjudged' in eval (0)" in cause and "'untrained' in train (0)" in cause
    assert "'usual'" not in cause and "scarce={ROUTE" in cause
    assert advice.startswith("  what to do: ") and log.startswith("  log: ")
    assert "Transform" not in failed.stdout.partition("Router")[2]


@pytest.fixture(scope="module")
def went_on(project):
    ran = run_local(project, "--set", 'scarce={"*": "skip"}', "--require-blessing")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_a_run_that_may_goes_on_says_so_and_is_blessed_for_the_other_routes(project, went_on):
    for told in ("'unjudged' in eval (0)", "'untrained' in train (0)"):
        assert told in went_on
    metrics = json.loads((project / "out" / "metrics.json").read_text())
    assert metrics["blessed"] is True
    examples = {name: route["examples"] for name, route in metrics["routes"].items()}
    assert examples == {"usual": 15, "unjudged": 0, "untrained": 0}
    assert metrics["routes"]["usual"]["mean_absolute_error"] <= 9.0
    assert metrics["routes"]["unjudged"] == {"examples": 0}
    total = sum(count for counts in COUNTS.values() for count in counts.values())
    assert metrics["records"] == {"in": total, "train": 100, "eval": 23, "quarantined": {}}


def test_its_report_says_why_a_route_was_not_judged(project, went_on):
    report = (project / "out" / "report.html").read_text()
    for why in ("no examples in split", "the model is not trained for it"):
        assert f"not evaluated: {why}" in report
    assert "do not add up" not in report


def test_its_model_predicts_for_the_routes_it_was_trained_for_alone(project, went_on):
    (version,) = (project / "out" / "serving" / "scarce").iterdir()
    model = tf.saved_model.load(str(version))
    rows = [example({"kind": kind, "x": 1.0}) for kind in COUNTS]
    outputs = model.signatures["serving_default"](examples=tf.constant(rows))
    assert [name.decode() for name in outputs["route"].numpy()] == list(COUNTS)
    for row, name in enumerate(COUNTS):
        trained = "train" in COUNTS[name]
        expected = [trained and i == row for i in range(len(COUNTS))]
        assert np.isfinite(outputs[name].numpy()).tolist() == expected
