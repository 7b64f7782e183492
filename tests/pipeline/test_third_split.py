"""A split `test`, through the whole pipeline: nothing but the last evaluation sees it."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, SplitByField
from branchline.schemas import Training, Validation, when

recipe = Recipe(
    "three",
    RoutingTable(
        *(
            Route(name, when.equals("kind", name), label="y", task="regression",
                  features={"x": Numeric(), "colour": Categorical()})
            for name in ("up", "down")
        ),
    ),
    training=Training(steps=60, batch_size=32, learning_rate=0.02),
    splits=SplitByField("part", ("train", "eval", "test")),
    thresholds={"up": {"mean_absolute_error": 3.0}, "down": {"mean_absolute_error": 3.0}},
    validation=Validation(skew=0.4, block=["anomalies", "skew"]),
)
"""


def records() -> list[dict]:
    rng = random.Random(5)
    rows = []
    for split, number in {"train": 300, "eval": 60}.items():
        for _ in range(number):
            kind, x = rng.choice(("up", "down")), rng.gauss(0, 1)
            colour = rng.choice(("red", "blue"))
            rows.append({"kind": kind, "x": x, "y": x + (colour == "red"), "colour": colour})
            rows[-1]["part"] = split
    return rows


USUAL = [{"kind": "up", "x": 0.1, "y": 0.1, "colour": "red", "part": "test"}] * 7
# Far from all others, of one colour that no other split has, and no row of the route `down`.
ODD = [{"kind": "up", "x": 9e3, "y": -9e5, "colour": "unheard of", "part": "test"}] * 5


def run_local(folder: Path, rows: list[dict], *arguments: str) -> str:
    (folder / "three.py").write_text(RECIPE)
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records() + rows)))
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "three.py", *arguments]
    done = subprocess.run(
        [*command, "--data", "records.jsonl", "--output", "out"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on other rows of `test`: name → its folder and what it printed."""
    rows = {"usual": USUAL, "odd": ODD}
    folders = {name: tmp_path_factory.mktemp(name) for name in rows}
    return {name: (folders[name], run_local(folders[name], rows[name])) for name in rows}


def both(runs, pattern: str) -> list[dict[str, bytes]]:
    """The files of each run, by what follows the artifact's number."""
    return [
        {
            re.sub(r"/\d+/", "/", str(path.relative_to(folder / "out"))): path.read_bytes()
            for path in sorted((folder / "out").glob(pattern))
            if path.is_file()
        }
        for folder, _ in runs.values()
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "pipeline/BranchTrainer/model/*/**/variables/*",
        "pipeline/RouteStatistics/statistics/*/Split-*/*",
        "pipeline/RouteValidator/anomalies/*/**/*",
        "pipeline/Transform/transform_graph/*/**/assets/*",
    ],
    ids=["weights", "statistics", "anomalies", "vocabularies"],
)
def test_other_rows_of_test_change_no_byte(runs, pattern):
    usual, odd = both(runs, pattern)
    assert usual and usual == odd
    assert not [path for path in usual if "Split-test" in path]


def test_they_change_the_figures_of_test_alone(runs):
    metrics = {
        name: json.loads((folder / "out" / "metrics.json").read_text())
        for name, (folder, _) in runs.items()
    }
    of_test = {name: found.pop("test") for name, found in metrics.items()}
    assert of_test["usual"]["up"]["mean_absolute_error"] < 3
    assert of_test["odd"]["up"]["mean_absolute_error"] > 1e5
    assert [found["records"].pop("test") for found in metrics.values()] == [7, 5]
    assert [found["records"].pop("in") for found in metrics.values()] == [367, 365]
    assert metrics["usual"] == metrics["odd"] and metrics["usual"]["blessed"] is True
    assert of_test["odd"]["down"] == {"examples": 0}


def test_report_and_summary_mark_them_as_of_test(runs):
    for folder, printed in runs.values():
        assert "do not add up" not in (page := (folder / "out" / "report.html").read_text())
        assert '<th class="n">Test</th>' in page and "on the test split" in page
        assert printed.count("mean_absolute_error") >= 3 and re.search(r"metrics +test", printed)


def test_a_model_that_is_not_blessed_is_not_evaluated_on_test(runs):
    folder, _ = runs["odd"]
    bound = "thresholds.up.mean_absolute_error=1e-9"
    printed = run_local(folder, ODD, "--set", bound)
    assert not re.search(r"metrics +test", printed)
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert metrics["blessed"] is False and "test" not in metrics
    assert metrics["records"]["test"] == 5
    assert "test split is not looked at" in (folder / "out" / "report.html").read_text()
