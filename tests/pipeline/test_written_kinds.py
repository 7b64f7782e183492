"""Times, durations, and yes or no, from JSONL and CSV through the whole pipeline."""

import csv
import datetime as dt
import json
import random
import subprocess
import sys
from pathlib import Path

import builders as build
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Bool, Duration, Numeric, Recipe, Route, RoutingTable, Timestamp
from branchline.schemas import Training, when

recipe = Recipe(
    "stays",
    RoutingTable(
        Route("visit", when.equals("kind", "visit"),
              features={"came": Timestamp(zone="Europe/Berlin", earliest="2020-01-01"),
                        "stayed": Duration(), "paid": Bool()},
              label="night", task="binary"),
        Route("call", when.equals("kind", "call"),
              features={"began": Timestamp("ms"), "lasted": Duration(),
                        "cost": Numeric(scale="quantile", missing="indicator"),
                        "steps": Numeric(clip=(0, None), scale="log")},
              label="late", task="binary"),
    ),
    training=Training(steps=600, batch_size=64, learning_rate=0.01),
    thresholds={"visit": {"auc": 0.95}, "call": {"auc": 0.95}},
    quarantine_limit=0.1,
    split_key="id",
)
"""
BEGIN = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
BAD = [
    {"kind": "visit", "came": "soon", "night": 0},
    {"kind": "visit", "came": "1999-12-31", "night": 0},
    {"kind": "visit", "stayed": "1:60", "night": 0},
    {"kind": "visit", "paid": "perhaps", "night": 0},
]


def records(rng: random.Random) -> list[dict]:
    """A visit in the early morning is at night, and a call in the second half of the year late."""
    rows = []
    for number in range(1200):
        time = BEGIN + dt.timedelta(seconds=rng.randrange(366 * 86_400))
        if number % 2:
            forms = [time.isoformat(), time.timestamp() + 0.25, time.strftime("%Y-%m-%d %H:%M:%SZ")]
            row = {"kind": "visit", "came": rng.choice(forms), "night": int(0 < time.hour < 5)}
            row |= {"stayed": rng.choice(["PT1H", "0:45", 300]), "paid": rng.choice(["yes", "F"])}
        else:
            half = BEGIN + dt.timedelta(days=183)
            row = {"kind": "call", "began": int(1000 * time.timestamp()), "late": int(time > half)}
            row |= {"lasted": rng.random() * 60, "steps": rng.randrange(10**6)}
            row |= {"cost": 1e37 if number % 3 else rng.random()} if number % 8 else {}
        rows.append({"id": number} | row)
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("stays"), records(random.Random(5))
    (folder / "stays.py").write_text(RECIPE)
    (folder / "in").mkdir()
    half = [row | {"paid": row["paid"] == "yes"} if "paid" in row else row for row in rows[:600]]
    build.write_jsonl(folder / "in" / "a.jsonl", half + [{"id": 0} | row for row in BAD])
    with open(folder / "in" / "b.csv", "w", newline="") as file:
        keys = ["id", "kind", "came", "stayed", "paid", "night", "began", "lasted"]
        keys += ["cost", "steps", "late"]
        writer = csv.DictWriter(file, keys, restval="NA")
        writer.writeheader()
        writer.writerows(rows[600:] + [{"id": 0} | row for row in BAD])
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "stays.py"]
    done = subprocess.run(
        [*command, "--data", "in", "--output", "out"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_what_time_it_was_is_learnt_and_what_cannot_be_read_is_set_aside(run):
    metrics = json.loads((run / "out" / "metrics.json").read_text())
    assert metrics["records"]["in"] == 1208
    assert metrics["records"]["quarantined"] == {
        "bad_time": 4,
        "bad_duration": 2,
        "wrong_type": 2,
    }
    assert metrics["blessed"] is True, metrics["routes"]


def test_the_served_model_takes_times_as_records_have_them(run):
    (version,) = (run / "out" / "serving" / "stays").iterdir()
    model = tf.saved_model.load(str(version))
    stay = {"kind": "visit", "stayed": "PT1H", "paid": 1}
    night = dt.datetime(2024, 6, 1, 2, 30, tzinfo=dt.timezone.utc)
    same = [night.isoformat(), "2024-06-01 04:30", int(night.timestamp()), "2024-06-01T02:30Z"]
    others = ["2024-06-01T14:30Z", "never"]
    rows = [build.example(stay | {"came": came}) for came in (*same, *others)]
    found = model.signatures["serving_default"](examples=tf.constant(rows))["visit"].numpy()
    np.testing.assert_allclose(found[:4], found[0], rtol=1e-5)
    assert found[0] > 0.5 > found[4] and np.isnan(found[5])
