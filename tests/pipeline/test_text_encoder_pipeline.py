"""A pretrained encoder beside the recipe, through the whole pipeline, in a real subprocess."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import builders as build
import pytest
from builders_encoder import write_encoder

from branchline.pipeline.find_encoders import find_encoders
from branchline.schemas import Numeric, Recipe, RecipeError, Route, RoutingTable, Text, when

ROOT = Path(__file__).parents[2]
RECIPE = """
from branchline.schemas import Recipe, Route, RoutingTable, Text, Training, when

recipe = Recipe(
    name="encoded",
    routing=RoutingTable(
        Route("note", when.present("note"), features={"note": Text(encoder="given/encoder")},
              label="bad", task="binary"),
        Route("title", when.present("title"), label="bad", task="binary",
              features={"title": Text(encoder="given/encoder", trainable=True)}),
        Route("sign", when.present("sign"), features={"sign": Text()}, label="bad", task="binary"),
    ),
    training=Training(steps=150, batch_size=32, learning_rate=0.01),
    thresholds={"note": {"auc": 0.9}, "title": {"auc": 0.9}},
)
"""
SERVE = """
import json, sys
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
examples = tf.constant([bytes.fromhex(each) for each in sys.argv[2:]])
outputs = loaded.signatures["serving_default"](examples=examples)
assert not [name for name in sys.modules if name.startswith(("branchline", "tensorflow_text"))]
print(json.dumps({name: values.numpy().astype(str).tolist() for name, values in outputs.items()}))
"""


def write_records(path):
    """Texts that are bad or not by a word of the encoder's, and Chinese ones, each of one word."""
    rng = random.Random(3)
    records = []
    for number in range(120):
        bad = number % 2
        words = ["bad" if bad else "good", *rng.choices(["fine", "some", "other"], k=2)]
        rng.shuffle(words)
        records.append({("note", "title")[number // 2 % 2]: " ".join(words), "bad": bad})
        records.append({"sign": "".join(rng.choices("日本語中文字天地人山川木", k=9)), "bad": bad})
    build.write_jsonl(path, records)


def run(folder):
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", "encoded.py"]
    return subprocess.run(
        [*command, "--data=in.jsonl", "--output=out"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.e2e
def test_it_is_trained_and_served_without_branchline_or_the_encoders_folder(tmp_path):
    (tmp_path / "encoded.py").write_text(RECIPE)
    write_records(tmp_path / "in.jsonl")
    missing = run(tmp_path)
    assert missing.returncode == 2, missing.stderr
    assert "Text.encoder" in missing.stderr and "there is no SavedModel" in missing.stderr
    assert missing.stderr.count("\n") == 1

    write_encoder(tmp_path / "given")
    ran = run(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["blessed"], ran.stdout
    told = "route sign: 100% of the words in &#39;sign&#39; are unknown to its vocabulary"
    assert told in (tmp_path / "out" / "report.html").read_text()
    assert "route sign: 100% of the words in 'sign' are unknown" in ran.stdout

    shutil.rmtree(tmp_path / "given")
    (model,) = (tmp_path / "out" / "serving" / "encoded").iterdir()
    records = [{"note": "so bad"}, {"title": "good"}, {"note": "good"}, {"title": "bad bad"}]
    examples = [build.example(record).hex() for record in records]
    python = [sys.executable, "-I", "-c", SERVE, str(model)]
    served = subprocess.run([*python, *examples], capture_output=True, text=True, cwd=tmp_path)
    assert served.returncode == 0, served.stderr
    outputs = json.loads(served.stdout.splitlines()[-1])
    bad = [float(outputs[name][row]) > 0.5 for row, name in enumerate(["note", "title"] * 2)]
    assert bad == [True, False, False, True]


def recipe_of(path):
    kinds = {"t": Text(encoder=path), "x": Numeric(), "u": Text()}
    route = Route("a", when.present("t"), features=kinds, label="y", task="binary")
    return Recipe("r", RoutingTable(route))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("beside")).parent


def test_a_path_is_relative_to_the_recipe_file_and_absolute_in_the_steps(folder):
    found, hashes = find_encoders(recipe_of("encoder"), folder / "recipe.py")
    path = str(folder / "encoder")
    assert list(hashes) == [path] and hashes[path]
    assert found == recipe_of(path)
    assert find_encoders(found, folder / "elsewhere" / "recipe.py") == (found, hashes)


def test_a_recipe_without_an_encoder_stays_as_it_is(folder):
    route = Route("a", when.present("u"), features={"u": Text()}, label="y", task="binary")
    recipe = Recipe("r", RoutingTable(route))
    found, hashes = find_encoders(recipe, folder / "recipe.py")
    assert found is recipe and hashes == {}


def test_in_containers_it_is_where_the_recipe_is_and_may_be_there_alone(folder):
    here = find_encoders(recipe_of("encoder"), folder / "recipe.py", "/app/recipe.py")
    assert here[0] == recipe_of("/app/encoder") and here[1]["/app/encoder"]
    away = find_encoders(recipe_of("/models/usual"), folder / "recipe.py", "/app/recipe.py")
    assert away == (recipe_of("/models/usual"), {"/models/usual": ""})


def test_one_that_is_not_there_is_told_before_anything_runs(folder):
    with pytest.raises(RecipeError, match="Text.encoder: .*/encode: there is no SavedModel"):
        find_encoders(recipe_of("encode"), folder / "recipe.py")
