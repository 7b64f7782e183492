import builders as build
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import tf_example_record

from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.route_validator.validate import describe, validate_split
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Categorical, Ids, Numeric, Route, RoutingTable, when

TABLE, RECORDS = build.MIXED_TABLE, build.MIXED_RECORDS


def anomalies(route, rows):
    """The columns in which the rows of a route are not as declared."""
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    schema = declared_schema(TABLE)
    options = tfdv.StatsOptions(schema=schema)
    stats = stats_impl.generate_statistics_in_memory(decoder.DecodeBatch(rows), options)
    stats.datasets[0].name = f"_route_{route}"
    return set(describe(validate_split(stats, RouteSchemas(schema, TABLE), "eval")[route][1]))


@pytest.mark.parametrize("route", TABLE.names)
def test_good_rows_are_as_the_declared_schema_says(route):
    rows = build.mixed().routed[route]
    if route == "text":  # a value that no row has is worth a warning
        rows = build.route_rows(
            TABLE, [record | {"note": "n", "days": 1} for record in RECORDS[:4]]
        )[route]
    assert anomalies(route, rows) == set()


def test_the_declared_schema_sees_what_no_route_declares():
    routed = build.mixed().routed
    assert "note" in anomalies("text", routed["text"])
    assert "good" in anomalies("text", [build.example({"_route": "text", "good": 2})])
    assert "pixels" in anomalies("scan", routed["text"])
    other = build.example({"_route": "scan", "pixels": "x", "value.int": [9, 1], "class": 3})
    assert {"pixels", "value.int", "class"} <= anomalies("scan", [other])


def columns(table):
    return {feature.name: feature for feature in declared_schema(table).feature}


def two_routes():
    return RoutingTable(
        Route(
            "a",
            when.present("p"),
            features={"p": Numeric((2,)), "q": Numeric((2,)), "c": Categorical(), "i": Ids(5)},
            label="y",
            task="binary",
        ),
        Route(
            "b",
            when.present("q"),
            features={"q": Numeric((3,)), "c": Categorical(), "i": Ids(9)},
            label="y",
            task="multiclass",
            num_classes=4,
        ),
    )


def test_a_column_is_in_the_environments_of_its_routes_alone():
    schema = declared_schema(two_routes())
    environments = {f.name: list(f.in_environment) for f in schema.feature if f.name != "_route"}
    assert environments == {
        "p": ["a"],
        "q": ["a", "b"],
        "c": ["a", "b"],
        "i": ["a", "b"],
        "y": ["a", "b"],
    }
    assert not schema.default_environment
    assert not any(feature.not_in_environment for feature in schema.feature)


def test_a_shared_column_takes_what_any_of_its_routes_takes():
    found = columns(two_routes())
    assert (found["q"].value_count.min, found["q"].value_count.max) == (2, 3)
    assert (found["i"].int_domain.min, found["i"].int_domain.max) == (0, 8)
    assert (found["y"].int_domain.min, found["y"].int_domain.max) == (0, 3)


def test_only_what_all_routes_require_is_in_every_example():
    found = columns(two_routes())
    everywhere = {name for name, feature in found.items() if feature.presence.min_fraction == 1}
    assert everywhere == {"_route", "q", "i", "y"}


@pytest.mark.parametrize("table", [TABLE, two_routes()], ids=["mixed", "two"])
def test_transform_reads_every_column_as_a_sparse_tensor(table):
    schema = declared_schema(table)
    types = {"float": tf.float32, "int": tf.int64, "string": tf.string}
    fields = [field for name in table.names for field in table.fields(name).values()]
    expected = {field.column: tf.io.VarLenFeature(types[field.dtype]) for field in fields}
    expected["_route"] = tf.io.VarLenFeature(tf.string)
    assert schema_utils.schema_as_feature_spec(schema).feature_spec == expected
    adapter = tf_example_record.TFExampleBeamRecord("bytes", schema=schema).TensorAdapter()
    assert set(adapter.TypeSpecs()) == set(expected)
