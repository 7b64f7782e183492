"""Tables that cannot work are refused when they are made, or before the first step runs."""

import re

import pytest

from branchline.schemas import Numeric, RecipeError, Route, RoutingTable, Target, when
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
def test_a_condition_does_not_read_its_own_label(condition):
    with pytest.raises(RecipeError, match=r"^Route\('r'\)\.condition: reads 'y', its own label"):
        RoutingTable(route("r", condition))


def test_a_condition_does_not_read_one_of_its_own_targets():
    targets = {"labels.a": Target("binary"), "labels.b": Target("binary", optional=True)}
    own = Route("r", when.present("labels.b"), features={"x": Numeric()}, targets=targets)
    with pytest.raises(RecipeError, match="reads 'labels.b', its own label"):
        RoutingTable(own)


def test_a_condition_does_not_read_the_label_of_a_later_route():
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


def test_a_table_has_a_route_and_no_name_twice():
    with pytest.raises(RecipeError, match=r"^RoutingTable: got \(\), expected at least one Route"):
        RoutingTable()
    with pytest.raises(RecipeError, match="more than one route is named r, s$"):
        RoutingTable(*(route(name, A) for name in "srtsr"))
