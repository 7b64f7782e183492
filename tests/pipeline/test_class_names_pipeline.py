"""Classes by name, with an order too, counts and quantiles through the whole pipeline."""

import csv
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
from branchline.schemas import Bound, Numeric, Recipe, Route, RoutingTable, Target, Training, when

recipe = Recipe(
    name="names",
    routing=RoutingTable(
        Route("mail", when.present("words"), features={"words": Numeric((2,))},
              label="kind", task="multiclass", classes=("ham", "spam", "other"),
              class_weight="balanced"),
        Route("answer", when.present("x"), features={"x": Numeric()},
              label="said", task="binary", classes=("no", "yes"), weight="trust"),
        Route("sensor", when.present("v"), features={"v": Numeric()}, targets={
            "on": Target("binary", classes=("false", "true")),
            "stars": Target("multiclass", classes=("1", "2", "3"), optional=True),
            "corners": Target("binary", classes=("low", "high"), shape=(2,)),
            "visits": Target("count", optional=True),
            "grade": Target("ordinal", classes=("low", "mid", "high")),
            "flow": Target("quantile", quantiles=(0.1, 0.5, 0.9)),
        }),
        Route("post", when.present("p"), features={"p": Numeric(), "q": Numeric()},
              label="tags", task="multilabel", classes=("up", "right", "never"), separator=";"),
        Route("shop", when.present("s"), features={"s": Numeric((2,))}, targets={
            "kind": Target("multiclass", classes="learn", class_weight="balanced"),
            "sold": Target("binary", classes="learn", optional=True),
            "tags": Target("multilabel", classes="learn", optional=True),
            "next": Target("retrieval", num_classes=50, top_k=3, optional=True),
        }),
    ),
    training=Training(steps=500, batch_size=32, learning_rate=0.02),
    thresholds={
        "mail": {"accuracy": 0.9},
        "answer": {"accuracy": 0.9, "auc": 0.9},
        "sensor": {"on/accuracy": 0.9, "stars/accuracy": 0.5, "corners/exact_match": 0.9,
                   "visits/mean_absolute_error": 6, "grade/quadratic_weighted_kappa": 0.6,
                   "flow/pinball_loss": 0.5, "flow/coverage": Bound(least=0.4)},
        "post": {"auc": 0.95, "precision": 0.9, "recall": 0.9, "auc[up]": 0.95},
        "shop": {"kind/accuracy": 0.9, "sold/auc": 0.95, "tags/auc": 0.9, "tags/recall[c]": 0.5,
                 "next/accuracy": 0.8, "next/top_k_accuracy": 0.9},
    },
)
"""
KINDS = ("ham", "spam", "other")


def write_records(folder):
    """120 learnable records of each kind, 160 wrong ones of no weight, and some bad ones."""
    rng = random.Random(5)
    mixed, rows, posts = [], [], []
    for number in range(120):
        kind = number % 3
        words = [float(kind == 1) + rng.gauss(0, 0.05), float(kind == 2) + rng.gauss(0, 0.05)]
        mixed.append({"words": words, "kind": KINDS[kind]})
        x = rng.choice([-1, 1]) * (1 + rng.random())
        rows.append({"x": x, "said": rng.choice(["no", " no"]) if x < 0 else "yes", "trust": 2.5})
        if number % 3:  # more are wrong than right, and count for nothing
            rows += [{"x": x, "said": "yes" if x < 0 else "no", "trust": 0}] * 2
        v = rng.choice([-1, 1]) * (1 + rng.random())
        corners = ["low", "high"] if v < 0 else ["high", "low"]
        sensor = {"v": v, "on": v > 0, "corners": corners}
        sensor |= {"visits": rng.choice([3, 5]) if v < 0 else rng.choice([27, 33])}
        sensor |= {"grade": "low" if v < 0 else "mid" if v < 1.5 else "high"}
        sensor |= {"flow": 100 + 2 * v + rng.uniform(-1, 1)}
        mixed.append(sensor | ({"stars": 1 if v < 0 else 3} if number % 2 else {}))
        p, q, *s = (rng.choice([-1, 1]) * (1 + rng.random()) for _ in range(4))
        tags = ["up"] * (p > 0) + ["right"] * (q > 0)
        if number % 2:
            tags = [*tags, *tags[:1], ""] if number % 3 else tags
            mixed.append({"p": p, "q": q, "tags": tags})
        else:
            posts.append({"p": p, "q": q, "tags": " ;".join(tags) or ";"})
        shop = {"s": s, "kind": " inside " if s[0] > 0 else "näh" if s[1] > 0 else 7}
        shop |= {"sold": s[0] > 0} if number % 2 else {}
        shop |= {"next": 7 + 30 * (s[0] > 0) + 5 * (s[1] > 0)} if number % 5 else {}
        mixed.append(
            shop | ({"tags": ["a b", "c"][: (s[1] > 0) + (s[0] > 0)]} if number % 3 else {})
        )
    wrong = {"v": 1, "on": True, "corners": ["low", "low"], "grade": "low", "flow": 1}
    mixed += [wrong | {"visits": -1}, {"words": [0, 0], "kind": "SPAM"}, wrong | {"on": "maybe"}]
    mixed += [wrong | {"grade": "lowest"}]
    mixed += [{"p": 1, "q": 1, "tags": ["up", "down"]}, {"p": 1, "q": 1}]
    mixed += [{"s": [1, 1], "kind": "  "}, {"s": [1, 1], "kind": "7", "next": 50}]
    rows += [{"x": 1.5, "said": "perhaps", "trust": 1}, {"x": 1.5, "said": "yes", "trust": -1}]
    rows += [{"x": 1.5, "said": "yes"}]
    (folder / "mixed.jsonl").write_text("\n".join(map(json.dumps, mixed)))
    for name, some in (("answers", rows), ("posts", posts)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*some[0]])
            writer.writeheader()
            writer.writerows(some)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.py").write_text(RECIPE)
    (folder / "in").mkdir()
    write_records(folder / "in")
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "names.py"]
    ran = subprocess.run(
        [*command, "--data=in", "--output=out", "--require-blessing"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def test_unknown_names_are_set_aside_with_the_names_that_were_expected(project):
    metrics = json.loads((project / "out" / "metrics.json").read_text())
    assert metrics["records"]["in"] == 771
    wanted = {"unknown_class": 6, "label_out_of_range": 2, "bad_weight": 1, "weight_missing": 1}
    assert metrics["records"]["quarantined"] == wanted | {"label_missing": 1}
    assert metrics["records"]["train"] + metrics["records"]["eval"] == 760
    lines = []
    for folder in project.glob("out/pipeline/Router/quarantine/*"):
        lines += build.read_quarantine(folder)[0]
    found = {(Path(line["source"]).name, line["offset"]): line["detail"] for line in lines}
    assert found == {
        ("answers.csv", 282): "said: expected one of 'no', 'yes'",
        ("answers.csv", 283): "trust: got a weight below 0, NaN or infinity",
        ("answers.csv", 284): "trust: the weight is missing",
        ("mixed.jsonl", 421): "visits: expected a number from 0 on",
        ("mixed.jsonl", 422): "kind: expected one of 'ham', 'spam', 'other'",
        ("mixed.jsonl", 423): "on: expected one of 'false', 'true'",
        ("mixed.jsonl", 424): "grade: expected one of 'low', 'mid', 'high'",
        ("mixed.jsonl", 425): "tags: expected one of 'up', 'right', 'never'",
        ("mixed.jsonl", 426): "tags: the label is missing",
        ("mixed.jsonl", 427): "kind: expected the name of a class, got spaces alone",
        ("mixed.jsonl", 428): "next: expected a label in [0, 50)",
    }


def test_every_named_target_has_its_metrics(project):
    metrics = json.loads((project / "out" / "metrics.json").read_text())
    assert metrics["blessed"]
    routes = {name: set(route) - {"examples"} for name, route in metrics["routes"].items()}
    of_lists = ("auc", "precision", "recall")
    of_classes = ("positives", *of_lists)
    assert routes == {
        "mail": {"accuracy"},
        "answer": {"accuracy", "auc"},
        "sensor": {"on/accuracy", "on/auc", "stars/accuracy", "corners/accuracy"}
        | {"corners/auc", "corners/exact_match"}
        | {"visits/mean_absolute_error", "visits/root_mean_squared_error"}
        | {f"flow/{name}" for name in ("pinball_loss", "coverage", "mean_absolute_error")}
        | {"grade/accuracy", "grade/mean_absolute_error", "grade/quadratic_weighted_kappa"},
        "post": {*of_lists}
        | {f"{name}[{tag}]" for name in of_classes for tag in ("up", "right", "never")},
        "shop": {"kind/accuracy", "sold/accuracy", "sold/auc"}
        | {f"tags/{name}" for name in of_lists}
        | {f"tags/{name}[{tag}]" for name in of_classes for tag in ("a b", "c")}
        | {"next/accuracy", "next/top_k_accuracy", "next/mean_reciprocal_rank"},
    }
    # What counts for nothing taught nothing and is not judged: unweighted it would be below 0.5.
    assert metrics["weighted_by"] == {"answer": "trust"}
    assert metrics["routes"]["answer"]["accuracy"] > 0.9
    post = metrics["routes"]["post"]
    assert post["auc[up]"] > 0.95 and post["auc[never]"] is None and post["positives[never]"] == 0
    page = (project / "out" / "report.html").read_text()
    assert "weighted by trust" in page and "quantile: 0.1, 0.5, 0.9" in page
    assert "ham, spam, other" in page and "<h3>sensor: stars</h3>" in page
    learnt = page.partition("<h3>shop: kind</h3>")[2].partition("</table>")[0]
    assert [f">{name}</th>" in learnt for name in ("7", "inside", "näh")] == [True] * 3
    listed = page.partition("<h3>shop: tags</h3>")[2].partition("</table>")[0]
    assert [f">{name}</td>" in listed for name in ("a b", "c")] == [True, True]
    (evaluation,) = project.glob("out/pipeline/BranchEvaluator/evaluation/*/evaluation.json")
    judged = json.loads(evaluation.read_text())["routes"]["mail"]
    table = judged["confusion"]["kind"]
    assert table["classes"] == list(KINDS)
    assert np.sum(table["counts"]) == judged["examples"]
    right = np.trace(table["counts"]) / judged["examples"]
    assert right == pytest.approx(metrics["routes"]["mail"]["accuracy"])


def test_the_schema_and_the_statistics_speak_in_names(project):
    (anomalies,) = project.glob("out/pipeline/RouteValidator/anomalies/*")
    assert "ham" in (anomalies / "inferred_schema.pbtxt").read_text()
    splits = json.loads((anomalies / "anomalies.json").read_text())["splits"]
    found = [route["anomalies"] for by_route in splits.values() for route in by_route.values()]
    assert found == [{}] * 10


def test_the_pushed_model_names_the_classes(project):
    (version,) = (project / "out" / "serving" / "names").iterdir()
    model = tf.saved_model.load(str(version))
    records = [
        {"words": [1.0, 0.0]},
        {"words": [0.0, 1.0]},
        {"x": 1.5},
        {"x": -1.5},
        {"v": 1.5},
        {"nothing": 1},
        {"words": [1.0]},  # its route cannot use it
        {"p": 1.5, "q": -1.5},
        {"s": [-1.5, 1.5]},
    ]
    rows = tf.constant([build.example(record) for record in records])
    outputs = model.signatures["serving_default"](examples=rows)
    names = {name: each.numpy() for name, each in outputs.items() if name.endswith("/class")}
    assert names["mail/class"].tolist() == [b"spam", b"other", *[b""] * 7]
    assert names["answer/class"].tolist() == [b"", b"", b"yes", b"no", *[b""] * 5]
    assert names["sensor/on/class"].tolist() == [*[b""] * 4, b"true", *[b""] * 4]
    assert names["sensor/stars/class"].tolist() == [*[b""] * 4, b"3", *[b""] * 4]
    assert names["sensor/corners/class"].tolist() == [
        *[[b"", b""]] * 4,
        [b"high", b"low"],
        *[[b"", b""]] * 4,
    ]
    assert names["post/class"].tolist()[6:] == [[b""] * 3, [b"up", b"", b""], [b""] * 3]
    assert names["shop/kind/class"].tolist() == [*[b""] * 8, "näh".encode()]
    assert names["shop/sold/class"].tolist() == [*[b""] * 8, b"0"]
    assert names["shop/tags/class"].tolist()[7:] == [[b"", b""], [b"a b", b""]]
    assert outputs["post"].shape == (9, 3) and outputs["shop/kind"].shape == (9, 3)
    visits = outputs["sensor/visits"].numpy()
    assert np.isnan(visits).tolist() == [*[True] * 4, False, *[True] * 4]
    assert visits[4] == pytest.approx(30, abs=6)
    assert names["sensor/grade/class"][4] in (b"mid", b"high")
    low, middle, high = outputs["sensor/flow"].numpy()[4]
    assert low < middle < high
    assert middle == pytest.approx(103, abs=1.5)  # 100 whatever `v` is
    items, scores = outputs["shop/next"].numpy(), outputs["shop/next/score"].numpy()
    assert items.shape == (9, 3) and items[8, 0] == 12 and (items[:8] == -1).all()
    assert np.isnan(scores[:8]).all() and scores[8, 0] > scores[8, 1] > scores[8, 2]
    alone = model.signatures["mail"](examples=rows[:1])
    assert set(alone) == {"mail", "mail/class"}
    assert alone["mail/class"].numpy().tolist() == [b"spam"]
    assert np.isclose(alone["mail"].numpy().sum(), 1)
    classes = json.loads((version / "assets.extra" / "classes.json").read_text())
    assert classes == {
        "mail": ["ham", "spam", "other"],
        "answer": ["no", "yes"],
        "sensor/on": ["false", "true"],
        "sensor/stars": ["1", "2", "3"],
        "sensor/corners": ["low", "high"],
        "sensor/grade": ["low", "mid", "high"],
        "post": ["up", "right", "never"],
        "shop/kind": ["7", "inside", "näh"],
        "shop/sold": ["0", "1"],
        "shop/tags": ["a b", "c"],
    }
