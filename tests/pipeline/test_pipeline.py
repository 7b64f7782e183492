"""The whole pipeline, as a user runs it: a recipe written from the contract, real subprocesses."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Image, Numeric, Recipe, Route, RoutingTable, Text, Training, when

recipe = Recipe(
    name="support",
    routing=RoutingTable(
        Route("text", when.present("message"), features={"message": Text()}, label="urgent",
              task="binary"),
        Route("meter", when.equals("kind", "meter"), features={"readings": Numeric(shape=(4,))},
              label="fault_in_days", task="regression"),
        Route("scan", when.all(when.present("pixels"), when.not_(when.present("message"))),
              features={"pixels": Image(4, 4, 1)}, label="digit", task="multiclass",
              num_classes=4),
    ),
    training=Training(steps=240, batch_size=32, learning_rate=0.01),
    thresholds={"text": {"auc": 0.8}, "meter": {"mean_absolute_error": 2.0}},
    metrics={"text": ["precision"]},
    quarantine_limit=0.05,
)
"""
CALL_MODEL = """
import json, sys
sys.modules["branchline"] = None  # importing it is an error
import tensorflow as tf

example = tf.train.Example()
example.features.feature["message"].bytes_list.value.append(b"fire fire now")
meter = tf.train.Example()
meter.features.feature["kind"].bytes_list.value.append(b"meter")
meter.features.feature["readings"].int64_list.value.extend([1, 0, 0, 0])
nothing = tf.train.Example()
batch = tf.constant([each.SerializeToString() for each in (example, meter, nothing)])
model = tf.saved_model.load(sys.argv[1])
outputs = model.signatures["serving_default"](examples=batch)
assert sorted(model.signatures) == ["meter", "scan", "serving_default", "text"]
print(json.dumps({name: value.numpy().astype(str).tolist() for name, value in outputs.items()}))
"""


def support_records() -> list[dict]:
    """Learnable records of three kinds, and five that no route takes."""
    rng = random.Random(3)
    records: list[dict] = [{"what": number} for number in range(5)]
    for number in range(300):
        urgent = number % 2
        words = ["please", "order", "the", *(["fire", "now"] if urgent else ["maybe", "later"])]
        message = " ".join(rng.choice(words) for _ in range(9))
        records.append({"id": number, "message": message, "urgent": urgent})
        readings = [rng.gauss(0, 1) for _ in range(4)]
        records.append({"kind": "meter", "readings": readings, "fault_in_days": 3 * readings[0]})
        digit = rng.randrange(4)
        pixels = [[9 if row == digit else rng.randrange(3)] * 4 for row in range(4)]
        records.append({"id": f"s{number}", "pixels": pixels, "digit": digit})
    rng.shuffle(records)
    return records


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "support.py").write_text(RECIPE)
    (folder / "records").mkdir()
    lines = [json.dumps(record) for record in support_records()]
    (folder / "records" / "a.jsonl").write_text("\n".join([*lines[:400], "not json", *lines[400:]]))
    (folder / "records" / "b.csv").write_text('message,urgent\n"the, order",0\ntoo,many,cells\n')
    return folder


def run_local(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "support.py", *arguments]
    return subprocess.run(
        [*command, "--data", "records", "--output", "out"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def first_run(project) -> subprocess.CompletedProcess:
    return run_local(project)


def test_a_recipe_from_the_contract_runs_to_a_blessed_model(project, first_run):
    assert first_run.returncode == 0, first_run.stdout + first_run.stderr
    metrics = json.loads((project / "out" / "metrics.json").read_text())
    assert metrics["recipe"] == "support" and metrics["blessed"] is True
    assert metrics["routes"]["text"]["auc"] >= 0.8
    assert metrics["routes"]["text"].keys() == {"examples", "auc", "accuracy", "precision"}
    assert metrics["routes"]["meter"]["mean_absolute_error"] <= 2.0
    assert metrics["routes"]["scan"].keys() == {"examples", "accuracy"}
    report = (project / "out" / "report.html").read_text()
    assert "support" in report and "malformed_json" in report


def test_every_record_is_counted_once(project, first_run):
    records = json.loads((project / "out" / "metrics.json").read_text())["records"]
    assert records["in"] == 905 + 3  # and the broken line, and two CSV rows
    assert records["quarantined"] == {"no_route": 5, "malformed_json": 1, "csv_row_length": 1}
    kept = records["in"] - sum(records["quarantined"].values())
    assert records["train"] + records["eval"] == kept
    assert 0.7 < records["train"] / kept < 0.9


def test_the_pushed_model_routes_a_mixed_batch_without_branchline(project, first_run):
    (version,) = (project / "out" / "serving" / "support").iterdir()
    called = subprocess.run(
        [sys.executable, "-c", CALL_MODEL, str(version)],
        cwd=version,
        capture_output=True,
        text=True,
    )
    assert called.returncode == 0, called.stderr
    outputs = json.loads(called.stdout.splitlines()[-1])
    assert outputs["route"] == ["text", "meter", ""]
    assert float(outputs["text"][0]) > 0.5
    assert abs(float(outputs["meter"][1]) - 3.0) < 2.5
    assert [outputs["text"][1], outputs["meter"][0], outputs["meter"][2]] == ["nan"] * 3


def test_d31_a_run_in_which_nothing_changed_takes_all_from_the_cache_and_pushes_nothing(
    project, first_run
):
    pushed = sorted((project / "out" / "serving" / "support").iterdir())
    second = run_local(project)
    assert second.returncode == 0, second.stdout + second.stderr
    for component in (
        "MixedExampleGen",
        "Router",
        "RouteStatistics",
        "RouteValidator",
        "Transform",
        "BranchTrainer",
        "BranchEvaluator",
        "Pusher",
        "RunReport",
    ):
        assert f"{component} cached" in second.stdout
    assert sorted((project / "out" / "serving" / "support").iterdir()) == pushed


def test_too_many_bad_records_fail_the_run_and_say_why(project, first_run):
    failed = run_local(project, "--set", "quarantine_limit=0.001")
    assert failed.returncode == 1
    assert "MixedExampleGen failed" in failed.stderr and "malformed_json" in failed.stderr
    assert "a.jsonl:401" in failed.stderr and "Traceback" not in failed.stderr


def test_a_missed_threshold_is_not_blessed(project, first_run):
    missed = run_local(
        project, "--set", "thresholds.meter.mean_absolute_error=1e-6", "--require-blessing"
    )
    assert missed.returncode == 3, missed.stdout + missed.stderr
    assert json.loads((project / "out" / "metrics.json").read_text())["blessed"] is False
    assert len(list((project / "out" / "serving" / "support").iterdir())) <= 2


def test_a_metric_that_does_not_exist_is_a_wrong_recipe(project, first_run):
    wrong = run_local(project, "--set", 'metrics.text=["precisoin"]')
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1 and "precisoin" in wrong.stderr
