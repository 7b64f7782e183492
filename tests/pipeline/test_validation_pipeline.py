"""Drift, a curated schema and what they block, through the whole pipeline, in real subprocesses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, Training
from branchline.schemas import Validation, when

recipe = Recipe(
    name="gates",
    routing=RoutingTable(
        *(
            Route(name, when.equals("kind", name), label="y", task="regression",
                  features={"x": Numeric(), "colour": Categorical()})
            for name in ("up", "down")
        ),
    ),
    training=Training(steps=40, batch_size=16, learning_rate=0.01),
    thresholds={"up": {"mean_absolute_error": 99.0}},
    split_key="id",
    validation=Validation(drift=0.25, block=["anomalies", "drift"]),
)
"""


def records(of_down=("red", "blue", "red", "blue")):
    """Rows of two routes; those of one have colours in these shares."""
    colours = {"up": ("red", "blue", "red", "blue"), "down": of_down}
    return [
        {"id": n, "kind": kind, "x": n % 10, "y": n % 10, "colour": of_kind[n // 10 % 4]}
        for n in range(400)
        for kind, of_kind in colours.items()
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    (folder / "gates.py").write_text(RECIPE)
    return folder


def run_local(project, rows, *arguments):
    path, text = project / "records.jsonl", "\n".join(map(json.dumps, rows))
    if not path.exists() or path.read_text() != text:  # when it changed is part of the cache's key
        path.write_text(text)
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "gates.py", *arguments]
    return subprocess.run(
        [*command, "--data", "records.jsonl", "--output", "out"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def first_run(project):
    done = run_local(project, records())
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_what_has_not_changed_is_cached_although_a_blessed_run_came_between(project, first_run):
    again = run_local(project, records())
    assert again.returncode == 0, again.stdout + again.stderr
    for component in ("RouteValidator", "BranchTrainer", "BranchEvaluator", "Pusher", "RunReport"):
        assert f"{component} cached" in again.stdout


def test_drift_from_the_last_blessed_run_ends_the_run_before_it_trains(project, first_run):
    failed = run_local(project, records(of_down=("red",) * 4))
    assert failed.returncode == 1, failed.stdout + failed.stderr
    cause, advice, log = failed.stderr.splitlines()
    assert cause.startswith("run_local: RouteValidator failed: route down, split ")
    assert "feature colour: Drift: The Linfty distance" in cause and "threshold 0.25" in cause
    assert "take 'drift' out of Validation.block" in cause
    assert "BranchTrainer" not in failed.stdout.partition("RouteValidator")[2]


def test_an_inferred_schema_is_curated_and_given_back(project, first_run):
    written = sorted(project.glob("out/pipeline/RouteValidator/anomalies/*/inferred_schema.pbtxt"))
    text = written[0].read_text()
    assert 'value: "blue"' in text
    (project / "curated.pbtxt").write_text(text.replace('value: "blue"', 'value: "green"'))
    failed = run_local(project, records(), "--set", "schema=curated.pbtxt")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "feature colour: Unexpected string values" in failed.stderr and "blue" in failed.stderr
    (project / "curated.pbtxt").write_text(text)
    taken = run_local(project, records(), "--set", "schema=curated.pbtxt")
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert "BranchTrainer cached" not in taken.stdout  # Transform read the inferred schema
