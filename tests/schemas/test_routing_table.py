"""Tables that cannot work are refused when they are made, or before the first step runs."""

import re

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from branchline.schemas import (
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    from_json,
    to_json,
    when,
)
from branchline.schemas.check_conditions import EarlierRoutes, why_never
from branchline.schemas.conditions import MOST_NESTED
from branchline.schemas.routes import MOST_ROUTES

A, B = when.equals("kind", "a"), when.equals("kind", "b")


def route(name, condition, label="y", **fields):
    fields = {"features": {"x": Numeric()}, "task": "binary"} | fields
    return Route(name, condition, label=label, **fields)


@pytest.mark.parametrize(
    "condition",
    [
        when.present("y"),
        when.not_(when.present("y")),
        when.all(A, when.any(B, when.greater("y", 1))),
    ],
    ids=["present", "not", "nested"],
)
def test_d15_a_condition_does_not_read_its_own_label(condition):
    with pytest.raises(RecipeError, match=r"^Route\('r'\)\.condition: reads 'y', its own label"):
        RoutingTable(route("r", condition))


def test_a_condition_does_not_read_one_of_its_own_targets():
    targets = {"labels.a": Target("binary"), "labels.b": Target("binary", optional=True)}
    own = Route("r", when.present("labels.b"), features={"x": Numeric()}, targets=targets)
    with pytest.raises(RecipeError, match="reads 'labels.b', its own label"):
        RoutingTable(own)


def test_d15_a_condition_does_not_read_the_label_of_a_later_route():
    later = route("later", B, label="z")
    with pytest.raises(RecipeError, match="'r'.*reads 'z', a label of 'later'") as error:
        RoutingTable(route("r", when.not_(when.present("z"))), later)
    assert "\n" not in str(error.value)


def test_a_condition_may_read_what_was_the_label_of_an_earlier_route():
    """Its records are taken by then, with a label or without."""
    table = RoutingTable(route("first", A, label="z"), route("second", when.greater("z", 1)))
    assert table.names == ("first", "second")


def test_a_label_of_an_earlier_and_of_a_later_route_is_not_read_between_them():
    with pytest.raises(RecipeError, match="reads 'z', a label of 'third'"):
        RoutingTable(
            route("first", A, label="z"),
            route("second", when.greater("z", 1)),
            route("third", B, label="z"),
        )


UNREACHABLE = {
    "same": ([A, A], "every record that it matches is taken by 'r0' before it"),
    "narrower": ([A, B, when.all(B, when.present("x"))], "is taken by 'r1' before it"),
    "among": ([when.isin("kind", ["a", "b"]), B], "is taken by 'r0' before it"),
    "above": ([when.greater("n", 1), when.greater("n", 2.5)], "is taken by 'r0' before it"),
    "below": ([when.less("n", 3), when.less("n", 3)], "is taken by 'r0' before it"),
    "present": ([when.present("n"), when.dtype("n", "int")], "is taken by 'r0' before it"),
    "either": ([when.any(A, B), B], "is taken by 'r0' before it"),
    "two-values": ([when.all(A, B)], "contradicts itself"),
    "not-itself": ([when.all(when.not_(A), A)], "contradicts itself"),
    "absent": ([when.all(when.not_(when.present("n")), when.less("n", 1))], "contradicts itself"),
    "empty-range": ([when.all(when.greater("n", 2), when.less("n", 2))], "contradicts itself"),
    "two-types": ([when.all(when.dtype("n", "int"), when.dtype("n", "str"))], "contradicts itself"),
}


