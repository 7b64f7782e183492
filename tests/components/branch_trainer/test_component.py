"""BranchTrainer as a component: what it is given comes to hold, and what it cannot use is named."""

import json
import tempfile
from pathlib import Path

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tfx import types
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from branchline.components.branch_trainer.component import BranchTrainer, Executor
from branchline.components.branch_trainer.recipe.packed_weights import start_from
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.read_rows import RowReader
from branchline.schemas import (
    Alternate,
    BranchlineError,
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    Training,
    when,
)

TABLE = RoutingTable(
    *(
        Route(
            name,
            when.equals("kind", name),
            features={"x": Numeric(), name: Numeric((2,))},
            label="y",
            task="regression",
        )
        for name in ("a", "b", "c")
    )
)
TRAINING = Training(steps=6, batch_size=4, steps_per_loop=3, schedule=Alternate())
RECIPE = Recipe("three", TABLE, training=TRAINING)


def records(route, count=7):
    return [
        {"kind": route, "x": float(i), route: [1.0, float(-i)], "y": float(i % 3)}
        for i in range(count)
    ]


def by_route(**counts):
    made = [record for route, count in counts.items() for record in records(route, count)]
    return build.route_rows(TABLE, made)


def graph_artifact(root):
    artifact = standard_artifacts.TransformGraph()
    artifact.uri = str(root / "graph")
    return artifact


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Routed examples in the splits `train` and `fit`, and the default Transform of them."""
    root = tmp_path_factory.mktemp("given")
    train, fit = by_route(a=7, b=7, c=7), by_route(a=3, b=3, c=3)
    build.transform(root / "t", TABLE, train, materialize=False)
    examples = build.routed_artifact(root / "examples", {"train": train, "fit": fit})
    return {"examples": [examples], "transform_graph": [graph_artifact(root / "t")]}


def run(tmp_path, given, recipe=RECIPE, artifacts=None, **arguments):
    """Trains, and gives the model's artifact and what was done."""
    inputs = dict(given)
    for name, artifact in (artifacts or {}).items():
        inputs[name] = [artifact]
        arguments[name] = types.Channel(type=type(artifact))
    component = BranchTrainer(
        types.Channel(type=standard_artifacts.Examples),
        types.Channel(type=standard_artifacts.TransformGraph),
        recipe,
        **arguments,
    )
    outputs = {
        "model": [build.empty_artifact(standard_artifacts.Model, tmp_path / "model")],
        "model_run": [build.empty_artifact(standard_artifacts.ModelRun, tmp_path / "run")],
    }
    Executor().Do(inputs, outputs, component.exec_properties)
    return outputs["model"][0], json.loads((tmp_path / "run" / "history.json").read_text())


def predict(model, rows):
    loaded = tf.saved_model.load(path_utils.serving_model_path(model.uri))
    outputs = loaded.signatures["serving_default"](examples=tf.constant(rows))
    return {name: value.numpy() for name, value in outputs.items()}


def rows_of(*routes):
    return [build.example(record) for route in routes for record in records(route, 3)]


def trained(summary):
    return {
        name: (of["steps"], of["examples"]) for name, of in summary["routes"].items() if of["steps"]
    }


def test_a_routing_table_alone_is_trained_as_the_defaults_say(tmp_path, given):
    model, summary = run(tmp_path, given, TABLE, steps=6)
    batch_size = Training().batch_size
    assert sum(steps for steps, _ in trained(summary).values()) == 6
    assert all(examples == steps * batch_size for steps, examples in trained(summary).values())
    outputs = predict(model, rows_of("a", "b", "c"))
    assert outputs["route"].tolist() == [b"a"] * 3 + [b"b"] * 3 + [b"c"] * 3
    found = np.stack([outputs[name] for name in TABLE.names])
    assert (np.isfinite(found) == np.repeat(np.eye(3, dtype=bool), 3, axis=1)).all()


