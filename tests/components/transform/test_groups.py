import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.transform.groups import groups_of, output_name
from branchline.schemas import Categorical, Image, Numeric, Route, RoutingTable, Text, when


def route(name, features):
    return Route(
        name, when.equals("kind", name), features=features, label=f"label {name}", task="binary"
    )


def test_routes_that_declare_a_column_alike_share_one_output():
    table = RoutingTable(*(route(f"r{n}", {"x": Numeric(), "c": Categorical()}) for n in range(9)))
    assert [(group.name, len(group.members)) for group in groups_of(table)] == [
        ("Numeric/x", 9),
        ("Categorical/c", 9),
    ]


def test_there_are_no_more_outputs_with_more_columns():
    table = RoutingTable(
        *(route(f"r{n}", {f"x{n}": Numeric(), f"y{n}": Numeric()}) for n in range(9))
    )
    names = [group.name for group in groups_of(table)]
    assert names == ["Numeric/x0 and 8 more", "Numeric/y0 and 8 more"]


def test_a_column_of_two_kinds_has_two_outputs():
    table = RoutingTable(route("a", {"x": Numeric()}), route("b", {"x": Image(1, 1, 1)}))
    assert output_name(table, "a", "x") == "Numeric/x"
    assert output_name(table, "b", "x") == "Image/x"


def test_no_output_is_called_like_a_column_or_another():
    features = {"x": Numeric(), "Numeric/x": Text(), "t": Text(length=3)}
    table = RoutingTable(route("a", features), route("b", {"Numeric/x": Text(length=3)}))
    names = [group.name for group in groups_of(table)]
    assert names == ["Numeric/x'", "Text/Numeric/x", "Text/t and 1 more"]


def test_what_is_no_feature_has_no_output():
    with pytest.raises(KeyError):
        output_name(RoutingTable(route("a", {"x": Numeric()})), "a", "label a")


KINDS = st.sampled_from([Numeric(), Numeric((2,)), Image(1, 2, 1), Categorical(), Text()])
FEATURES = st.dictionaries(st.sampled_from("abcdef"), KINDS, min_size=1)


@settings(max_examples=200)
@given(st.lists(FEATURES, min_size=1, max_size=6))
def test_every_feature_has_an_output_of_its_kind_that_is_no_other_feature_of_its_route(features):
    table = RoutingTable(*(route(f"r{n}", each) for n, each in enumerate(features)))
    groups = {group.name: group for group in groups_of(table)}
    assert len(groups) == len(groups_of(table))
    for each in table.routes:
        names = [output_name(table, each.name, key) for key in each.features]
        assert len(set(names)) == len(names)
        for name, (key, kind) in zip(names, each.features.items(), strict=True):
            assert groups[name].kind == kind
            assert table.column(each.name, key) in groups[name].columns
    assert sum(len(g.members) for g in groups.values()) == sum(map(len, features))
