"""Kinds of many values: what training gets of them, and what a served model predicts."""

import builders as build
import builders_kinds as kinds
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.model.alike import path_likeness
from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.streams.inputs import describe_inputs, input_specs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.components.branch_trainer.streams.read_rows import padded
from branchline.schemas import Recipe, Sequence, Tags

TABLE = kinds.TABLE


@pytest.fixture(scope="module")
def reader():
    return build.reader(TABLE, kinds.learnt()[2])[0]


@pytest.fixture(scope="module")
def inputs():
    return describe_inputs(Recipe("r", TABLE), kinds.learnt()[2], own_preprocessing=False)


def as_trained(reader, route, rows):
    """Feature → a list for each row."""
    features, _ = reader.parse(route, tf.constant(rows, tf.string))
    return {
        key: of.to_list() if isinstance(of, tf.RaggedTensor) else of.numpy().tolist()
        for key, of in features.items()
    }


@pytest.mark.parametrize("route", TABLE.names)
def test_training_gets_what_the_documentation_of_the_kinds_says(route, reader):
    records, rows, _, _ = kinds.learnt()
    found = as_trained(reader, route, rows[route])
    known = kinds.learn(route, records[route])
    for number, record in enumerate(records[route]):
        for key, want in kinds.expected(route, record, known).items():
            np.testing.assert_allclose(found[key][number], want, rtol=1e-4, atol=1e-5, err_msg=key)


def without_label(record):
    return {key: value for key, value in record.items() if key != "y"}


@pytest.fixture(scope="module")
def served(inputs, tmp_path_factory):
    keras.utils.set_random_seed(1)
    model = default_model.build_model(Recipe("r", TABLE), inputs)
    folder = str(tmp_path_factory.mktemp("served") / "1")
    scales = {name: {"y": Scale()} for name in TABLE.names}
    ServedModel(TABLE, model, inputs, scales, kinds.learnt()[2]).save(folder)
    return model, tf.saved_model.load(folder)


def test_a_served_model_predicts_as_the_trained_one(served, reader):
    model, loaded = served
    records, rows, _, _ = kinds.learnt()
    both = [record for name in TABLE.names for record in records[name]]
    raw = tf.constant([build.example(without_label(record)) for record in both])
    outputs = loaded.signatures["serving_default"](examples=raw)
    for number, route in enumerate(TABLE.names):
        features = reader.parse(route, tf.constant(rows[route]))[0]
        logits = model(tf.nest.map_structure(padded, features), path=route)[route]
        want = keras.ops.sigmoid(logits)[:, 0]
        mine = outputs[route][80 * number : 80 * (number + 1)]
        np.testing.assert_allclose(mine, want, rtol=1e-4)
        assert len(set(np.round(want, 6))) > 40  # they depend on the record


@pytest.mark.parametrize("missing", [True, False], ids=["absent", "empty"])
def test_records_without_a_value_get_a_prediction(served, missing):
    many = [key for key, kind in TABLE["one"].features.items() if isinstance(kind, Sequence | Tags)]
    record = {"kind": "one", "vector": [0.0, 0.0, 0.0]}
    record |= {} if missing else {key: [] for key in many}
    outputs = served[1].signatures["one"](examples=tf.constant([build.example(record)] * 2))
    assert np.isfinite(outputs["one"].numpy()).all()


def test_the_order_of_a_sequence_counts_and_that_of_tags_does_not(served):
    serve = served[1].signatures["one"]

    def predicted(**fields):
        record = {"kind": "one", "vector": [1.0, 0.0, 0.0]} | fields
        return float(serve(examples=tf.constant([build.example(record)]))["one"][0])

    assert predicted(tags=["a", "b"]) == pytest.approx(predicted(tags=["b", "a"]), rel=1e-6)
    for key, values in (("clicks", ["a", "b"]), ("ids", [1, 2]), ("readings", [1.0, 9.0])):
        assert predicted(**{key: values}) != pytest.approx(predicted(**{key: values[::-1]}))


def test_routes_of_such_kinds_compute_alike(inputs):
    """So that one trace serves them all; vocabularies of one size are given."""
    same = {
        name: {
            key: spec._replace(vocabulary_size=spec.vocabulary_size and 6)
            for key, spec in inputs[name].items()
        }
        for name in TABLE.names
    }
    model = default_model.build_model(Recipe("r", TABLE), same)
    one, two = (path_likeness(model, name, input_specs(same[name])) for name in TABLE.names)
    assert one is not None and one == two
