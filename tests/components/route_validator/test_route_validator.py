import json
import logging
import time

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from builders_statistics import examples_artifact, run_route_statistics, run_statistics_gen
from google.protobuf import text_format
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx_bsl.coders import example_coder

from branchline.components.route_validator.component import Executor, RouteValidator
from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.route_validator.slices import drop_histograms
from branchline.components.route_validator.validate import describe, merge, validate_split
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import (
    BranchlineError,
    Categorical,
    Numeric,
    Route,
    RoutingTable,
    Validation,
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
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    batch = decoder.DecodeBatch([build.example(**row) for row in rows])
    return stats_impl.generate_statistics_in_memory(batch)


def sliced(by_route):
    """Statistics of a split as TFDV lays them out that slices by `_route`."""
    everything = statistics_pb2.DatasetFeatureStatisticsList()
    rows = [row | {"_route": route} for route, rows in by_route.items() for row in rows]
    kept = [{key: value for key, value in row.items() if key != "mixed"} for row in rows]
    everything.datasets.add().CopyFrom(statistics(kept).datasets[0])
    everything.datasets[0].name = "All Examples"
    for route, own in by_route.items():
        if own:
            dataset = everything.datasets.add()
            dataset.CopyFrom(statistics([row | {"_route": route} for row in own]).datasets[0])
            dataset.name = f"_route_{route}"
    return everything


def inferred_schema():
    """What SchemaGen infers from the good rows of both routes."""
    schema = tfdv.infer_schema(statistics(GOOD["b"]), infer_feature_shape=True)
    return tfdv.update_schema(schema, statistics(GOOD["r-1"]), infer_feature_shape=True)


def plain_schema():
    """Types alone, as somebody who wrote no presence into it."""
    schema = schema_pb2.Schema()
    types = {"x": "FLOAT", "v": "FLOAT", "colour": "BYTES", "y.int": "INT", "y.float": "FLOAT"}
    for name, kind in types.items():
        schema.feature.add(name=name, type=schema_pb2.FeatureType.Value(kind))
    return schema


def of_routing():
    return declared_schema(ROUTING)


def found_in(by_route, schema=None, table=ROUTING):
    """Route → feature → what is wrong with it, with histograms in the statistics and without."""
    statistics, schemas = sliced(by_route), RouteSchemas(schema or inferred_schema(), table)
    found = validate_split(statistics, schemas, "eval")
    size = statistics.ByteSize()
    drop_histograms(statistics)
    assert statistics.ByteSize() < size
    assert validate_split(statistics, schemas, "eval") == found
    return {route: describe(anomalies) for route, (_, anomalies) in found.items()}


def found(rows, route="r-1", schema=None):
    """What is wrong with these rows of a route; all is well with the others'."""
    by_route = found_in(GOOD | {route: rows}, schema)
    assert all(not wrong for name, wrong in by_route.items() if name != route)
    return by_route[route]


def without_source(rows):
    return [{key: value for key, value in row.items() if key != "_source"} for row in rows]


def test_numbers_that_are_none_are_found_where_the_schema_forbids_them():
    schema = inferred_schema()
    (x,) = [feature for feature in schema.feature if feature.name == "x"]
    x.float_domain.disallow_nan = True
    rows = [*GOOD["b"], GOOD["b"][0] | {"x": float("nan")}]
    assert "NaN" in found(rows, "b", schema)["x"]


SCHEMAS = [inferred_schema, plain_schema, of_routing]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_good_rows_have_no_anomaly(schema):
    good = {route: without_source(rows) for route, rows in GOOD.items()}
    assert found_in(good, schema()) == {"b": {}, "r-1": {}}
    assert found_in(GOOD) == {"b": {}, "r-1": {}}


def test_cells_that_csv_leaves_empty_are_no_columns_of_a_route():
    empty = np.array([], np.float32)
    rows = {
        "b": [row | {"v": empty, "y.float": empty} for row in without_source(GOOD["b"])],
        "r-1": without_source(GOOD["r-1"]),
    }
    assert found_in(rows) == {"b": {}, "r-1": {}}
    rows["b"][3]["v"] = [1.0]
    assert set(found_in(rows)["b"]) == {"v"}


def test_a_required_feature_that_is_an_empty_list_in_every_row_is_missing():
    rows = [row | {"x": np.array([], np.float32)} for row in GOOD["b"]]
    assert "x" in found(rows, "b")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_required_feature_and_the_label_are_in_every_row(schema):
    rows = without_source(GOOD["r-1"])
    del rows[2]["v"], rows[3]["y.float"]
    good = {"b": without_source(GOOD["b"]), "r-1": rows}
    anomalies = found_in(good, schema())["r-1"]
    assert set(anomalies) == {"v", "y.float"}
    assert "fewer examples" in anomalies["v"] and "fewer examples" in anomalies["y.float"]


@pytest.mark.parametrize("schema", [*SCHEMAS, schema_pb2.Schema])
def test_a_required_feature_that_no_row_has_is_missing(schema):
    rows = {"b": GOOD["b"], "r-1": [{"colour": "red", "y.float": 1.0} for _ in range(4)]}
    assert "completely missing" in found_in(rows, schema())["r-1"]["v"]


def test_an_optional_feature_may_be_missing():
    rows = {route: without_source(rows) for route, rows in GOOD.items()}
    del rows["b"][0]["x"], rows["b"][1]["colour"]
    assert found_in(rows, plain_schema())["b"] == {}
    assert found_in(rows, of_routing())["b"] == {}


def test_an_optional_feature_that_no_row_has_is_told():
    rows = [{"colour": "red", "y.int": i % 2} for i in range(4)]
    by_route = {"b": rows, "r-1": without_source(GOOD["r-1"])}
    assert "completely missing" in found_in(by_route, of_routing())["b"]["x"]


def test_a_wrong_type_is_named():
    rows = [row | {"y.float": "high"} for row in GOOD["r-1"]]
    named = validate_split(_only("r-1", rows), RouteSchemas(inferred_schema(), ROUTING), "eval")
    assert "Expected data of type: FLOAT but got STRING" in describe(named["r-1"][1])["y.float"]


def test_a_number_of_values_that_is_another_routes_is_named():
    table = RoutingTable(
        Route("one", when.equals("k", 1), features={"v": Numeric()}, label="y", task="binary"),
        Route("two", when.equals("k", 2), features={"v": Numeric((2,))}, label="y", task="binary"),
    )
    rows = {
        "one": [{"v": [1.0, 2.0], "y": 0}, {"v": [2.0, 2.0], "y": 1}],
        "two": [{"v": [1.0, 2.0], "y": 0}, {"v": [2.0, 3.0], "y": 1}],
    }
    anomalies = found_in(rows, declared_schema(table), table)
    assert "more values than expected" in anomalies["one"]["v"] and anomalies["two"] == {}


def test_a_class_that_only_another_route_has_is_named():
    classes = {"features": {"x": Numeric()}, "label": "y"}
    table = RoutingTable(
        Route("two", when.equals("k", 2), **classes, task="binary"),
        Route("ten", when.equals("k", 10), **classes, task="multiclass", num_classes=10),
    )
    rows = [{"x": 1.0, "y": y} for y in range(10)]
    anomalies = found_in({"two": rows, "ten": rows}, declared_schema(table), table)
    assert list(anomalies["two"]) == ["y"] and anomalies["ten"] == {}


def test_an_unseen_category_is_named():
    rows = [*GOOD["b"], GOOD["b"][0] | {"colour": "green"}]
    assert "green" in found(rows, "b")["colour"]


@pytest.mark.parametrize("schema", [inferred_schema, of_routing])
def test_a_feature_of_another_route_is_named_and_unknown_ones_too(schema):
    rows = [row | {"x": 1.0, "new": 2} for row in without_source(GOOD["r-1"])]
    good = {"b": without_source(GOOD["b"]), "r-1": rows}
    anomalies = found_in(good, schema())
    assert set(anomalies["r-1"]) == {"x", "new"} and anomalies["b"] == {}


def test_a_column_that_a_slice_has_for_other_rows_only_is_not_its_own():
    stats = sliced(GOOD)
    [of_b] = [dataset for dataset in stats.datasets if dataset.name == "_route_b"]
    empty = of_b.features.add()
    empty.path.step.append("v")
    empty.num_stats.common_stats.num_missing = 10
    found = validate_split(stats, RouteSchemas(inferred_schema(), ROUTING), "eval")
    assert describe(found["b"][1]) == {}


def test_a_route_without_rows_is_told():
    assert found_in({"b": GOOD["b"]}) == {
        "b": {},
        "r-1": {"": "No examples: No example of the split takes this route."},
    }


def test_a_split_without_rows_has_no_slices():
    stats = statistics_pb2.DatasetFeatureStatisticsList()
    stats.datasets.add(num_examples=0)
    found = validate_split(stats, RouteSchemas(inferred_schema(), ROUTING), "eval")
    assert [(name, n) for name, (n, _) in found.items()] == [("b", 0), ("r-1", 0)]


def test_rows_of_routes_that_the_table_lacks_are_told():
    rows = GOOD | {"old": GOOD["b"]}
    found = validate_split(sliced(rows), RouteSchemas(inferred_schema(), ROUTING), "eval")
    assert found[""][0] == 10 and "Unknown route" in describe(found[""][1])[""]


def test_statistics_without_slices_are_refused():
    with pytest.raises(BranchlineError, match="'test'.*stats_options=route_stats_options"):
        validate_split(statistics(GOOD["b"]), RouteSchemas(inferred_schema(), ROUTING), "test")


def test_statistics_without_slices_do_for_a_single_route():
    table = RoutingTable(ROUTING["b"])
    rows = [row | {"y": row["y.int"]} for row in GOOD["b"]]
    found = validate_split(statistics(rows), RouteSchemas(schema_pb2.Schema(), table), "test")
    assert found["b"][0] == 10 and "completely missing" not in str(found)


def in_environment(schema, route):
    present = {feature.name for feature in schema.feature}
    features = RouteSchemas(schema, ROUTING).of(route, present).feature
    return {feature.name for feature in features if not feature.not_in_environment}


@pytest.mark.parametrize("schema", [inferred_schema, of_routing])
def test_each_feature_is_in_the_environments_of_its_routes(schema):
    assert in_environment(schema(), "b") == {"x", "y.int", "colour"}
    assert in_environment(schema(), "r-1") == {"v", "y.float", "colour"}


def test_environments_written_by_hand_count():
    schema = plain_schema()
    schema.feature[0].in_environment.append("r-1")  # x
    schema.feature[2].not_in_environment.append("b")  # colour
    assert in_environment(schema, "b") == {"x", "y.int"}
    assert in_environment(schema, "r-1") == {"x", "v", "y.float", "colour"}
    schema.default_environment.extend(["SERVING", "b"])
    assert in_environment(schema, "b") == {"x", "v", "y.int", "y.float"}


def test_features_that_schema_gen_took_for_deprecated_are_validated():
    schema = inferred_schema()
    assert {f.name for f in schema.feature if f.lifecycle_stage == schema_pb2.DEPRECATED} == {
        "x",
        "y.int",
    }
    stages = {f.name: f.lifecycle_stage for f in RouteSchemas(schema, ROUTING).of("b", ()).feature}
    assert stages["x"] == stages["y.int"] == schema_pb2.UNKNOWN_STAGE
    rows = [row | {"x": "a"} for row in GOOD["b"]]
    named = validate_split(_only("b", rows), RouteSchemas(schema, ROUTING), "eval")
    assert "STRING" in describe(named["b"][1])["x"]


def _only(route, rows):
    """Statistics with the slice of one route, for rows that no batch could hold with others'."""
    stats = statistics(rows)
    stats.datasets[0].name = f"_route_{route}"
    return stats


def test_the_schema_handed_in_is_not_changed():
    schema = inferred_schema()
    before = schema.SerializeToString(deterministic=True)
    found_in(GOOD, schema)
    assert schema.SerializeToString(deterministic=True) == before


def test_a_feature_that_is_wrong_in_two_routes_has_one_entry_that_names_both():
    rows = {
        route: [*rows, rows[0] | {"colour": colour}]
        for (route, rows), colour in zip(GOOD.items(), ("green", "pink"), strict=True)
    }
    schema = inferred_schema()
    merged = merge([validate_split(sliced(rows), RouteSchemas(schema, ROUTING), "eval")], schema)
    assert list(merged.anomaly_info) == ["colour"] and merged.baseline == schema
    info = merged.anomaly_info["colour"]
    assert "route b: " in info.description and "green" in info.description
    assert "route r-1: " in info.description and "pink" in info.description
    assert len(info.reason) == 2 and info.severity == anomalies_pb2.AnomalyInfo.ERROR
    assert list(info.path.step) == ["colour"]


def test_many_routes_take_time_in_proportion():
    """300 routes of 7 columns each: copying the whole schema per route took minutes."""
    table = RoutingTable(
        *(
            Route(
                f"r{n}",
                when.equals("k", n),
                features={f"f{i}-{n}": Numeric() for i in range(6)},
                label=f"y-{n}",
                task="binary",
            )
            for n in range(300)
        )
    )
    rows = [{f"f{i}-0": 0.5 + row for i in range(6)} | {"y-0": 1} for row in range(3)]
    stats = sliced({"r0": rows})
    for name in table.names[1:]:
        dataset = stats.datasets.add()
        dataset.CopyFrom(stats.datasets[1])
        dataset.name = f"_route_{name}"
        for feature in dataset.features:
            [step] = feature.path.step
            feature.path.step[0] = step.replace("-0", f"-{name[1:]}")
    start = time.process_time()
    schema = declared_schema(table)
    found = validate_split(stats, RouteSchemas(schema, table), "train")
    assert time.process_time() - start < 10
    assert schema.ByteSize() < 300 * 7 * 60
    assert not any(describe(anomalies) for _, anomalies in found.values()) and len(found) == 300


@pytest.mark.parametrize("made_by", [run_statistics_gen, run_route_statistics])
def test_the_component_takes_statistics_of_splits_of_any_names(made_by, tmp_path, caplog):
    green = GOOD["b"][0] | {"colour": "green"}
    odd = [row | {"mixed": i if i % 2 else "text"} for i, row in enumerate(GOOD["r-1"])]
    splits = {
        "train": GOOD | {"r-1": odd},
        "holdout": {"b": [*GOOD["b"], green]},
        "empty": {"b": [], "r-1": []},
    }
    examples = examples_artifact(tmp_path / "examples", splits)
    stats = made_by(examples, tmp_path / "statistics", ROUTING)
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    known = inferred_schema()
    (tmp_path / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(known))
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(tmp_path / "anomalies")
    with caplog.at_level(logging.WARNING, "branchline.progress"):
        Executor().Do(
            {"statistics": [stats], "schema": [schema]},
            {"anomalies": [anomalies]},
            {
                "routing": to_json(ROUTING),
                "validation": to_json(Validation()),
                "code_version": "0",
            },
        )
    assert artifact_utils.decode_split_names(anomalies.split_names) == list(splits)
    sound = {"train": 1, "holdout": 0, "empty": 0}
    assert anomalies.get_json_value_custom_property("blessed") == sound
    proto = anomalies_pb2.Anomalies.FromString(
        (tmp_path / "anomalies" / "Split-holdout" / "SchemaDiff.pb").read_bytes()
    )
    assert set(proto.anomaly_info) == {"colour"}
    assert "route r-1" in proto.dataset_anomaly_info.description
    summary = json.loads((tmp_path / "anomalies" / "anomalies.json").read_text())["splits"]
    assert summary["train"] == {
        "b": {"examples": 10, "anomalies": {}},
        "r-1": {"examples": 10, "anomalies": {}},
    }
    assert summary["holdout"]["b"]["examples"] == 11
    assert "green" in summary["holdout"]["b"]["anomalies"]["colour"]
    assert list(summary["holdout"]["r-1"]["anomalies"]) == [""]
    said = [each for each in caplog.records if each.name == "branchline.progress"]
    told = [(each.progress["split"], each.progress["route"]) for each in said]
    assert told == [("holdout", "b"), ("holdout", "r-1"), ("empty", "b"), ("empty", "r-1")]


def test_the_component_takes_channels():
    component = RouteValidator(
        channel_utils.as_channel([standard_artifacts.ExampleStatistics()]),
        channel_utils.as_channel([standard_artifacts.Schema()]),
        ROUTING,
    )
    assert component.exec_properties["routing"] == to_json(ROUTING)
    assert component.exec_properties["code_version"]
    assert list(component.outputs) == ["anomalies"]
