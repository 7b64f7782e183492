"""Encoders of texts that lie on disk: frozen or trained with their branch, and served with it."""

import shutil
from typing import Any, NamedTuple

import builders as build
import numpy as np
import pytest
import tensorflow as tf
from builders_encoder import write_encoder, write_other

from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.encoder_files import encoder_hash
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.recipe.packed_weights import start_from
from branchline.components.branch_trainer.recipe.saved_encoder import SavedEncoder
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.schemas import (
    Alternate,
    BranchlineError,
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    Text,
    Training,
    from_json,
    to_json,
    when,
)

LABEL = {"label": "y", "task": "binary"}
WORDS = ["good", "bad", "fine", "strange", "good good bad", ""]


def table_of(path):
    kinds = {
        "frozen": Text(encoder=path),
        "one": Text(encoder=path, trainable=True),
        "two": Text(encoder=path, trainable=True),
    }
    return RoutingTable(
        *(
            Route(name, when.equals("kind", name), features={"t": kind, "x": Numeric()}, **LABEL)
            for name, kind in kinds.items()
        )
    )


def record(kind, number):
    text = WORDS[number % len(WORDS)]
    filled = {"t": text} if text else {}
    return {"kind": kind, "x": float(number % 5), "y": number % 2} | filled


class Trained(NamedTuple):
    table: Any
    reader: Any
    inputs: Any
    rows: Any
    model: Any
    history: Any
    first: Any
    served: str
    loaded: Any


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    path = write_encoder(root / "given")
    table = table_of(path)
    records = [record(name, number) for name in table.names for number in range(24)]
    rows = build.route_rows(table, records)
    output, _ = build.transform(root / "t", table, rows, materialize=False)
    reader, inputs = build.reader(table, output)
    artifact = build.routed_artifact(root / "examples", {"train": rows})
    read = reader.read(
        {
            name: [f"{artifact.uri}/Split-train/{name}-0000{i}-of-00002.gz" for i in (0, 1)]
            for name in table.names
        },
        1 << 30,
    )
    training = Training(steps=12, batch_size=8, steps_per_loop=6, schedule=Alternate())
    recipe = Recipe("r", table, training=training)
    scales = {name: scales_of(of, table[name]) for name, of in read.items()}
    first = {}
    model, history = train(
        recipe,
        default_model.build_model,
        read,
        inputs,
        scales,
        cache_dir=str(root),
        start_from=lambda model: first.update(variables_of(model)),
    )
    ServedModel(table, model, inputs, scales, output).save(str(root / "1"))
    shutil.rmtree(root / "given")  # what is served has all it needs
    loaded = tf.saved_model.load(str(root / "1"))
    return Trained(table, reader, inputs, rows, model, history, first, str(root / "1"), loaded)


def variables_of(model):
    """Route → the values of its encoder's vectors."""
    found = {}
    for name in model.paths:
        (layer,) = [
            layer
            for part in model.parts_of(name).values()
            for layer in getattr(part, "layers", ())
            if isinstance(layer, SavedEncoder)
        ]
        assert layer.width == 3
        found[name] = [np.array(v) for v in layer.saved.signatures["serving_default"].variables]
    return found


def test_a_branch_trains_its_own_encoder_and_no_frozen_one(trained):
    last = variables_of(trained.model)
    assert all(map(np.array_equal, trained.first["frozen"], last["frozen"]))
    moved = [not np.array_equal(trained.first[name][0], last[name][0]) for name in ("one", "two")]
    assert moved == [True, True]
    assert not np.array_equal(last["one"][0], last["two"][0])
    own = {name: len(trained.model.own_state_of(name)) for name in trained.table.names}
    assert own["one"] == own["two"] == own["frozen"] + 1
    routes = trained.history["routes"]
    assert routes["one"]["parameters"] == routes["frozen"]["parameters"] + 4 * 3


