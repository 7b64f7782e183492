"""Times, durations, and yes or no: what a branch gets of them, in training and when it serves."""

import datetime as dt
import math
from typing import NamedTuple
from zoneinfo import ZoneInfo

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.components.branch_trainer.streams.read_rows import padded
from branchline.components.transform.groups import groups_of, output_name
from branchline.schemas import Bool, Duration, Numeric, Recipe, Route, RoutingTable, Timestamp, when

LABEL = {"label": "y", "task": "binary"}
TABLE = RoutingTable(
    Route(
        "visit",
        when.present("came"),
        features={
            "came": Timestamp(),
            "local": Timestamp("ms", zone="Europe/Berlin"),
            "stayed": Duration(),
            "paid": Bool(),
            "age": Numeric(),
        },
        **LABEL,
    ),
    Route(
        "call",
        when.present("began"),
        features={"began": Timestamp(), "lasted": Duration(), "missed": Bool()},
        **LABEL,
    ),
)
MORNING = dt.datetime(2024, 2, 29, 6, tzinfo=dt.timezone.utc)
SECONDS = int(MORNING.timestamp())
RECORDS = [
    {"came": "2024-02-29T06:00:00Z", "local": "2024-02-29", "stayed": "PT1M", "paid": "yes"},
    {"came": SECONDS + 1, "local": 1000 * SECONDS, "stayed": 120, "paid": 0, "age": 4.0},
    {"came": "2024-02-29 06:00:02.5", "stayed": "00:03", "age": 8.0},
    {"came": "2024-02-29T08:00:03+02:00", "local": "2024-07-01T12:00", "stayed": -60, "paid": 1},
    {"began": "1999-12-31", "lasted": 10, "missed": "F"},
    {"began": "2001-01-02", "lasted": "PT20S", "missed": "t"},
]
RECORDS = [record | {"y": number % 2} for number, record in enumerate(RECORDS)]


class Learnt(NamedTuple):
    routed: dict
    output: object
    outputs: dict


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Routed examples, what was learnt from them, and route → key → rows [rows, width]."""
    routed = build.route_rows(TABLE, RECORDS)
    root = tmp_path_factory.mktemp("numbers") / "t"
    output, _ = build.transform(root, TABLE, routed, materialize=False)
    transformer = build.Transformer(output)
    outputs = {}
    for name, rows in routed.items():
        found = transformer(rows)
        outputs[name] = {
            key: tf.sparse.to_dense(found[output_name(TABLE, name, key)]).numpy()
            for key in TABLE[name].features
        }
    return Learnt(routed, output, outputs)


def z_scores(values):
    values = np.asarray(values, np.float64)
    return (values - values.mean()) / values.std()


def test_routes_share_outputs(learnt):
    assert [group.name for group in groups_of(TABLE)] == [
        *("Timestamp/came and 1 more", "Timestamp/local", "Duration/stayed and 1 more"),
        *("Bool/paid and 1 more", "Numeric/age"),
    ]


def test_times_that_are_a_second_apart_are_told_apart(learnt):
    trend = learnt.outputs["visit"]["came"][:, 0]
    np.testing.assert_allclose(trend, z_scores([0, 1, 2.5, 3]), atol=1e-5)
    # The other route's times, decades before, do not count.
    np.testing.assert_allclose(learnt.outputs["call"]["began"][:, 0], [-1, 1], atol=1e-6)


def cycles(local):
    """Sine and cosine of the place in day, week and year, by Python's calendar."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    day = (local.replace(tzinfo=None) - midnight) / dt.timedelta(days=1)
    begin, end = dt.datetime(local.year, 1, 1), dt.datetime(local.year + 1, 1, 1)
    year = (local.replace(tzinfo=None) - begin) / (end - begin)
    places = [day, (local.weekday() + day) / 7, year]
    return [wave(2 * math.pi * place) for place in places for wave in (math.sin, math.cos)]


def test_the_place_in_day_week_and_year_is_that_of_the_zone(learnt):
    times = [MORNING + dt.timedelta(seconds=each) for each in (0, 1, 2.5, 3)]
    found = learnt.outputs["visit"]["came"][:, 1:]
    np.testing.assert_allclose(found, list(map(cycles, times)), atol=1e-6)
    berlin = ZoneInfo("Europe/Berlin")
    midnight, noon = dt.datetime(2024, 2, 29), dt.datetime(2024, 7, 1, 12)
    want = map(cycles, [midnight, MORNING.astimezone(berlin), noon])
    np.testing.assert_allclose(
        learnt.outputs["visit"]["local"][[0, 1, 3], 1:], list(want), atol=1e-6
    )


