"""Pictures and the ways of scaling numbers: served as trained on, a bad picture alone without."""

import base64
from typing import Any, NamedTuple

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.recipe.prepare import BY_TABLE, Preparation
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.components.branch_trainer.streams.read_rows import padded
from branchline.schemas import Image, Numeric, Recipe, Route, RoutingTable, when

LABEL = {"label": "y", "task": "binary"}
NUMBERS = {
    "clipped": Numeric(clip=(0, 5)),
    "log": Numeric(scale="log"),
    "rank": Numeric((2,), scale="quantile"),
    "gap": Numeric(missing="indicator"),
}
TABLE = RoutingTable(
    Route(
        "scan",
        when.present("picture"),
        features={"picture": Image(6, 5, 3, stored="file"), "log": NUMBERS["log"]},
        **LABEL,
    ),
    Route(
        "grey",
        when.present("grey"),
        features={"grey": Image(70, 4, 1, stored="path")},  # large enough to be halved
        **LABEL,
    ),
    Route("numbers", when.present("rank"), features=NUMBERS, **LABEL),
)


def records_of(rng, count):
    """As many records of each route."""
    records = []
    for number in range(count):
        pixels = rng.integers(0, 256, (9 + number, 8, 3)).astype(np.uint8)
        png, jpeg = tf.io.encode_png(pixels).numpy(), tf.io.encode_jpeg(pixels).numpy()
        records.append({"picture": [png, jpeg, base64.b64encode(png)][number % 3]})
        records[-1] |= {"log": float(10 ** rng.normal())}
        records.append({"grey": jpeg})
        numbers = {"clipped": rng.normal(2, 4), "log": rng.normal(), "gap": rng.normal()}
        if number % 4 == 1:
            del numbers["gap"]
        records.append(numbers | {"rank": rng.normal(size=2).tolist()})
    return [record | {"y": number % 2} for number, record in enumerate(records)]


class Sides(NamedTuple):
    """What training gets and what is served."""

    reader: Any
    inputs: dict
    preparation: Preparation
    model: Any
    loaded: Any


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    routed = build.route_rows(TABLE, records_of(np.random.default_rng(0), 24))
    root = tmp_path_factory.mktemp("kinds")
    output, _ = build.transform(root / "t", TABLE, routed, materialize=False)
    inputs = describe_inputs(Recipe("r", TABLE), output, own_preprocessing=False)
    keras.utils.set_random_seed(1)
    model = default_model.build_model(Recipe("r", TABLE), inputs)
    scales = {name: {"y": Scale()} for name in TABLE.names}
    ServedModel(TABLE, model, inputs, scales, output).save(str(root / "1"))
    reader = build.reader(TABLE, output)[0]
    return Sides(
        reader,
        inputs,
        Preparation(TABLE, inputs, output),
        model,
        tf.saved_model.load(str(root / "1")),
    )


def without_label(record):
    return build.example({key: value for key, value in record.items() if key != "y"})


@pytest.mark.parametrize("seed", range(3))
def test_what_is_served_is_prepared_and_predicted_as_what_is_trained_on(sides, seed):
    records = records_of(np.random.default_rng(seed + 1), 5)
    raw = tf.constant([without_label(record) for record in records])
    index, features = sides.preparation(raw, tf.constant(BY_TABLE))
    assert index.numpy().tolist() == [0, 1, 2] * 5
    predicted = sides.loaded.signatures["serving_default"](examples=raw)
    routed = build.route_rows(TABLE, records)
    for number, route in enumerate(TABLE.names):
        trained, _ = sides.reader.parse(route, tf.constant(routed[route]))
        for key, spec in sides.inputs[route].items():
            served = features[spec.output].numpy()[number::3]
            np.testing.assert_array_equal(served, trained[key].numpy(), err_msg=key)
            assert np.ptp(served) > 0
        logits = sides.model(tf.nest.map_structure(padded, trained), path=route)[route]
        mine = predicted[route].numpy()
        np.testing.assert_allclose(mine[number::3], tf.sigmoid(logits)[:, 0], rtol=1e-5)
        assert np.isnan(np.delete(mine, np.s_[number::3])).all()


def test_pictures_are_their_pixels_whatever_the_training_rows_hold(sides):
    pixels = np.full((6, 5, 3), 51, np.uint8)
    raw = build.example({"picture": tf.io.encode_png(pixels).numpy(), "log": 1.0})
    _, features = sides.preparation(tf.constant([raw]), tf.constant(BY_TABLE))
    found = features[sides.inputs["scan"]["picture"].output]
    np.testing.assert_allclose(found[0], np.full((6, 5, 3), 0.2), atol=1e-6)


def test_a_picture_that_cannot_be_decoded_is_nan_in_its_own_row(sides):
    good, grey, _ = records_of(np.random.default_rng(9), 1)
    bad = [good | {"picture": value} for value in (b"\x89PNG\r\n", "junk", 7)]
    raw = tf.constant([without_label(each) for each in (good, *bad, grey)])
    found = sides.loaded.signatures["serving_default"](examples=raw)
    assert found["route"].numpy().tolist() == [b"scan"] * 4 + [b"grey"]
    assert np.isnan(found["scan"]).tolist() == [False, True, True, True, True]
    assert np.isnan(found["grey"]).tolist() == [True] * 4 + [False]
