"""Times in milliseconds as a feature and as what is predicted, through the whole pipeline (K7)."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
NOW = 1_764_000_000_000  # near it a float of 32 bits has steps of 131 072 ms
RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Target, Training, when

recipe = Recipe(
    "times",
    RoutingTable(
        Route("exact", when.equals("kind", "exact"), features={"begun": Numeric(whole=True)},
              targets={"due": Target("regression", whole=True)}),
        Route("coarse", when.equals("kind", "coarse"), features={"begun": Numeric()},
              label="due", task="regression"),
    ),
    training=Training(steps=800, batch_size=64, learning_rate=0.01),
    thresholds={"exact": {"due/mean_absolute_error": 15_000}},
    split_key="id",
)
"""


def example(kind: str, begun: int) -> bytes:
    made = tf.train.Example()
    made.features.feature["kind"].bytes_list.value.append(kind.encode())
    made.features.feature["begun"].int64_list.value.append(begun)
    return made.SerializeToString()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Work that is begun within ten minutes and due half an hour later; what the run printed."""
    folder, rng = tmp_path_factory.mktemp("times"), random.Random(7)
    (folder / "times.py").write_text(RECIPE)
    rows = []
    for number in range(1200):
        begun = NOW + rng.randrange(600_000)
        kind = ("exact", "coarse")[number % 2]
        rows.append({"id": number, "kind": kind, "begun": begun, "due": begun + 1_800_000})
    (folder / "in").mkdir()
    lines = "\n".join(map(json.dumps, rows[:600]))
    (folder / "in" / "a.jsonl").write_text(lines)
    schema = pyarrow.schema({"id": "int64", "kind": "string", "begun": "float64", "due": "float64"})
    table = pyarrow.Table.from_pylist(rows[600:], schema)  # as pandas has whole numbers with gaps
    pyarrow.parquet.write_table(table, folder / "in" / "b.parquet")
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "times.py"]
    done = subprocess.run(
        [*command, "--data", "in", "--output", "out"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_k7_times_are_learnt_to_within_seconds(run):
    folder, _ = run
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert metrics["blessed"] is True and metrics["records"]["quarantined"] == {}
    assert metrics["routes"]["exact"]["due/mean_absolute_error"] <= 15_000


def test_k7_the_served_model_tells_times_apart_that_are_seconds_apart(run):
    (version,) = (run[0] / "out" / "serving" / "times").iterdir()
    model = tf.saved_model.load(str(version))
    begun = [NOW + 300_000 + 1000 * i for i in range(5)]
    rows = tf.constant([example("exact", each) for each in begun] + [example("coarse", NOW)])
    outputs = model.signatures["serving_default"](examples=rows)
    due = outputs["exact/due"]
    assert due.dtype == tf.float64 and np.isnan(due[-1]) and outputs["coarse"].dtype == tf.float32
    assert np.all(np.diff(due[:5]) > 500) and np.all(np.diff(due[:5]) < 1500)
    alone = model.signatures["exact"](examples=rows)["exact/due"]
    np.testing.assert_array_equal(alone[:5], due[:5])


def test_d27_a_field_that_hides_differences_is_told_in_the_log_and_the_report(run):
    folder, printed = run
    told = "steps of 131072"
    assert told in " ".join(printed.split())
    report = (folder / "out" / "report.html").read_text()
    assert told in report and "Numeric(whole=True)" in report
