"""Labels by name: every route's rows are held to the names that this route declares."""

import builders_evaluator as build
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders import example_coder

from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Numeric, Route, RoutingTable, when

TABLE = RoutingTable(
    Route(
        "mail",
        when.present("x"),
        features={"x": Numeric()},
        label="y",
        task="multiclass",
        classes=("ham", "spam", "other"),
    ),
    Route(
        "answer",
        when.present("v"),
        features={"v": Numeric()},
        label="y",
        task="binary",
        classes=("no", "yes"),
    ),
)


def anomalies(names, schema):
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    rows = [build.example(_route="mail", x=1.0, y=name) for name in names]
    statistics = stats_impl.generate_statistics_in_memory(decoder.DecodeBatch(rows))
    own = RouteSchemas(schema, TABLE).of("mail", ["x", "y", "_route"])
    found = tfdv.validate_statistics(statistics, own, environment="mail").anomaly_info
    return {name: each.description for name, each in found.items()}


@pytest.mark.parametrize("curated", [False, True])
def test_a_name_of_another_route_is_unexpected(curated):
    schema = declared_schema(TABLE)
    if curated:  # without any values, as somebody may write it by hand
        (label,) = (feature for feature in schema.feature if feature.name == "y")
        label.ClearField("string_domain")
    assert anomalies(["ham", "spam", "other"], schema) == {}
    found = anomalies(["ham", "yes"], schema)
    assert list(found) == ["y"] and "yes" in found["y"]


def test_a_schema_that_allows_fewer_names_counts():
    schema = declared_schema(TABLE)
    (label,) = (feature for feature in schema.feature if feature.name == "y")
    label.string_domain.CopyFrom(schema_pb2.StringDomain(value=["spam", "ham", "no"]))
    assert anomalies(["ham", "spam"], schema) == {}
    assert list(anomalies(["other"], schema)) == ["y"]
