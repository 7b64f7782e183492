import json
import logging

import builders_evaluator as build
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import version
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx_bsl.coders import example_coder

from branchline.components.route_validator.component import Executor, RouteValidator
from branchline.components.route_validator.environments import route_schema, with_environments
from branchline.components.route_validator.validate import describe, route_of, validate_split
from branchline.schemas import (
    BranchlineError,
    Categorical,
    Numeric,
    Route,
    RoutingTable,
    to_json,
    when,
)

ROUTING = RoutingTable(
    Route(
        "b",
        when.equals("kind", "b"),
        features={"x": Numeric(), "colour": Categorical()},
        label="y",
        task="binary",
    ),
    Route(
        "r-1",
        when.equals("kind", "r"),
        features={"v": Numeric((3,)), "colour": Categorical()},
        label="y",
        task="regression",
    ),
)


GOOD = {
    "b": [
        {"x": 0.5 * i, "colour": ["red", "blue"][i % 2], "y.int": i % 2, "_source": f"f{i}"}
        for i in range(10)
    ],
    "r-1": [
        {"v": [1.0, 2.0, i], "colour": "red", "y.float": i / 3, "_source": f"g{i}"}
        for i in range(10)
    ],
}


def statistics(rows):
    """TFDV's statistics of dicts, by way of tf.train.Examples as a pipeline has them."""
    if not rows:
        empty = statistics_pb2.DatasetFeatureStatisticsList()
        empty.datasets.add(num_examples=0)
        return empty
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    batch = decoder.DecodeBatch([build.example(**row) for row in rows])
    return stats_impl.generate_statistics_in_memory(batch)


def inferred_schema():
    """What SchemaGen infers from the good rows of both routes."""
    schema = tfdv.infer_schema(statistics(GOOD["b"]), infer_feature_shape=True)
    return tfdv.update_schema(schema, statistics(GOOD["r-1"]), infer_feature_shape=True)


def declared_schema():
    """Types alone, as somebody who wrote no presence into it."""
    schema = schema_pb2.Schema()
    types = {"x": "FLOAT", "v": "FLOAT", "colour": "BYTES", "y.int": "INT", "y.float": "FLOAT"}
    for name, kind in types.items():
        schema.feature.add(name=name, type=schema_pb2.FeatureType.Value(kind))
    return schema


def found(rows, route="r-1", schema=None):
    schema = schema or inferred_schema()
    return describe(validate_split(statistics(rows), schema, ROUTING, f"eval-{route}"))


@pytest.mark.parametrize("route", ["b", "r-1"])
@pytest.mark.parametrize("schema", [inferred_schema, declared_schema])
def test_good_rows_have_no_anomaly(route, schema):
    ours = {key for key in GOOD[route][0] if key != "_source"}
    rows = [{key: row[key] for key in ours} for row in GOOD[route]]
    assert found(rows, route, schema()) == {}
    assert found(GOOD[route], route) == {}


@pytest.mark.parametrize("schema", [inferred_schema, declared_schema])
def test_a_required_feature_and_the_label_are_in_every_row(schema):
    rows = [dict(row) for row in GOOD["r-1"]]
    del rows[2]["v"], rows[3]["y.float"]
    anomalies = found(rows, schema=schema())
    assert "fewer examples" in anomalies["v"] and "fewer examples" in anomalies["y.float"]


@pytest.mark.parametrize("schema", [inferred_schema, declared_schema, schema_pb2.Schema])
def test_a_required_feature_that_no_row_has_is_missing(schema):
    rows = [{"colour": "red", "y.float": 1.0} for _ in range(4)]
    assert "completely missing" in found(rows, schema=schema())["v"]


def test_an_optional_feature_may_be_missing():
    rows = [dict(row) for row in GOOD["b"]]
    for row in rows:
        del row["_source"]
    del rows[0]["x"], rows[1]["colour"]
    assert found(rows, "b", declared_schema()) == {}


def test_a_wrong_type_is_named():
    rows = [row | {"y.float": "high"} for row in GOOD["r-1"]]
    assert "Expected data of type: FLOAT but got STRING" in found(rows)["y.float"]


def test_an_unseen_category_is_named():
    rows = [*GOOD["b"], GOOD["b"][0] | {"colour": "green"}]
    assert "green" in found(rows, "b")["colour"]


def test_a_feature_of_another_route_is_named_and_unknown_ones_too():
    anomalies = found([row | {"x": 1.0, "new": 2} for row in GOOD["r-1"]])
    assert set(anomalies) == {"x", "new"}


