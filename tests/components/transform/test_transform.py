import builders as build
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tfx_bsl.coders import example_coder

from branchline.components.transform.declared_schema import declared_schema

TABLE, RECORDS = build.MIXED_TABLE, build.MIXED_RECORDS


@pytest.fixture(scope="module")
def routed():
    return build.mixed().routed


def statistics(rows, schema):
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    options = tfdv.StatsOptions(schema=schema)
    return stats_impl.generate_statistics_in_memory(decoder.DecodeBatch(rows), options)


def anomalies(route, rows):
    schema = declared_schema(TABLE)
    found = tfdv.validate_statistics(statistics(rows, schema), schema, environment=route)
    return {name.strip("'") for name in found.anomaly_info}  # TFDV quotes names with a dot


@pytest.mark.parametrize("route", TABLE.names)
def test_good_rows_are_as_the_declared_schema_says(route, routed):
    rows = routed[route]
    if route == "text":  # a value that no row has is worth a warning
        rows = build.route_rows(
            TABLE, [record | {"note": "n", "days": 1} for record in RECORDS[:4]]
        )[route]
    assert anomalies(route, rows) == set()


def test_the_declared_schema_sees_what_no_route_declares(routed):
    assert "note" in anomalies("text", routed["text"])
    assert "good" in anomalies("text", [build.example({"_route": "text", "good": 2})])
    assert "pixels" in anomalies("scan", routed["text"])
    other = build.example({"_route": "scan", "pixels": "x", "value.int": [9, 1], "class": 3})
    assert {"pixels", "value.int", "class"} <= anomalies("scan", [other])