def test_settings_come_from_the_recipe_the_component_a_tuner_and_the_pipeline(tmp_path, given):
    tuned = build.empty_artifact(standard_artifacts.HyperParameters, tmp_path / "tuned")
    Path(tuned.uri).mkdir()
    best = {"space": [], "values": {"batch_size": 3, "learning_rate": 0.02}}
    (tmp_path / "tuned" / "best_hyperparameters.txt").write_text(json.dumps(best))
    _, summary = run(
        tmp_path,
        given,
        artifacts={"hyperparameters": tuned},
        custom_config={"batch_size": 5, "seed": 3},
        train_args=trainer_pb2.TrainArgs(num_steps=9, splits=["fit"]),
    )
    assert summary["steps"] == 9
    assert all(examples == 3 * steps for steps, examples in trained(summary).values())


@pytest.mark.parametrize("content", ["", "[1]", '{"space": []}', '{"values": {"nosuch": 1}}'])
def test_what_is_no_tuners_result_is_named_in_one_line(tmp_path, given, content):
    tuned = build.empty_artifact(standard_artifacts.HyperParameters, tmp_path / "tuned")
    Path(tuned.uri).mkdir()
    (tmp_path / "tuned" / "best_hyperparameters.txt").write_text(content)
    with pytest.raises((BranchlineError, RecipeError)) as error:
        run(tmp_path, given, artifacts={"hyperparameters": tuned})
    assert "nosuch" in str(error.value) or "best_hyperparameters.txt" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"custom_config": {"nosuch": 1}}, "nosuch"),
        ({"custom_config": {"batch_size": 0}}, "batch_size"),
        ({"train_args": trainer_pb2.TrainArgs(splits=["a", "b"])}, "one split"),
        ({"steps": 0}, "steps"),
        ({"recipe": "three"}, "a Recipe or a RoutingTable"),
    ],
)
def test_a_wrong_argument_is_named_when_the_pipeline_is_made(tmp_path, given, arguments, says):
    with pytest.raises(RecipeError, match=says):
        run(tmp_path, given, **arguments)


def test_training_starts_from_the_weights_of_a_base_model(tmp_path, given):
    (tmp_path / "first").mkdir()
    first, _ = run(tmp_path / "first", given)
    (tmp_path / "second").mkdir()
    still = {"learning_rate": 1e-30, "seed": 8}
    other, _ = run(tmp_path / "second", given, custom_config=still, artifacts={"base_model": first})
    rows = rows_of("a", "b", "c")
    for name, values in predict(first, rows).items():
        np.testing.assert_array_equal(predict(other, rows)[name], values)


def test_a_base_model_of_other_shapes_or_none_is_named_in_one_line(tmp_path, given):
    (tmp_path / "first").mkdir()
    first, _ = run(tmp_path / "first", given)
    serving = path_utils.serving_model_path(first.uri)
    other = keras.Sequential([keras.layers.Dense(2)])
    other.build((None, 3))
    with pytest.raises(BranchlineError, match="model of the same routes") as error:
        start_from(other, serving)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(error.value) and serving in str(error.value)
    with pytest.raises(BranchlineError, match="has no weights of a model") as error:
        start_from(other, str(tmp_path))  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def without_c(given, tmp_path_factory):
    """The same where route `c` has no row to train on, and `b` two."""
    root = tmp_path_factory.mktemp("scarce")
    return given | {
        "examples": [build.routed_artifact(root / "examples", {"train": by_route(a=7, b=2)})]
    }


def scarce_recipe(least_rows=1, **scarce):
    return Recipe("three", TABLE, training=TRAINING, least_rows=least_rows, scarce=scarce)


def test_a_route_without_rows_is_passed_over_if_it_may_be_and_gives_nan(
    tmp_path, without_c, caplog
):
    model, summary = run(tmp_path, without_c, scarce_recipe(c="skip"))
    assert set(trained(summary)) == {"a", "b"}
    assert sum(steps for steps, _ in trained(summary).values()) == TRAINING.steps
    outputs = predict(model, rows_of("a", "b", "c"))
    assert outputs["route"].tolist() == [b"a"] * 3 + [b"b"] * 3 + [b"c"] * 3
    assert np.isfinite(outputs["a"][:3]).all() and np.isfinite(outputs["b"][3:6]).all()
    assert np.isnan(outputs["c"]).all()
    loaded = tf.saved_model.load(path_utils.serving_model_path(model.uri))
    own = loaded.signatures["c"](examples=tf.constant(rows_of("c")))
    assert np.isnan(own["c"].numpy()).all() and own["c"].shape == (3,)
    assert "c has 0 examples in train and is not trained" in caplog.text


