import base64
import dataclasses
import json
import math
import subprocess
import sys

import builders as build
import keras
import numpy as np
import pytest
import strategies
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_routing import expected_route, problem_of
from tensorflow.core.protobuf import saved_model_pb2

from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.components.branch_trainer.streams.read_rows import padded
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, Text, when

TABLE = build.MIXED_TABLE
SCALES = {
    "text": {"good": Scale()},
    "meter-1": {"days": Scale(4.0, 2.5)},
    "scan": {"class": Scale()},
}

# Runs where nothing of this package can be imported, nor what it was made with.
CALLER = """
import base64, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("branchline", "tensorflow_transform", "tfx", "tfx_bsl"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
try:
    import branchline
except ImportError:
    pass
else:
    raise SystemExit("branchline can be imported")

import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
batches = json.load(open(sys.argv[2]))
found = {}
for name, (signature, rows) in batches.items():
    examples = tf.constant([base64.b64decode(row) for row in rows], tf.string)
    for key, value in model.signatures[signature](examples=examples).items():
        array = value.numpy()
        found[f"{name} {key}"] = array.astype("S") if value.dtype == tf.string else array
np.savez(sys.argv[3], **found)
"""


def untrained():
    recipe = Recipe("mixed", TABLE)
    inputs = describe_inputs(recipe, build.mixed().output, own_preprocessing=False)
    keras.utils.set_random_seed(1)
    return default_model.build_model(recipe, inputs), inputs


def expected_predictions():
    """Route → predictions of the training side for its transformed rows."""
    model, _ = untrained()
    reader, _ = build.reader(TABLE, build.mixed().output)
    found = {}
    for route in TABLE.routes:
        rows = tf.constant(build.mixed().routed[route.name])
        features = tf.nest.map_structure(padded, reader.parse(route.name, rows)[0])
        logits = np.array(model(features, path=route.name)[route.name], np.float64)
        if route.task == "multiclass":
            powers = np.exp(logits)
            found[route.name] = powers / powers.sum(axis=1, keepdims=True)
        elif route.task == "binary":
            found[route.name] = 1 / (1 + np.exp(-logits[:, 0]))
        else:
            found[route.name] = logits[:, 0] * 2.5 + 4.0
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("serving") / "1")
    model, inputs = untrained()
    ServedModel(TABLE, model, inputs, SCALES, build.mixed().output).save(directory)
    return directory


UNROUTABLE = [{}, {"other": 1}, {"pixels": [0, 1], "x": 6}]
# A route takes them, but cannot use them.
UNUSABLE = [
    {"value": [1.0, math.nan]},
    {"value": [1.0]},
    {"colour": "m"},
    {"pixels": [0, 255], "value": [9, 0]},
    {"a/b. ü": ["one", "two"]},
]
UNUSABLE_ROUTES = ["meter-1", "meter-1", "meter-1", "scan", "text"]


# For the signature of `meter-1`; the last two it cannot use.
FORCED = [
    {"a/b. ü": "red", "value": [1.0, 10.0], "x": 1.0, "flat": 5},
    {"value": [1, 10], "x": 1.0, "flat": 5},
    {"value": [1.0], "x": 1.0, "flat": 5},
    {"a/b. ü": "red"},
]


def without_label(record):
    label = TABLE[expected_route(TABLE, as_lists(record))].label
    return {key: value for key, value in record.items() if key != label}


def interleaved():
    """Records of all routes in turn, without labels, and among them what cannot be used."""
    records = [without_label(record) for record in build.MIXED_RECORDS]
    mixed = records + UNROUTABLE + UNUSABLE
    order = np.random.default_rng(0).permutation(len(mixed))
    return [mixed[i] for i in order], order


