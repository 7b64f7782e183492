"""The field that says how much a record of a route counts."""

import pytest

from branchline.schemas import (
    Image,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Target,
    from_json,
    to_json,
    when,
)


def route(name="r", condition=None, **fields):
    fields = {"features": {"x": Numeric()}, "label": "y", "task": "binary", "weight": "w"} | fields
    return Route(name, condition or when.present(name), **fields)


def test_the_weight_is_a_required_float_that_is_neither_feature_nor_label():
    table = RoutingTable(route())
    field = table.fields("r")["w"]
    assert (field.column, field.dtype, field.num_values, field.required) == ("w", "float", 1, True)
    assert not field.is_feature and not field.is_label
    assert [key for key, of in table.fields("r").items() if of.is_feature] == ["x"]
    assert "w" in table.keys and "w" in table.number_keys
    assert list(table["r"].labels) == ["y"]
    assert from_json(to_json(table))["r"].weight == "w"


def test_a_key_that_another_route_reads_as_another_type_has_a_column_of_its_own():
    other = route("s", features={"w": Numeric()}, label="k", task="count", weight=None)
    whole = route("t", targets={"w": Target("count")}, label=None, task=None, weight=None)
    table = RoutingTable(route(), other, whole)
    columns = [table.column(name, "w") for name in table.names]
    assert columns == ["w.float", "w.float", "w.int"]


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"weight": "x"}, "got 'x', expected a key that is no feature and no label"),
        ({"weight": "y"}, "got 'y', expected a key that is no feature and no label"),
        ({"weight": 2.0}, r"Route\('r'\).weight: got 2.0"),
        ({"weight": ""}, r"Route\('r'\).weight: got ''"),
        ({"weight": "_route"}, r"Route\('r'\).weight: got '_route'"),
    ],
)
def test_a_wrong_weight_is_refused(fields, told):
    with pytest.raises(RecipeError, match=told):
        route(**fields)


def test_no_condition_reads_a_weight_that_is_not_there_when_the_model_serves():
    with pytest.raises(RecipeError, match="reads 'w', its own weight; records have no weights"):
        RoutingTable(route(condition=when.greater("w", 0)))
    with pytest.raises(RecipeError, match="reads 'w', a weight of 's'"):
        RoutingTable(route(condition=when.present("w"), weight=None), route("s"))
    # One that comes after has lost the route's records already, as with labels.
    RoutingTable(route(), route("s", condition=when.present("w"), weight=None))


def test_a_weight_is_no_path_of_a_picture_of_another_route():
    picture = route("s", features={"w": Image(2, 2, 3, stored="path")}, weight=None)
    with pytest.raises(RecipeError, match="'w' is the weight, and in another route the path"):
        RoutingTable(route(), picture)
