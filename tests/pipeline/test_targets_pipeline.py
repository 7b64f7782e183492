"""A recipe with every kind of target through the whole pipeline, in a real subprocess."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Ids, Image, Numeric, Recipe, Route, RoutingTable, Target, Training
from branchline.schemas import Weighted, when

recipe = Recipe(
    name="targets",
    split_key="id",
    routing=RoutingTable(
        Route("nested", when.present("vector"), features={"vector": Numeric((4,))}, targets={
            "labels.category_1": Target("multiclass", num_classes=4),
            "labels.category_2": Target("multiclass", num_classes=2, optional=True),
        }),
        Route("scan", when.present("pixels"), features={"pixels": Image(4, 4, 1)}, targets={
            "mask": Target("binary", shape=(4, 4), loss="dice"),
        }),
        Route("tokens", when.present("words"), features={"words": Ids(5, length=3)}, targets={
            "next": Target("multiclass", num_classes=5, shape=(3,)),
        }),
        Route("plain", when.present("x"), features={"x": Numeric()}, label="y", task="regression"),
    ),
    training=Training(
        steps=500,
        batch_size=32,
        learning_rate=0.01,
        schedule=Weighted({"nested": 1, "scan": 4, "tokens": 1, "plain": 1}),
        routes={"scan": {"learning_rate": 0.0004}},  # dice: faster, and all bits are soon 1
    ),
    thresholds={
        "nested": {"labels.category_1/accuracy": 0.8, "labels.category_2/accuracy": 0.8},
        "scan": {"mask/dice": 0.7},
        "tokens": {"next/exact_match": 0.8},
    },
    metrics={"scan": ["mask/recall"]},
)
"""


def records() -> list[dict]:
    """120 learnable records of each kind; `labels.category_2` is missing in every third."""
    rng = random.Random(5)
    found: list[dict] = [{"vector": [0.0] * 4, "labels": {"category_2": 1}}]  # set aside
    for number in range(120):
        kind = rng.randrange(4)
        labels = {"category_1": kind} | ({"category_2": kind % 2} if number % 3 else {})
        vector = [float(kind == i) + rng.gauss(0, 0.1) for i in range(4)]
        found.append({"id": number, "vector": vector, "labels": labels})
        bright = [[int(row == kind or rng.random() < 0.3)] * 4 for row in range(4)]
        pixels = [[9 * lit + rng.randrange(2) for lit in row] for row in bright]
        found.append({"id": number, "pixels": pixels, "mask": bright})
        words = [rng.randrange(5) for _ in range(3)]
        found.append({"id": number, "words": words, "next": [(w + 1) % 5 for w in words]})
        found.append({"x": rng.gauss(0, 1)})
        found[-1]["y"] = 3 * found[-1]["x"]
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    (folder / "targets.py").write_text(RECIPE)
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, records())))
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "targets.py"]
    ran = subprocess.run(
        [*command, "--data=records.jsonl", "--output=out", "--set=materialize=true"]
        + ["--require-blessing"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def test_every_target_has_its_metrics(project):
    metrics = json.loads((project / "out" / "metrics.json").read_text())
    assert metrics["records"]["quarantined"] == {"label_missing": 1}
    assert metrics["records"]["in"] == 481
    routes = {name: set(route) - {"examples"} for name, route in metrics["routes"].items()}
    names = {"auc", "accuracy", "exact_match", "dice", "recall"}
    assert routes == {
        "nested": {"labels.category_1/accuracy", "labels.category_2/accuracy"},
        "scan": {f"mask/{name}" for name in names},
        "tokens": {"next/accuracy", "next/exact_match"},
        "plain": {"mean_absolute_error", "root_mean_squared_error"},
    }
    report = (project / "out" / "report.html").read_text()
    assert "multiclass, optional" in report and "binary 4 × 4" in report
    assert "examples have this label" in report


def test_the_transformed_examples_were_asked_for(project):
    written = project.glob("out/pipeline/Transform/transformed_examples/*/Split-*/*.gz")
    rows = tf.data.TFRecordDataset([str(file) for file in written], "GZIP")
    examples = [tf.train.Example.FromString(row.numpy()).features.feature for row in rows]
    assert len(examples) == 480
    plain = [row for row in examples if row["_route"].bytes_list.value[:] == [b"plain"]]
    assert len(plain) == 120 and all(row["y"].float_list.value for row in plain)
    standardised = [row["Numeric/x"].float_list.value[0] for row in plain]
    assert abs(sum(standardised) / len(plain)) < 0.3


def example(**fields) -> bytes:
    made = {}
    for key, values in fields.items():
        if isinstance(values[0], int):
            made[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            made[key] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def test_the_pushed_model_has_an_output_per_target(project):
    (version,) = (project / "out" / "serving" / "targets").iterdir()
    model = tf.saved_model.load(str(version))
    rows = [
        example(vector=[0.0, 0.0, 1.0, 0.0]),
        example(pixels=[9, 9, 9, 9, *[0] * 12]),
        example(words=[0, 4, 2]),
        example(x=[1.0]),
    ]
    outputs = model.signatures["serving_default"](examples=tf.constant(rows))
    found = {name: value.numpy() for name, value in outputs.items()}
    routes = ["nested", "scan", "tokens", "plain"]
    assert [name.decode() for name in found.pop("route")] == routes
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "nested/labels.category_1": (4, 4),
        "nested/labels.category_2": (4, 2),
        "scan/mask": (4, 4, 4),
        "tokens/next": (4, 3, 5),
        "plain": (4,),
    }
    for name, value in found.items():
        mine = routes.index(name.partition("/")[0])
        assert np.isfinite(value[mine]).all() and np.isnan(np.delete(value, mine, 0)).all()
    assert found["nested/labels.category_1"][0].argmax() == 2
    assert found["nested/labels.category_2"][0].argmax() == 0
    mask = found["scan/mask"][1]
    assert mask[0].min() > 0.5 and mask[0].mean() > mask[1:].mean()
    assert found["tokens/next"][2].argmax(-1).tolist() == [1, 0, 3]
    alone = model.signatures["nested"](examples=tf.constant(rows[:1]))
    assert set(alone) == {"nested/labels.category_1", "nested/labels.category_2"}
