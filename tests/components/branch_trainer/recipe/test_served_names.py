"""The names of classes that a served model gives beside its probabilities."""

import json
import math

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.recipe.predictions import class_name
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, Target, when

TABLE = RoutingTable(
    Route(
        "mail",
        when.present("x"),
        features={"x": Numeric()},
        label="y",
        task="multiclass",
        classes=("ham", "spam", "näh"),
    ),
    Route(
        "answer",
        when.present("v"),
        features={"v": Numeric()},
        label="y",
        task="binary",
        classes=("no", "yes"),
    ),
    Route(
        "several",
        when.present("z"),
        features={"z": Numeric()},
        targets={
            "class": Target("binary"),
            "pair": Target("multiclass", classes=("a", "b", "c"), shape=(2,)),
            "bits": Target("binary", classes=("off", "on"), shape=(3,), optional=True),
        },
    ),
    Route(
        "scarce",
        when.present("w"),
        features={"w": Numeric()},
        label="y",
        task="binary",
        classes=("no", "yes"),
    ),
)
RECORDS = {
    "mail": [{"x": float(i), "y": ("ham", "spam", "näh")[i % 3]} for i in range(6)],
    "answer": [{"v": float(i), "y": ("no", "yes")[i % 2]} for i in range(6)],
    "several": [
        {"z": float(i), "class": i % 2, "pair": ["a", "c"], "bits": ["on", "off", "on"]}
        for i in range(6)
    ],
    "scarce": [{"w": float(i), "y": "no"} for i in range(2)],
}
KEYS = {"mail": "x", "answer": "v", "several": "z", "scarce": "w"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("named")
    routed = build.route_rows(TABLE, [record for some in RECORDS.values() for record in some])
    output, _ = build.transform(root / "transform", TABLE, routed, materialize=False)
    inputs = describe_inputs(Recipe("r", TABLE), output, own_preprocessing=False)
    keras.utils.set_random_seed(1)
    model = default_model.build_model(Recipe("r", TABLE), inputs)
    scales = {
        route.name: dict.fromkeys(route.labels, Scale())
        for route in TABLE.routes
        if route.name != "scarce"  # which has no rows to train on
    }
    ServedModel(TABLE, model, inputs, scales, output).save(str(root / "1"))
    return root / "1"


@pytest.fixture(scope="module")
def served(directory):
    return tf.saved_model.load(str(directory))


def expected_names(target, probabilities):
    """Of one row, flat."""
    rows = np.reshape(probabilities, [target.num_values, -1])
    if np.isnan(rows).any():
        return [b""] * target.num_values
    best = rows.argmax(-1) if target.num_classes else (rows[:, 0] > 0.5).astype(int)
    return [target.classes[each].encode() for each in best]


records = st.dictionaries(
    st.sampled_from([*KEYS.values(), "none"]), st.floats(-50, 50, width=32), max_size=2
)


@given(st.lists(records, max_size=12))
@settings(deadline=None, max_examples=40)
def test_the_name_is_that_of_the_most_probable_class(served, some):
    rows = tf.constant([build.example(record) for record in some], tf.string)
    outputs = {k: v.numpy() for k, v in served.signatures["serving_default"](examples=rows).items()}
    for route in TABLE.routes:
        for key, target in route.labels.items():
            if not target.classes:
                continue
            names, found = outputs[route.name_output(key)], outputs[route.output(key)]
            assert names.shape == (len(some), *target.shape)
            for row in range(len(some)):
                want = expected_names(target, found[row])
                assert np.reshape(names[row], -1).tolist() == want
                if outputs["route"][row].decode() != route.name:
                    assert set(want) == {b""}


def test_a_routes_own_signature_names_classes_too(served):
    for route in TABLE.routes:
        rows = [{KEYS[route.name]: value} for value in (-30.0, 0.0, 30.0)] + [{"none": 1}]
        examples = tf.constant([build.example(row) for row in rows])
        found = served.signatures[route.name](examples=examples)
        mixed = served.signatures["serving_default"](examples=examples)
        named = {route.name_output(key) for key, of in route.labels.items() if of.classes}
        assert set(found) == {*map(route.output, route.labels), *named}
        for name in named:
            assert found[name].numpy()[:3].tolist() == mixed[name].numpy()[:3].tolist()


def test_an_untrained_route_names_nothing(served):
    rows = tf.constant([build.example({"w": 1.0})])
    for signature in ("serving_default", "scarce"):
        found = served.signatures[signature](examples=rows)
        assert found["scarce/class"].numpy().tolist() == [b""]
        assert np.isnan(found["scarce"].numpy()).all()


def test_the_model_says_which_names_stand_for_which_numbers(directory):
    classes = json.loads((directory / "assets.extra" / "classes.json").read_text())
    assert classes == {
        "mail": ["ham", "spam", "näh"],
        "answer": ["no", "yes"],
        "several/pair": ["a", "b", "c"],
        "several/bits": ["off", "on"],
        "scarce": ["no", "yes"],
    }


def test_a_key_named_class_and_the_names_of_others_are_told_apart(served):
    found = served.signatures["several"](examples=tf.constant([build.example({"z": 1.0})]))
    assert found["several/class"].dtype == tf.float32
    assert found["several/pair/class"].dtype == tf.string


@pytest.mark.parametrize(
    ("target", "probabilities", "names"),
    [
        (Target("binary", classes=("no", "yes")), [0.5, 0.51, math.nan], [b"no", b"yes", b""]),
        (
            Target("multiclass", classes=("a", "b", "c")),
            [[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [math.nan] * 3],
            [b"b", b"a", b""],
        ),
        (
            Target("multilabel", classes=("a", "b", "c")),
            [[0.5, 0.9, 0.49], [0.1, 0.2, 0.3], [math.nan] * 3],
            [[b"a", b"b", b""], [b""] * 3, [b""] * 3],
        ),
    ],
    ids=["binary", "multiclass", "multilabel"],
)
def test_half_is_not_yet_the_second_class_but_one_of_several(target, probabilities, names):
    assert class_name(target, tf.constant(probabilities)).numpy().tolist() == names