@pytest.fixture(scope="module")
def answers(saved, tmp_path_factory):
    """What a process without branchline gets from the model."""
    folder = tmp_path_factory.mktemp("caller")
    rows = [build.example(record) for record in interleaved()[0]]
    batches = {
        "mixed": ("serving_default", rows),
        "none": ("serving_default", []),
        "one": ("serving_default", [build.example(without_label(build.MIXED_RECORDS[4]))]),
        "stray": ("serving_default", [build.example({"other": 1})] * 2),
        "broken": (
            "serving_default",
            [b"\xff", build.example(without_label(build.MIXED_RECORDS[4]))],
        ),
    }
    batches["forced"] = ("meter-1", [build.example(record) for record in FORCED])
    for route in TABLE.names:
        batches[f"routed-{route}"] = ("serving_default", build.mixed().routed[route])
        batches[route] = (route, build.mixed().routed[route])
        batches[f"empty-{route}"] = (route, [])
    coded = {
        name: (signature, [base64.b64encode(row).decode() for row in rows])
        for name, (signature, rows) in batches.items()
    }
    (folder / "batches.json").write_text(json.dumps(coded))
    (folder / "caller.py").write_text(CALLER)
    command = [sys.executable, "-I", "caller.py", saved, "batches.json", "found.npz"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    found = {}
    with np.load(folder / "found.npz") as arrays:
        for name in arrays:
            batch, key = name.split(" ")
            found.setdefault(batch, {})[key] = arrays[name]
    return found


def test_a_mixed_batch_is_routed_and_predicted_as_in_training(answers):
    records, order = interleaved()
    outputs = answers["mixed"]
    assert set(outputs) == {"route", *TABLE.names}
    routes = [expected_route(TABLE, as_lists(record)) or "" for record in records]
    assert [name.decode() for name in outputs["route"]] == routes
    places = {number: place for place, number in enumerate(order)}  # record → row
    for route, rows in {"text": range(4), "meter-1": range(4, 7), "scan": range(7, 9)}.items():
        mine = [places[row] for row in rows]
        want = expected_predictions()[route]
        np.testing.assert_allclose(outputs[route][mine], want, rtol=1e-5, atol=1e-6)
        others = np.delete(outputs[route], mine, axis=0)
        assert np.isnan(others).all(), f"{route}: rows of other routes"


def as_lists(record):
    return {key: v if isinstance(v, list) else [v] for key, v in record.items()}


def test_a_record_that_its_route_cannot_use_has_a_route_and_no_prediction(answers):
    _, order = interleaved()
    first = len(build.MIXED_RECORDS) + len(UNROUTABLE)
    for number, route in enumerate(UNUSABLE_ROUTES, first):
        row = list(order).index(number)
        assert answers["mixed"]["route"][row].decode() == route
        assert all(np.isnan(answers["mixed"][name][row]).all() for name in TABLE.names)


def test_an_empty_batch_gives_empty_outputs_of_the_same_shapes(answers):
    shapes = {key: (value.shape[1:], value.dtype) for key, value in answers["mixed"].items()}
    for key, value in answers["none"].items():
        assert len(value) == 0 and value.shape[1:] == shapes[key][0]
    for route in TABLE.names:
        assert list(answers[f"empty-{route}"]) == [route]
        assert len(answers[f"empty-{route}"][route]) == 0


def test_one_row_is_predicted_as_among_others(answers):
    assert answers["one"]["route"].tolist() == [b"meter-1"]
    want = expected_predictions()["meter-1"][:1]
    np.testing.assert_allclose(answers["one"]["meter-1"], want, rtol=1e-5)


def test_d29_where_nothing_but_tensorflow_is_a_broken_row_leaves_the_others_too(answers):
    assert answers["broken"]["route"].tolist() == [b"", b"meter-1"]
    want = expected_predictions()["meter-1"][:1]
    np.testing.assert_allclose(answers["broken"]["meter-1"], [np.nan, *want], rtol=1e-5)


def test_a_batch_that_no_route_takes_gives_no_prediction(answers):
    assert answers["stray"]["route"].tolist() == [b"", b""]
    assert all(np.isnan(answers["stray"][name]).all() for name in TABLE.names)


@pytest.mark.parametrize("route", TABLE.names)
def test_a_routes_signature_gives_that_route_only(answers, route):
    assert list(answers[route]) == [route]
    want = expected_predictions()[route]
    np.testing.assert_allclose(answers[route][route], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("route", TABLE.names)
def test_routed_examples_are_predicted_as_the_raw_ones(answers, route):
    """Their columns have the type in the name where routes differ in it: `value.float`."""
    outputs = answers[f"routed-{route}"]
    want = expected_predictions()[route]
    assert set(outputs["route"].tolist()) == {route.encode()}
    np.testing.assert_allclose(outputs[route], want, rtol=1e-5, atol=1e-6)


def test_a_routes_signature_takes_all_rows_as_its_own(answers):
    """The table gives the first record to `text`; the second no route takes."""
    meter = without_label(build.MIXED_RECORDS[4])
    assert expected_route(TABLE, as_lists(FORCED[0])) == "text"
    assert expected_route(TABLE, as_lists(FORCED[1])) is None
    assert FORCED[0].items() > meter.items()
    want = expected_predictions()["meter-1"][0]
    found = answers["forced"]["meter-1"]
    np.testing.assert_allclose(found[0], want, rtol=1e-5)
    assert np.isfinite(found[1]) and np.isnan(found[2:]).all()


def test_shapes_are_those_of_the_tasks(answers):
    rows = len(interleaved()[0])
    assert answers["mixed"]["text"].shape == (rows,)
    assert answers["mixed"]["meter-1"].shape == (rows,)
    assert answers["mixed"]["scan"].shape == (rows, 3)
    np.testing.assert_allclose(answers["scan"]["scan"].sum(axis=1), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def loaded(saved):
    return tf.saved_model.load(saved)


KEYS = sorted({"other", *TABLE.keys})
records = st.fixed_dictionaries({}, optional={key: strategies.values for key in KEYS})


@given(st.lists(records, min_size=1, max_size=20))
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_the_served_model_routes_as_the_documentation_says(loaded, records):
    rows = tf.constant([build.example(record) for record in records])
    outputs = loaded.signatures["serving_default"](examples=rows)
    names = [name.decode() for name in outputs["route"].numpy()]
    assert names == [expected_route(TABLE, record) or "" for record in records]
    for row, (name, record) in enumerate(zip(names, records, strict=True)):
        for route in TABLE.routes:
            labelled = record | {route.label: [1]}
            usable = name == route.name and problem_of(route, labelled) is None
            assert np.isnan(outputs[route.name][row].numpy()).any() == (not usable)


def served_with_values(directory, count):
    """The model of a table whose first route also takes so many values of `other`."""
    first, *others = TABLE.routes
    values = when.isin("other", [f"k{i}" for i in range(count)])
    first = dataclasses.replace(first, condition=when.any(first.condition, values))
    model, inputs = untrained()
    table = RoutingTable(first, *others)
    ServedModel(table, model, inputs, SCALES, build.mixed().output).save(str(directory))
    return tf.saved_model.load(str(directory))


def num_nodes(function):
    """Of its graph and of all functions that it calls."""
    graph = function.graph.as_graph_def()
    return len(graph.node) + sum(len(each.node_def) for each in graph.library.function)


def test_d28_the_served_model_looks_ten_thousand_values_up(tmp_path):
    few, many = (served_with_values(tmp_path / str(count), count) for count in (2, 10_000))
    few, many = few.signatures["serving_default"], many.signatures["serving_default"]
    rows = tf.constant([build.example({"other": [f"k{i}"]}) for i in (0, 9_999, 10_000)])
    names = [name.decode() for name in many(examples=rows)["route"].numpy()]
    assert names == [TABLE.names[0], TABLE.names[0], ""]
    assert num_nodes(few) == num_nodes(many) > 100


def test_whatever_comes_for_what_is_declared_disturbs_its_own_row_alone(loaded):
    """A good record and the same with other values, in turn, of every kind of feature."""
    serve = loaded.signatures["serving_default"]
    good, rows = [], []
    for record in map(as_lists, map(without_label, build.MIXED_RECORDS)):
        for key in sorted(TABLE.keys):
            for value in (1, 1.5, "a"):
                for size in (0, 1, 2, 3, 1000):
                    good.append(record)
                    rows += [record, record | {key: [value] * size}]
    outputs = serve(examples=tf.constant([build.example(record) for record in rows]))
    alone = serve(examples=tf.constant([build.example(record) for record in good]))
    assert outputs["route"][::2].numpy().tolist() == alone["route"].numpy().tolist()
    for route in TABLE.routes:
        predicted = outputs[route.name].numpy().reshape(len(rows), -1)
        want = alone[route.name].numpy().reshape(len(good), -1)
        np.testing.assert_allclose(predicted[::2], want, rtol=1e-5)
        usable = [
            expected_route(TABLE, record) == route.name
            and problem_of(route, record, label=False) is None
            for record in rows
        ]
        assert np.isnan(predicted).any(axis=1).tolist() == [not each for each in usable]


WHOLE = build.example(without_label(build.MIXED_RECORDS[4]))
NO_EXAMPLES = {
    "random": b"\xff\xff\xff",
    "text": b"hello world",
    "json": b'{"x": 1}',
    "cut-off": WHOLE[:-1],
    "half": WHOLE[: len(WHOLE) // 2],
    "bad-features": b"\x0a\x02\xff\xff",
    "bad-entry": b"\x0a\x04\x0a\x02\xff\xff",
    "bad-value": WHOLE.replace(b"value\x12", b"value\x11"),
}


@pytest.mark.parametrize("signature", ["serving_default", "meter-1"])
def test_d30_what_is_no_example_has_no_route_and_disturbs_no_other_row(loaded, signature):
    serve = loaded.signatures[signature]
    good = [build.example(without_label(record)) for record in build.MIXED_RECORDS]
    good = (good * 2)[: len(NO_EXAMPLES) + 1]
    want = serve(examples=tf.constant(good))
    bad = list(NO_EXAMPLES.values())
    mixed = [row for pair in zip(good, [*bad, b""], strict=True) for row in pair]
    found = serve(examples=tf.constant(mixed))
    alone = serve(examples=tf.constant(bad))
    for key, values in found.items():
        np.testing.assert_array_equal(values[::2], want[key])
        for rows in (values[1::2], alone[key]):
            rows = rows.numpy()
            assert (rows == b"").all() if key == "route" else np.isnan(rows).all()


@given(st.lists(st.binary(max_size=30) | st.integers(0, len(WHOLE)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_any_bytes_get_an_answer(loaded, some):
    """Random ones, and an example with one bit turned over."""
    rows = [each if isinstance(each, bytes) else turned(each) for each in some]
    outputs = loaded.signatures["serving_default"](examples=tf.constant([*rows, WHOLE]))
    assert outputs["route"].numpy()[-1] == b"meter-1"
    assert np.isfinite(outputs["meter-1"].numpy()[-1])


def turned(place):
    return bytes(byte ^ (16 * (place == number)) for number, byte in enumerate(WHOLE))


def sizes(directory):
    """The numbers of functions and of operations in a SavedModel."""
    graph = saved_model_pb2.SavedModel()
    graph.ParseFromString((directory / "saved_model.pb").read_bytes())
    functions = [f for meta in graph.meta_graphs for f in meta.graph_def.library.function]
    return len(functions), sum(len(function.node_def) for function in functions)


def test_a_route_like_others_adds_little_to_the_model(tmp_path):
    """A branch of its own, of text, a category and a number, takes hundreds of operations."""

    def save(count):
        table = RoutingTable(
            *(
                Route(
                    f"r{i}",
                    when.equals("kind", str(i)),
                    features={f"t{i}": Text(), "c": Categorical(), f"x{i}": Numeric()},
                    label="y",
                    task="binary",
                )
                for i in range(count)
            )
        )
        records = [
            {"kind": str(i), f"t{i}": "a b", "c": "q", f"x{i}": 1.0, "y": i % 2}
            for i in range(count)
        ]
        routed = build.route_rows(table, records)
        folder = tmp_path / str(count)
        output, _ = build.transform(folder / "transform", table, routed, materialize=False)
        inputs = build.reader(table, output)[1]
        model = default_model.build_model(Recipe("many", table), inputs)
        scales = {name: {"y": Scale()} for name in table.names}
        ServedModel(table, model, inputs, scales, output).save(str(folder / "1"))
        rows = tf.constant([build.example(record) for record in records])
        loaded = tf.saved_model.load(str(folder / "1"))
        outputs = loaded.signatures["serving_default"](examples=rows)
        found = np.stack([outputs[name] for name in table.names])
        assert np.isfinite(found[np.eye(count, dtype=bool)]).all()
        assert np.isnan(found[~np.eye(count, dtype=bool)]).all()
        return np.array(sizes(folder / "1"))

    functions, operations = (save(12) - save(4)) / 8
    assert functions <= 4 and operations < 260