def test_it_is_served_as_trained_without_the_encoders_own_folder(trained):
    records = [record(name, number) for name in trained.table.names for number in range(6)]
    raw = [{key: value for key, value in each.items() if key != "y"} for each in records]
    examples = tf.constant([*map(build.example, raw)])
    outputs = trained.loaded.signatures["serving_default"](examples=examples)
    routed = build.route_rows(trained.table, records)
    for number, name in enumerate(trained.table.names):
        features, _ = trained.reader.parse(name, tf.constant(routed[name]))
        assert features["t"].numpy()[:, 0].tolist() == [word.encode() for word in WORDS]
        want = tf.sigmoid(trained.model(features, path=name)[name])[:, 0]
        mine = slice(6 * number, 6 * number + 6)
        np.testing.assert_allclose(outputs[name][mine], want, rtol=1e-5)
        alone = trained.loaded.signatures[name](examples=examples[mine])[name]
        np.testing.assert_allclose(alone, want, rtol=1e-5)


def test_training_can_start_from_what_was_served(trained, tmp_path):
    table = table_of(write_encoder(tmp_path))
    model = default_model.build_model(Recipe("r", table), trained.inputs)
    start_from(model, trained.served)
    again, before = variables_of(model), variables_of(trained.model)
    for name in table.names:
        np.testing.assert_array_equal(again[name][0], before[name][0])


def text_spec(*shape):
    return tf.TensorSpec(shape, tf.string)


WRONG = {
    "two arguments": (lambda a, b: tf.zeros([1, 2]), text_spec(None), text_spec(None)),
    "numbers": (lambda x: x[:, None], tf.TensorSpec([None], tf.float32)),
    "a vector for all": (lambda texts: tf.zeros([7]), text_spec(None)),
    "ids": (lambda texts: tf.zeros([tf.size(texts), 4], tf.int32), text_spec(None)),
    "two outputs": (lambda t: {"a": tf.zeros([tf.size(t), 1]), "b": t}, text_spec(None)),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_encoder_of_texts_is_told(what, tmp_path):
    path = write_other(tmp_path / "other", *WRONG[what])
    with pytest.raises(BranchlineError, match=r"Text\(encoder=.*expected one"):
        SavedEncoder(path)


def test_an_encoder_that_is_not_there_or_damaged_is_told(tmp_path):
    with pytest.raises(BranchlineError, match="there is no saved_model.pb"):
        SavedEncoder(str(tmp_path))
    path = write_encoder(tmp_path)
    (path / "saved_model.pb").write_bytes(b"\xff junk")
    with pytest.raises(BranchlineError, match="cannot be loaded as a SavedModel"):
        SavedEncoder(str(path))


def test_an_operation_that_tensorflow_lacks_is_told_with_what_to_do(tmp_path):
    path = write_encoder(tmp_path)
    graph = path / "saved_model.pb"
    content = graph.read_bytes()
    assert b"StringSplitV2" in content
    graph.write_bytes(content.replace(b"StringSplitV2", b"StringSplitXX"))
    with pytest.raises(BranchlineError, match="import the package that brings this operation"):
        SavedEncoder(str(path))


def test_the_hash_changes_with_what_is_in_the_folder(tmp_path):
    path = write_encoder(tmp_path)
    first = encoder_hash(str(path))
    for file in path.rglob("*"):
        file.touch()
    assert encoder_hash(str(path)) == first
    (words,) = (path / "assets").iterdir()
    words.write_text("good\nbad\nsome\n")
    assert encoder_hash(str(path)) not in ("", first)
    assert encoder_hash(str(tmp_path)) == ""


@pytest.mark.parametrize(
    "given",
    [
        {"encoder": ""},
        {"encoder": 3},
        {"trainable": True},
        {"encoder": "e", "trainable": 1},
        {"encoder": "e", "max_words": 9},
        {"encoder": "e", "tokens": "characters"},
    ],
    ids=str,
)
def test_a_text_with_an_encoder_has_no_words_of_its_own(given):
    with pytest.raises(RecipeError, match=r"Text\."):
        Text(**given)


def test_it_travels_as_json(tmp_path):
    assert from_json(to_json(table_of(tmp_path)))["one"].features["t"] == Text(
        encoder=str(tmp_path), trainable=True
    )
