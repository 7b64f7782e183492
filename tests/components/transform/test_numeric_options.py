"""How `Numeric` clips, scales, and tells what is missing."""

import builders as build
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.transform.groups import output_name
from branchline.components.transform.quantiles import _QuantilesFn
from branchline.schemas import Numeric, Route, RoutingTable, when

FEATURES = {
    "clipped": Numeric(clip=(0, 100)),
    "above": Numeric(clip=(None, 10)),
    "log": Numeric(scale="log"),
    "rank": Numeric(scale="quantile"),
    "pair": Numeric((2,), scale="quantile"),
    "told": Numeric(missing="indicator"),
    "whole": Numeric(whole=True, scale="quantile", missing="indicator"),
}
TABLE = RoutingTable(
    Route("r", when.present("pair"), features=FEATURES, label="y", task="binary"),
    Route("s", when.present("q"), features={"q": FEATURES["rank"]}, label="y", task="binary"),
)
NOW = 1_764_000_000_000
ROWS = 201
R = [
    {"clipped": float(i), "above": 1e37 if i % 25 == 0 else float(i % 10), "log": 10.0 ** (i % 7)}
    | {"rank": 1e37 if i % 25 == 0 else float(i), "pair": [float(i), -float(i)]}
    | ({"told": float(i)} if i % 2 else {})
    | {"whole": NOW + i, "y": 0}
    for i in range(ROWS)
]
S = [{"q": float(1000 * i), "y": 1} for i in range(9)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Route → key → rows [rows, width]."""
    routed = build.route_rows(TABLE, R + S)
    root = tmp_path_factory.mktemp("options") / "t"
    output, _ = build.transform(root, TABLE, routed, materialize=False)
    transformer = build.Transformer(output)

    def rows(route, key, values):
        examples = [build.example({"_route": route} | each) for each in values]
        return tf.sparse.to_dense(transformer(examples)[output_name(TABLE, route, key)]).numpy()

    return rows


def z_scores(values):
    values = np.asarray(values, np.float64)
    return (values - values.mean()) / values.std()


def test_what_is_beyond_the_bounds_becomes_the_bound(found):
    want = z_scores(np.clip(np.arange(ROWS), 0, 100))
    np.testing.assert_allclose(found("r", "clipped", R)[:, 0], want, atol=1e-5)
    far = [{"clipped": value} for value in (-5.0, 0.0, 100.0, 1e30)]
    ends = found("r", "clipped", far)[:, 0]
    assert ends[0] == ends[1] and ends[2] == ends[3]


def test_k4_a_fill_value_that_is_clipped_leaves_the_others_apart(found):
    want = z_scores([min(row["above"], 10) for row in R])
    np.testing.assert_allclose(found("r", "above", R)[:, 0], want, atol=1e-5)


def test_powers_of_ten_are_equally_far_apart_by_their_logarithm(found):
    rows = [{"log": sign * 10.0**power} for sign in (1, -1) for power in (4, 5, 6)]
    four, five, six, minus_four, minus_five, _ = found("r", "log", rows)[:, 0]
    assert five - four == pytest.approx(six - five, rel=1e-3)
    assert minus_four - minus_five == pytest.approx(five - four, rel=1e-4)
    want = z_scores(np.log1p([row["log"] for row in R]))
    np.testing.assert_allclose(found("r", "log", R)[:, 0], want, atol=1e-5)


def test_k4_ranks_are_even_whatever_the_fill_value(found):
    ranks = found("r", "rank", R)[:, 0]
    good = [i for i in range(ROWS) if i % 25]
    places = np.linspace(-1, 1 - 2 * 9 / ROWS, len(good))
    np.testing.assert_allclose(ranks[good], places, atol=0.02)
    assert np.all(np.diff(ranks[good]) > 0) and ranks[0] > 0.9


def test_each_route_and_position_has_its_own_ranks(found):
    pairs = found("r", "pair", R)
    np.testing.assert_allclose(pairs[:, 0], np.linspace(-1, 1, ROWS), atol=0.02)
    np.testing.assert_allclose(pairs[:, 1], -pairs[:, 0], atol=0.02)
    middles = (np.arange(9) + 0.5) / 4.5 - 1  # each stands for a ninth of the rows
    np.testing.assert_allclose(found("s", "q", S)[:, 0], middles, atol=0.02)
    assert found("s", "q", [{"q": -1e30}, {"q": 1e30}])[:, 0].tolist() == [-1, 1]


def test_whole_numbers_near_now_have_ranks_of_their_own(found):
    ranks = found("r", "whole", R)
    np.testing.assert_allclose(ranks[:, 0], np.linspace(-1, 1, ROWS), atol=0.02)
    assert np.all(ranks[:, 1] == 1)


def test_what_is_missing_is_told(found):
    told = found("r", "told", R)
    there = np.arange(ROWS) % 2 == 1
    np.testing.assert_array_equal(told[:, 1], there)
    np.testing.assert_allclose(told[there, 0], z_scores(np.arange(1, ROWS, 2)), atol=1e-5)
    assert not told[~there].any()


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=40), min_size=1, max_size=5),
    st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_quantiles_of_batches_merge_into_those_of_all(batches, at_once):
    function = _QuantilesFn(2)
    if at_once:
        merged = function.create_accumulator()
        for batch in batches:
            places, values = np.ones(len(batch), np.int64), np.array(batch, np.float64)
            merged = function.add_input(merged, (places, values))
    else:
        parts = [
            function.compact(
                function.add_input({}, (np.ones(len(batch), np.int64), np.array(batch, float)))
            )
            for batch in batches
        ]
        merged = function.merge_accumulators(parts)
    found = function.extract_output(merged)
    everything = sorted(value for batch in batches for value in batch)
    assert not found[0].any() and found.shape == (2, 129)
    assert found[1, 0] == everything[0] and found[1, -1] == everything[-1]
    assert np.all(np.diff(found[1]) >= 0) and set(found[1]) <= set(everything)
    middle = len(everything) // 2
    assert everything[max(middle - 1, 0)] <= found[1, 64] <= everything[middle]
