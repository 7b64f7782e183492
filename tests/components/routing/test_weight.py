"""Weights of records: which are set aside and why, and that what is served asks for none."""

import math

import builders as build
import pytest

from branchline.components.router.route_batch import BatchRouter
from branchline.schemas import Numeric, Route, RoutingTable, when

TABLE = RoutingTable(
    Route(
        "r",
        when.present("x"),
        features={"x": Numeric()},
        label="y",
        task="binary",
        weight="w",
    ),
    Route("s", when.present("z"), features={"z": Numeric()}, label="w", task="regression"),
)


@pytest.fixture(scope="module")
def router():
    return BatchRouter(TABLE)


def routed(router, record):
    return router([build.example(record)])


@pytest.mark.parametrize("weight, kept", [(2.5, 2.5), (0.0, 0.0), (3, 3.0), (-0.0, 0.0)])
def test_a_weight_from_0_on_is_kept_as_a_float(router, weight, kept):
    ((example,),) = routed(router, {"x": [1.0], "y": [1], "w": [weight]}).examples.values()
    assert build.read_example(example)["w"] == ("float", [kept])


@pytest.mark.parametrize(
    "weight, reason, told",
    [
        ([-1.0], "bad_weight", "w: got a weight below 0"),
        ([-0.25], "bad_weight", "w: got a weight below 0"),
        ([-3], "bad_weight", "w: got a weight below 0"),
        ([math.nan], "bad_weight", "NaN or infinity"),
        ([math.inf], "bad_weight", "NaN or infinity"),
        ([-math.inf], "bad_weight", "NaN or infinity"),
        ([], "weight_missing", "w: the weight is missing"),
        ([1.0, 2.0], "wrong_shape", "w: expected one weight, got several"),
        (["1"], "wrong_type", "w: got a text, expected a number"),
    ],
    ids=str,
)
def test_any_other_is_set_aside_with_its_reason(router, weight, reason, told):
    found = routed(router, {"x": [1.0], "y": [1], "w": weight})
    assert not found.examples
    ((_, problem),) = found.aside
    assert problem.reason == reason and told in problem.detail


def test_a_key_that_weighs_one_route_may_be_below_0_in_another(router):
    assert list(routed(router, {"z": [1.0], "w": [-2.0]}).examples) == ["s"]


def test_records_to_be_predicted_need_no_weight():
    router = BatchRouter(TABLE, label=False)
    for weight in ({}, {"w": [-1.0]}, {"w": [math.nan]}):
        assert list(routed(router, {"x": [1.0]} | weight).examples) == ["r"]
