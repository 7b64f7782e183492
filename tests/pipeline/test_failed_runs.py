"""Runs that fail at a limit: what they set aside stays, and is read, mended, as another span."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Training, when

recipe = Recipe(
    "spans",
    RoutingTable(
        Route("up", when.equals("kind", "up"), features={"x": Numeric()}, label="y",
              task="regression"),
    ),
    training=Training(steps=40, batch_size=16),
    quarantine_limit=0.05,
)
"""


def run_local(folder, *arguments):
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "spans.py", *arguments]
    return subprocess.run(
        [*command, "--output", "out"], cwd=folder, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that fails in MixedExampleGen; one, with the mended span, in the Router; and one on."""
    folder = tmp_path_factory.mktemp("spans")
    (folder / "spans.py").write_text(RECIPE)
    good = [{"kind": "up", "x": n, "y": 3 * n} for n in range(90)]
    lines = [json.dumps(each) for each in good] + ['{"kind": "up", "x": 1, "y": 3'] * 9
    (folder / "in" / "s-1").mkdir(parents=True)
    (folder / "in" / "s-1" / "a.jsonl").write_text("\n".join([*lines, '{"kind": "down"}']))
    data = ["--data", "in/s-{SPAN}"]
    done = [run_local(folder, *data)]
    done.append(run_local(folder, "--set-aside", "in/s-{SPAN}"))
    (mended,) = (folder / "in" / "s-2").glob("*.jsonl")
    mended.write_text(mended.read_text().replace("3\n", "3}\n"))
    both = [*data, "--set", "spans=2", "--set", "quarantine_limit=0.2"]
    done.append(run_local(folder, *both, "--set", 'reason_limits={"no_route": 0.0}'))
    done.append(run_local(folder, "--set-aside", "again"))
    done.append(run_local(folder, *both))
    return folder, done


def reasons(folder):
    with open(folder / "_reasons.csv", newline="") as file:
        return [(row["component"], row["reason"]) for row in csv.DictReader(file)]


def test_a_run_that_fails_at_its_limit_says_where_what_it_set_aside_is(runs):
    folder, (done, *_) = runs
    assert done.returncode == 1
    assert "MixedExampleGen failed: 9 of 100 records were quarantined, 9.0% against" in done.stderr
    (kept,) = folder.glob("out/pipeline/MixedExampleGen/quarantine/*-kept")
    assert f"What was set aside is kept in {kept}\n" in done.stderr
    assert "what was set aside: the same command with --set-aside FOLDER" in done.stderr


def test_it_is_written_as_the_next_span_to_be_mended(runs):
    folder, (_, done, *_) = runs
    assert done.returncode == 0 and f"9 records in {folder}/in/s-2" in done.stdout, done.stderr
    assert reasons(folder / "in" / "s-2") == [("MixedExampleGen", "malformed_json")] * 9


def test_where_the_router_fails_what_both_set_aside_is_found(runs):
    folder, (_, _, failed, done, _) = runs
    assert failed.returncode == 1 and "Router failed: 1 of 109 records" in failed.stderr
    assert done.returncode == 0 and "10 records in again" in done.stdout, done.stderr
    told = [("MixedExampleGen", "malformed_json")] * 9 + [("Router", "no_route")]
    assert sorted(reasons(folder / "again")) == told


def test_a_window_of_spans_reads_the_mended_records_beside_the_others(runs):
    folder, (*_, done) = runs
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what was set aside" not in done.stderr
    records = json.loads((folder / "out" / "metrics.json").read_text())["records"]
    assert records["in"] == 109 and records["train"] + records["eval"] == 99
    assert records["quarantined"] == {"malformed_json": 9, "no_route": 1}