def test_a_route_with_too_few_rows_is_passed_over_if_it_may_be(tmp_path, without_c):
    _, summary = run(tmp_path, without_c, scarce_recipe(least_rows=3, **{"*": "skip"}))
    assert set(trained(summary)) == {"a"}


@pytest.mark.parametrize("scarce", [{}, {"*": "skip", "c": "fail"}, {"b": "skip"}])
def test_a_route_without_rows_fails_the_run_otherwise(tmp_path, without_c, scarce):
    with pytest.raises(BranchlineError, match="route 'c' has no example in split 'train'") as error:
        run(tmp_path, without_c, scarce_recipe(**scarce))
    assert "\n" not in str(error.value)


def test_no_rows_at_all_are_named_even_if_every_route_may_be_scarce(tmp_path, given):
    empty = build.routed_artifact(tmp_path / "examples", {"train": {}})
    with pytest.raises(BranchlineError, match="no route has an example in split 'train'"):
        run(tmp_path, given | {"examples": [empty]}, scarce_recipe(**{"*": "skip"}))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_rows_that_do_not_fit_are_trained_on_all_the_same_and_leave_nothing(
    tmp_path, given, temporary
):
    seen = []
    known = tempfile.TemporaryDirectory

    def watched(*args, **kwargs):
        seen.append(known(*args, **kwargs))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryDirectory", watched)
        model, summary = run(tmp_path, given, custom_config={"memory_limit": 0, "steps": 12})
    assert len(seen) == 1 and not list(temporary.iterdir())
    assert sum(steps for steps, _ in trained(summary).values()) == 12
    assert all(np.isfinite(of["loss"]) for of in summary["routes"].values())
    assert np.isfinite(predict(model, rows_of("a"))["a"]).all()


def test_a_training_that_fails_leaves_no_rows_behind(tmp_path, given, temporary):
    recipe_file = tmp_path / "recipe.py"
    recipe_file.write_text("def build_model(recipe, inputs):\n    raise RuntimeError('no')\n")
    with pytest.raises(RuntimeError, match="no"):
        run(tmp_path, given, recipe_file=str(recipe_file), custom_config={"memory_limit": 0})
    assert not list(temporary.iterdir())


def foreign(inputs, custom_config):
    """Somebody else's: outputs named like the columns, one per column, and another one."""
    dense = {
        name: tf.sparse.to_dense(values) if isinstance(values, tf.SparseTensor) else values
        for name, values in inputs.items()
    }
    outputs = {"x": 10.0 * tf.reshape(dense["x"], [-1, 1])}
    for name in TABLE.names:
        both = tf.SparseTensor(
            inputs[name].indices,
            inputs[name].values,
            [tf.shape(inputs["_route"], out_type=tf.int64)[0], 2],
        )
        outputs[name] = tf.reshape(tf.sparse.to_dense(both), [-1, 2]) + 1.0
    return outputs | {"mean": tf.zeros_like(outputs["x"]) + tft.mean(outputs["x"])}


def test_outputs_of_a_foreign_transform_feed_the_branches(tmp_path, given):
    train = by_route(a=7, b=7, c=7)
    output, _ = build.transform(tmp_path / "t", TABLE, train, materialize=False, preprocess=foreign)
    inputs = describe_inputs(RECIPE, output, own_preprocessing=True)
    assert {name: sorted(of) for name, of in inputs.items()} == {n: [n, "x"] for n in TABLE.names}
    reader = RowReader(TABLE, inputs, output)
    features, _ = reader.parse("b", tf.constant(train["b"]))
    np.testing.assert_allclose(features["x"], [[10.0 * i] for i in range(7)])
    np.testing.assert_allclose(features["b"], [[2.0, 1.0 - i] for i in range(7)])
    ours = given | {"transform_graph": [graph_artifact(tmp_path / "t")]}
    model, summary = run(tmp_path, ours)
    assert set(trained(summary)) == {"a", "b", "c"}
    outputs = predict(model, rows_of("a", "b", "c"))
    assert all(np.isfinite(outputs[n][3 * i : 3 * i + 3]).all() for i, n in enumerate(TABLE.names))
