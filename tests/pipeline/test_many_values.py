"""Tags, sequences, hashed ids and Hindi words, through the whole pipeline (K2, K3, K8)."""

import json
import random
import subprocess
import sys
from pathlib import Path

import builders as build
import pytest
import tensorflow as tf

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Categorical, Hashed, Numeric, Recipe, Route, RoutingTable, Sequence
from branchline.schemas import Tags, Text, Training, when


def route(name, **features):
    return Route(name, when.equals("kind", name), features=features, label="y", task="binary")


recipe = Recipe(
    "many",
    RoutingTable(
        route("tagged", tags=Tags()),
        route("visit", pages=Sequence(Categorical()), seconds=Sequence(Numeric())),
        route("user", user=Hashed(1000)),
        route("hindi", text=Text()),
        route("chinese", text=Text(tokens="characters", ngrams=2)),
    ),
    training=Training(steps=500, batch_size=64, learning_rate=0.01),
    thresholds={name: {"auc": 0.95} for name in ("tagged", "visit", "user", "hindi", "chinese")},
    split_key="id",
)
"""
# Words that differ in nothing but marks, so that those without them tell nothing.
GOOD, BAD = ["मीठा", "दीन", "कूल"], ["मोठे", "दान", "कुल"]
OTHER = ["यह", "किताब", "में", "है", "नहीं", "हिन्दी"]


def records(number, rng):
    """One of each route; what is to be predicted can be read of the features alone."""
    y = number % 2
    tags = rng.sample("abcdef", rng.randrange(5)) + ["good"] * y
    pages = [rng.choice("abc") for _ in range(rng.randrange(1, 8))] + ["xy"[y], "yx"[y]]
    words = [rng.choice(OTHER) for _ in range(4)] + [rng.choice((BAD, GOOD)[y])]
    chinese = [rng.choice("我你他这那书店人大小") for _ in range(8)]
    chinese.insert(rng.randrange(9), ("不好", "好不")[y])
    user = rng.randrange(40)
    yield {"kind": "tagged", "tags": rng.sample(tags, len(tags)), "y": y}
    yield {"kind": "visit", "pages": pages, "seconds": [rng.random() for _ in pages], "y": y}
    yield {"kind": "user", "user": [user, f"u{user}"][user % 2], "y": int(user % 3 == 0)}
    yield {"kind": "hindi", "text": " ".join(rng.sample(words, 5)), "y": y}
    yield {"kind": "chinese", "text": "".join(chinese), "y": y}


BROKEN = [
    ({"kind": "tagged", "tags": ["a", 1], "y": 0}, "wrong_type"),
    ({"kind": "tagged", "tags": ["a", None], "y": 0}, "wrong_type"),
    ({"kind": "tagged", "tags": [{"name": "a"}], "y": 0}, "wrong_type"),
    ({"kind": "visit", "pages": ["a"], "seconds": ["soon"], "y": 0}, "wrong_type"),
    ({"kind": "visit", "pages": ["a"], "seconds": [1.0, float("nan")], "y": 0}, "not_finite"),
    ({"kind": "user", "user": ["a", "b"], "y": 0}, "wrong_shape"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """How many records went in, and the folder that they were run in."""
    folder, rng = tmp_path_factory.mktemp("many"), random.Random(3)
    (folder / "many.py").write_text(RECIPE)
    rows = [row for number in range(300) for row in records(number, rng)]
    rows += [row for row, _ in BROKEN] + [{"kind": "tagged", "tags": [], "y": 0}]
    lines = [json.dumps({"id": number} | row) for number, row in enumerate(rows)]
    (folder / "in.jsonl").write_text("\n".join(lines))
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "many.py"]
    done = subprocess.run(
        [*command, "--data", "in.jsonl", "--output", "out"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return len(rows), folder


def test_every_route_learns_what_its_features_say(run):
    metrics = json.loads((run[1] / "out" / "metrics.json").read_text())
    assert metrics["blessed"] is True, metrics["routes"]


def test_broken_lists_are_set_aside_by_reason_and_nothing_is_lost(run):
    counts = json.loads((run[1] / "out" / "metrics.json").read_text())["records"]
    assert counts["quarantined"] == {"wrong_type": 4, "not_finite": 1, "wrong_shape": 1}
    assert counts["in"] == run[0] == counts["train"] + counts["eval"] + len(BROKEN)


def test_the_served_model_takes_raw_values(run):
    (version,) = (run[1] / "out" / "serving" / "many").iterdir()
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]

    def predicted(**record):
        return float(serve(examples=tf.constant([build.example(record)]))[record["kind"]][0])

    assert predicted(kind="tagged", tags=["b", "good"]) > 0.5 > predicted(kind="tagged", tags=["b"])
    assert predicted(kind="tagged") < 0.5
    early, late = (predicted(kind="visit", pages=["a", *last]) for last in ("xy", "yx"))
    assert early < 0.5 < late
    good, bad = (predicted(kind="hindi", text=f"यह {word[0]} है") for word in (GOOD, BAD))
    assert bad < 0.5 < good
    good, bad = (predicted(kind="chinese", text=f"这书{two}大") for two in ("好不", "不好"))
    assert bad < 0.5 < good
    assert predicted(kind="user", user=0) > 0.5 > predicted(kind="user", user=2)