def test_durations_are_scaled_by_their_logarithm(learnt):
    found = learnt.outputs["visit"]["stayed"][:, 0]
    logs = [math.log1p(60), math.log1p(120), math.log1p(180), -math.log1p(60)]
    np.testing.assert_allclose(found, z_scores(logs), rtol=1e-5)


def test_yes_is_one_no_is_minus_one_and_what_is_missing_is_neutral(learnt):
    assert learnt.outputs["visit"]["paid"].tolist() == [[1], [-1], [0], [1]]
    assert learnt.outputs["call"]["missed"].tolist() == [[-1], [1]]
    assert learnt.outputs["visit"]["local"][2].tolist() == [0] * 7


def test_a_text_that_no_router_has_seen_is_taken_for_missing(learnt):
    row = {"_route": "visit", "came": "never", "stayed": "long", "paid": "maybe"}
    found = build.Transformer(learnt.output)([build.example(row)])
    for key in ("came", "stayed", "paid"):
        assert not np.any(tf.sparse.to_dense(found[output_name(TABLE, "visit", key)]))


times = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))


@pytest.fixture(scope="module")
def transformer(learnt):
    return build.Transformer(learnt.output)


@given(st.lists(times, min_size=1, max_size=20))
@settings(deadline=None, max_examples=30)
def test_any_time_has_the_place_that_pythons_calendar_says(transformer, drawn):
    rows = [build.example({"_route": "visit", "came": time.isoformat()}) for time in drawn]
    found = tf.sparse.to_dense(transformer(rows)[output_name(TABLE, "visit", "came")])
    np.testing.assert_allclose(found[:, 1:], list(map(cycles, drawn)), atol=2e-6)


@pytest.fixture(scope="module")
def sides(learnt, tmp_path_factory):
    """Route → the logits of an untrained default model for the records, and the model served."""
    reader, inputs = build.reader(TABLE, learnt.output)
    keras.utils.set_random_seed(1)
    model = default_model.build_model(Recipe("r", TABLE), inputs)
    logits = {}
    for name, rows in learnt.routed.items():
        features = reader.parse(name, tf.constant(rows))[0]
        features = tf.nest.map_structure(padded, features)
        logits[name] = np.array(model(features, path=name)[name])[:, 0]
    directory = str(tmp_path_factory.mktemp("served") / "1")
    scales = {name: {"y": Scale()} for name in TABLE.names}
    ServedModel(TABLE, model, inputs, scales, learnt.output).save(directory)
    return logits, tf.saved_model.load(directory)


def serve(model, signature, records):
    rows = tf.constant([build.example(record) for record in records])
    return {key: each.numpy() for key, each in model.signatures[signature](examples=rows).items()}


def test_a_raw_record_is_served_as_it_was_trained_on(sides):
    logits, model = sides
    raw = [{key: value for key, value in record.items() if key != "y"} for record in RECORDS]
    found = serve(model, "serving_default", raw)
    want = {name: 1 / (1 + np.exp(-each)) for name, each in logits.items()}
    np.testing.assert_allclose(found["visit"][:4], want["visit"], rtol=1e-5)
    np.testing.assert_allclose(found["call"][4:], want["call"], rtol=1e-5)
    alone = serve(model, "visit", raw[:4])["visit"]
    np.testing.assert_array_equal(alone, found["visit"][:4])


@pytest.mark.parametrize(
    "bad",
    [{"came": "2024-02-30"}, {"local": "x"}, {"stayed": "1:60"}, {"paid": 2}, {"came": "9" * 40}],
    ids=str,
)
def test_a_text_that_cannot_be_read_is_nan_in_its_own_row(sides, bad):
    _, model = sides
    found = serve(model, "serving_default", [RECORDS[0], RECORDS[0] | bad, RECORDS[4]])
    assert found["route"].tolist() == [b"visit", b"visit", b"call"]
    assert np.isnan(found["visit"]).tolist() == [False, True, True]
    assert np.isnan(found["call"]).tolist() == [True, True, False]
