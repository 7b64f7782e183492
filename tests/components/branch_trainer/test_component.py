"""BranchTrainer as a TFX component: what it takes beside a recipe, and routes without rows."""

import json
import os
import tempfile
from typing import Any

import builders as build
import numpy as np
import pytest
import tensorflow as tf
from tfx.proto import trainer_pb2
from tfx.types import channel_utils, standard_artifacts

from branchline.components import BranchTrainer
from branchline.components.branch_trainer.component import Executor
from branchline.schemas import (
    BranchlineError,
    Categorical,
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    Text,
    Training,
    when,
)

TABLE = RoutingTable(
    Route(
        "number",
        when.present("x"),
        features={"x": Numeric(), "colour": Categorical()},
        label="y",
        task="regression",
    ),
    Route("text", when.present("t"), features={"t": Text()}, label="good", task="binary"),
)
NUMBERS = [{"x": i / 8, "colour": "rgb"[i % 3], "y": i / 4} for i in range(24)]
TEXTS = [{"t": f"w{i % 3} w{i % 5}", "good": i % 2} for i in range(16)]
RECIPE = Recipe("two", TABLE, training=Training(steps=6, batch_size=8))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Route → routed examples, and the artifact of a transform of them."""
    root = tmp_path_factory.mktemp("learnt")
    routed = build.route_rows(TABLE, NUMBERS + TEXTS)
    build.transform(root / "t", TABLE, routed, materialize=False)
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(root / "t" / "graph")
    return routed, graph


def train(folder, learnt, recipe=RECIPE, routes=("number", "text"), inputs=(), **arguments):
    """Runs the component on the examples of `routes`; gives history and served model."""
    routed, graph = learnt
    examples = build.routed_artifact(
        folder / "examples", {"train": {name: routed[name] for name in routes}}
    )
    channels = [
        channel_utils.as_channel([kind()])
        for kind in (standard_artifacts.Examples, standard_artifacts.TransformGraph)
    ]
    component = BranchTrainer(*channels, recipe, **arguments)
    outputs = {
        name: [build.empty_artifact(kind, folder / name)]
        for name, kind in (
            ("model", standard_artifacts.Model),
            ("model_run", standard_artifacts.ModelRun),
        )
    }
    given = {"examples": [examples], "transform_graph": [graph]} | dict(inputs)
    Executor().Do(given, outputs, component.exec_properties)
    history = json.loads((folder / "model_run" / "history.json").read_text())
    return history, str(folder / "model" / "Format-Serving")


def ask(directory, records):
    model = tf.saved_model.load(directory)
    rows = tf.constant([build.example(record) for record in records])
    outputs = model.signatures["serving_default"](examples=rows)
    return {name: value.numpy() for name, value in outputs.items()}


def test_a_routing_table_alone_is_trained_as_train_args_and_custom_config_say(tmp_path, learnt):
    history, _ = train(
        tmp_path,
        learnt,
        TABLE,
        train_args=trainer_pb2.TrainArgs(num_steps=4),
        custom_config={"batch_size": 2, "schedule": RECIPE.training.schedule},
    )
    assert history["steps"] == 4
    assert sum(route["examples"] for route in history["routes"].values()) == 8


def test_hyperparameters_come_before_custom_config(tmp_path, learnt):
    found = build.empty_artifact(standard_artifacts.HyperParameters, tmp_path / "found")
    (tmp_path / "found").mkdir()
    best = {"space": [], "values": {"steps": 3, "batch_size": 4}}
    (tmp_path / "found" / "best_hyperparameters.txt").write_text(json.dumps(best))
    history, _ = train(tmp_path, learnt, inputs={"hyperparameters": [found]}.items())
    assert history["steps"] == 3
    assert sum(route["examples"] for route in history["routes"].values()) == 12


def test_a_field_of_training_that_there_is_not_is_named():
    channel = channel_utils.as_channel([standard_artifacts.Examples()])
    with pytest.raises(RecipeError, match=r"custom_config: got \['stepz'\], expected fields of"):
        BranchTrainer(channel, channel, RECIPE, custom_config={"stepz": 3})


def test_training_goes_on_from_a_base_model(tmp_path, learnt):
    slow = {"learning_rate": 1e-12, "steps": 2, "decay": "constant"}
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    _, first = train(tmp_path / "first", learnt)
    base = build.empty_artifact(standard_artifacts.Model, tmp_path / "first" / "model")
    _, second = train(
        tmp_path / "second", learnt, inputs={"base_model": [base]}.items(), custom_config=slow
    )
    records = [{"x": 0.5, "colour": "r"}, {"t": "w1 w2"}]
    for name, values in ask(first, records).items():
        if name != "route":
            np.testing.assert_allclose(ask(second, records)[name], values, rtol=1e-5)


def test_a_base_model_of_another_shape_is_refused_in_one_line(tmp_path, learnt):
    base = build.empty_artifact(standard_artifacts.Model, tmp_path / "base")
    module: Any = tf.Module()
    module.weights = [tf.Variable([1.0, 2.0])]
    tf.saved_model.save(module, str(tmp_path / "base" / "Format-Serving"))
    with pytest.raises(BranchlineError, match="its weights are not those of this model"):
        train(tmp_path, learnt, inputs={"base_model": [base]}.items())


def test_a_route_without_rows_is_passed_over_where_the_recipe_says_so(tmp_path, learnt):
    recipe = Recipe("two", TABLE, training=RECIPE.training, scarce={"text": "skip"})
    history, served = train(tmp_path, learnt, recipe, routes=["number"])
    assert list(history["routes"]) == ["number"]
    outputs = ask(served, [{"x": 0.5, "colour": "r"}, {"t": "w1 w2"}])
    assert outputs["route"].tolist() == [b"number", b"text"]
    assert np.isfinite(outputs["number"][0]) and np.isnan(outputs["text"]).all()


def test_a_route_without_rows_is_an_error_otherwise(tmp_path, learnt):
    with pytest.raises(BranchlineError, match="route 'text' has no example in split 'train'"):
        train(tmp_path, learnt, routes=["number"])


def test_rows_that_do_not_fit_in_memory_are_trained_on_from_disk(tmp_path, learnt, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(os.listdir(tmp_path))
    history, served = train(tmp_path, learnt, custom_config={"memory_limit": 0, "steps": 60})
    assert history["steps"] == 60
    assert all(np.isfinite(route["loss"]) for route in history["routes"].values())
    assert not [name for name in set(os.listdir(tmp_path)) - before if "rows" in name]