def test_an_empty_split_has_no_anomalies():
    assert found([]) == {}


def test_each_feature_is_in_the_environments_of_its_routes():
    schema = with_environments(inferred_schema(), ROUTING)
    outside = {feature.name: list(feature.not_in_environment) for feature in schema.feature}
    assert list(schema.default_environment) == ["b", "r-1"]
    assert outside == {
        "x": ["r-1"],
        "y.int": ["r-1"],
        "v": ["b"],
        "y.float": ["b"],
        "colour": [],
        "_source": ["b", "r-1"],
    }


def test_environments_written_by_hand_stay():
    schema = declared_schema()
    schema.default_environment.extend(["b", "r-1"])
    schema.feature[1].not_in_environment.append("r-1")
    assert with_environments(schema, ROUTING) == schema
    schema.ClearField("default_environment")
    schema.default_environment.append("SERVING")
    assert list(with_environments(schema, ROUTING).default_environment) == ["SERVING", "b", "r-1"]


def test_features_that_schema_gen_took_for_deprecated_are_validated():
    schema = inferred_schema()
    assert {f.name for f in schema.feature if f.lifecycle_stage == schema_pb2.DEPRECATED} == {
        "x",
        "y.int",
    }
    stages = {f.name: f.lifecycle_stage for f in with_environments(schema, ROUTING).feature}
    assert stages["x"] == stages["y.int"] == schema_pb2.UNKNOWN_STAGE
    assert "STRING" in found([row | {"x": "a"} for row in GOOD["b"]], "b")["x"]


def test_the_schema_handed_in_is_not_changed():
    schema = inferred_schema()
    before = schema.SerializeToString(deterministic=True)
    route_schema(with_environments(schema, ROUTING), ROUTING, "b")
    assert schema.SerializeToString(deterministic=True) == before


def test_a_split_of_no_route_is_refused():
    assert route_of("train-r-1", ROUTING) == "r-1"
    with pytest.raises(BranchlineError, match="split 'train' .*train-b, train-r-1"):
        route_of("train", ROUTING)


def test_the_component_writes_anomalies_per_split_and_a_summary(tmp_path, caplog):
    splits = {
        "train-b": GOOD["b"],
        "eval-b": [*GOOD["b"], GOOD["b"][0] | {"colour": "green"}],
        "train-r-1": GOOD["r-1"],
        "eval-r-1": [],
    }
    stats = standard_artifacts.ExampleStatistics()
    stats.uri = str(tmp_path / "statistics")
    stats.split_names = artifact_utils.encode_split_names(list(splits))
    stats.set_string_custom_property("tfx_version", version.__version__)
    for split, rows in splits.items():
        folder = tmp_path / "statistics" / f"Split-{split}"
        folder.mkdir(parents=True)
        (folder / "FeatureStats.pb").write_bytes(statistics(rows).SerializeToString())
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "schema.pbtxt").write_text(
        text_format.MessageToString(inferred_schema())
    )
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(tmp_path / "anomalies")
    with caplog.at_level(logging.WARNING, "branchline.progress"):
        Executor().Do(
            {"statistics": [stats], "schema": [schema]},
            {"anomalies": [anomalies]},
            {"routing": to_json(ROUTING), "code_version": "0"},
        )
    assert artifact_utils.decode_split_names(anomalies.split_names) == list(splits)
    assert anomalies.get_json_value_custom_property("blessed") == {
        "train-b": 1,
        "eval-b": 0,
        "train-r-1": 1,
        "eval-r-1": 1,
    }
    proto = anomalies_pb2.Anomalies.FromString(
        (tmp_path / "anomalies" / "Split-eval-b" / "SchemaDiff.pb").read_bytes()
    )
    assert set(proto.anomaly_info) == {"colour"}
    summary = json.loads((tmp_path / "anomalies" / "anomalies.json").read_text())["splits"]
    assert (
        summary["eval-b"]["examples"] == 11 and "green" in summary["eval-b"]["anomalies"]["colour"]
    )
    assert summary["train-r-1"] == {"examples": 10, "anomalies": {}}
    assert [record.progress["feature"] for record in caplog.records] == ["colour"]


def test_the_component_takes_channels():
    component = RouteValidator(
        channel_utils.as_channel([standard_artifacts.ExampleStatistics()]),
        channel_utils.as_channel([standard_artifacts.Schema()]),
        ROUTING,
    )
    assert component.exec_properties["routing"] == to_json(ROUTING)
    assert component.exec_properties["code_version"]
    assert list(component.outputs) == ["anomalies"]