@pytest.mark.parametrize(("conditions", "why"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_route_that_no_record_can_take_is_named_with_the_reason(conditions, why):
    table = RoutingTable(*(route(f"r{i}", each) for i, each in enumerate(conditions)))
    last = re.escape(f"Route('r{len(conditions) - 1}')")
    with pytest.raises(RecipeError, match=f"^{last}: no record can take it.*{why}"):
        table.check_reachable()


REACHABLE = {
    "others": [A, B],
    "wider": [when.all(A, when.present("x")), A],
    "above": [when.greater("n", 2.5), when.greater("n", 1)],
    "more-values": [A, when.isin("kind", ["a", "b"])],
    "text-and-number": [when.equals("n", "3"), when.equals("n", 3)],
    "other-key": [when.present("n"), when.present("m")],
    "the-rest": [A, when.not_(A)],
    "range": [when.all(when.greater("n", 2), when.less("n", 2.5))],
    "either": [A, when.any(A, B)],
}


@pytest.mark.parametrize("conditions", REACHABLE.values(), ids=REACHABLE)
def test_a_route_that_some_record_may_take_is_kept(conditions):
    RoutingTable(*(route(f"r{i}", each) for i, each in enumerate(conditions))).check_reachable()


def test_a_thousand_routes_are_the_most():
    routes = [route(f"r{i}", when.equals("kind", i)) for i in range(MOST_ROUTES + 1)]
    assert len(RoutingTable(*routes[:-1]).names) == MOST_ROUTES == 1000
    with pytest.raises(RecipeError, match="^RoutingTable: got '1001 routes', expected at most"):
        RoutingTable(*routes)


THOUSAND = {
    "one-value": lambda i: when.equals("kind", i),
    "many-values": lambda i: when.isin("kind", [f"{i}/{j}" for j in range(100)]),
    "with-others": lambda i: when.all(when.equals("tenant", "a"), when.equals("kind", i)),
    "either": lambda i: when.any(when.equals("kind", i), when.equals("sort", i)),
}


@pytest.mark.parametrize("condition", THOUSAND.values(), ids=map("D28-{}".format, THOUSAND))
def test_a_thousand_routes_are_not_compared_each_with_each(condition):
    earlier = EarlierRoutes()
    for i in range(1000):
        assert len(earlier.like(condition(i))) <= 2
        earlier.add(f"r{i}", condition(i))
    assert "r7" in dict(earlier.like(condition(7)))


@given(st.lists(strategies.conditions, min_size=1, max_size=8))
def test_d28_leaving_out_routes_that_cannot_matter_changes_no_answer(conditions):
    *before, last = conditions
    routes = [(f"r{i}", each) for i, each in enumerate(before)]
    earlier = EarlierRoutes()
    for each in routes:
        earlier.add(*each)
    assert why_never(last, earlier.like(last)) == why_never(last, routes)


def nested(depth):
    """A condition of so many levels, of all kinds."""
    condition = when.present("x")
    wrap = [when.not_, lambda c: when.all(c, when.present("z")), lambda c: when.any(c, B)]
    for number in range(depth - 1):
        condition = wrap[number % 3](condition)
    return condition


@pytest.mark.parametrize("depth", [MOST_NESTED + 1, 200, 5000], ids="D28-{}".format)
def test_a_condition_nested_too_deep_is_refused_with_the_limit(depth):
    got = f"^Route.'r'.*: got conditions nested {depth} deep, expected at most {MOST_NESTED}"
    with pytest.raises(RecipeError, match=got):
        route("r", nested(depth))


def test_d28_a_condition_as_deep_as_the_limit_works_and_is_written_and_read():
    table = RoutingTable(route("r", nested(MOST_NESTED)), route("s", A))
    table.check_reachable()
    assert from_json(to_json(table)) == table


def test_d28_json_nested_too_deep_is_no_recipe():
    with pytest.raises(RecipeError, match="^not the JSON of a recipe"):
        from_json('{"a":' * 100_000)


def test_a_table_has_a_route_and_no_name_twice():
    with pytest.raises(RecipeError, match=r"^RoutingTable: got \(\), expected at least one Route"):
        RoutingTable()
    with pytest.raises(RecipeError, match="more than one route is named r, s$"):
        RoutingTable(*(route(name, A) for name in "srtsr"))
