import functools

import builders as build
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchline.components.transform.groups import output_name
from branchline.components.transform.scale import Moments, merge
from branchline.schemas import Image, Numeric, Route, RoutingTable, when

NOW = 1_764_000_000_123  # milliseconds since 1970; a float of 32 bits has steps of 131 s there
FLOATS = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


def moments(values):
    values = np.asarray(values, np.float64)
    if not values.size:
        return Moments(*np.zeros([3, 1]))
    mean = values.mean()
    return Moments(*np.array([[values.size], [mean], [np.square(values - mean).sum()]]))


@given(st.lists(st.lists(FLOATS, max_size=5), min_size=1, max_size=8))
def test_moments_of_batches_merge_into_those_of_all(batches):
    found = functools.reduce(merge, map(moments, batches))
    everything = [value for batch in batches for value in batch]
    want = moments(everything)
    assert found.size == want.size
    scale = np.abs(everything).max(initial=0)
    np.testing.assert_allclose(found.mean, want.mean, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(found.squares, want.squares, rtol=1e-6, atol=1e-9 * scale**2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), FLOATS)
def test_what_is_constant_has_no_variance_however_it_is_batched(sizes, value):
    found = functools.reduce(merge, (moments([value] * size) for size in sizes))
    np.testing.assert_array_equal(found.squares, [0])


TABLE = RoutingTable(
    Route("one", when.present("x"), features={"x": Numeric()}, label="y", task="binary"),
    Route("far", when.present("z"), features={"z": Numeric()}, label="y", task="binary"),
    Route("now", when.present("t"), features={"t": Numeric(whole=True)}, label="y", task="binary"),
    Route("once", when.present("t"), features={"t": Numeric(whole=True)}, label="y", task="binary"),
    Route("flat", when.present("p"), features={"p": Image(1, 1, 1)}, label="y", task="binary"),
)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    far = [{"_route": "far", "z": value} for value in (1.7e9, 1.7e9 + 1024, 1.7e9 + 2048)]
    now = [{"_route": "now", "t": NOW + 1000 * i} for i in range(3)]
    once = [{"_route": "once", "t": NOW}] * 3
    rows = [{"_route": "one", "x": 5.0}, *far, *now, *once]
    rows = [build.example(row) for row in rows]
    root = tmp_path_factory.mktemp("scale") / "t"
    return build.Transformer(build.transform(root, TABLE, {"a": rows}, materialize=False)[0])


def scaled(transformer, route, key, values):
    rows = [build.example({"_route": route, key: value}) for value in values]
    return transformer(rows)[output_name(TABLE, route, key)].values.numpy()


def test_a_route_of_a_single_row_is_scaled_to_zero(transformer):
    np.testing.assert_array_equal(scaled(transformer, "one", "x", [5.0]), [0])
    np.testing.assert_array_equal(scaled(transformer, "one", "x", [7.0]), [2])


def test_numbers_far_from_zero_keep_their_distances(transformer):
    found = scaled(transformer, "far", "z", [1.7e9, 1.7e9 + 1024, 1.7e9 + 2048])
    np.testing.assert_allclose(found, np.array([-1, 0, 1]) * 1.5**0.5, atol=1e-6)


@pytest.mark.parametrize("case", ["D27", "K7"])
def test_whole_numbers_near_now_in_milliseconds_keep_their_seconds(transformer, case):
    values = [NOW, NOW + 1000, NOW + 2000, NOW + 2001]
    found = scaled(transformer, "now", "t", values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array([-1, 0, 1, 1.001]) * 1.5**0.5, atol=1e-5)


def test_d27_a_large_number_that_does_not_vary_becomes_zero(transformer):
    np.testing.assert_array_equal(scaled(transformer, "once", "t", [NOW, NOW + 2]), [0, 2])


def test_a_picture_that_no_row_had_stays_within_its_range(transformer):
    found = scaled(transformer, "flat", "p", [-300.0, 0.0, 300.0])
    np.testing.assert_allclose(found, [0, 0.5, 1], atol=1e-6)
