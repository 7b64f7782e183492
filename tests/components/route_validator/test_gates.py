"""What RouteValidator compares and blocks, by TFDV's statistics of routed examples on disk."""

import json

import pytest
import tensorflow_data_validation as tfdv
from builders_statistics import examples_artifact, run_route_statistics
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.types import channel_utils, standard_artifacts

from branchline.components.route_validator.component import Executor, RouteValidator
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

FEATURES = {"x": Numeric(), "colour": Categorical()}
TABLE = RoutingTable(
    Route("up", when.equals("kind", "up"), features=FEATURES, label="y", task="regression"),
    Route("down", when.equals("kind", "down"), features=FEATURES, label="y", task="regression"),
)


def rows(red=10, shift=0.0, number=20):
    """Rows of a route, `red` of which are red, and the others blue."""
    return [
        {"x": i + shift, "colour": "red" if i < red else "blue", "y": float(i % 7)}
        for i in range(number)
    ]


def both(up=None, down=None):
    return {"up": rows() if up is None else up, "down": rows() if down is None else down}


@pytest.fixture
def validate(tmp_path):
    def run(train=None, evaluated=None, *, before=None, schema=None, **validation):
        """Writes all, runs the component; `anomalies.json`, and where the others lie."""

        def statistics(name, splits):
            examples = examples_artifact(tmp_path / f"{name}-examples", splits)
            return run_route_statistics(examples, tmp_path / name, TABLE)

        given = standard_artifacts.Schema()
        given.uri = str(tmp_path / "schema")
        (tmp_path / "schema").mkdir()
        text = text_format.MessageToString(schema or declared_schema(TABLE))
        (tmp_path / "schema" / "schema.pbtxt").write_text(text)
        inputs = {
            "statistics": [
                statistics("now", {"train": train or both(), "eval": evaluated or both()})
            ],
            "schema": [given],
        }
        if before:
            inputs["previous_statistics"] = [statistics("before", {"train": before})]
        output = standard_artifacts.ExampleAnomalies()
        output.uri = str(tmp_path / "anomalies")
        properties = {"routing": to_json(TABLE), "validation": to_json(Validation(**validation))}
        Executor().Do(inputs, {"anomalies": [output]}, properties)
        return found(tmp_path)

    return run


def found(folder):
    """(split, route) → feature → what; those of which nothing is said are left out."""
    summary = json.loads((folder / "anomalies" / "anomalies.json").read_text())["splits"]
    return {
        (split, route): said["anomalies"]
        for split, routes in summary.items()
        for route, said in routes.items()
        if said["anomalies"]
    }


def test_drift_is_told_of_the_route_split_and_features_that_drifted(validate):
    drifted = both(down=rows(red=18, shift=100.0))
    told = validate(train=drifted, before=both(), drift=0.3)
    assert told.keys() == {("train", "down")}
    assert told["train", "down"].keys() == {"x", "colour"}
    colour = told["train", "down"]["colour"]
    assert colour.startswith(
        "Drift: The Linfty distance between this train split and the last blessed run's is 0.4"
    )
    assert "maximum difference is: red" in colour
    assert "Jensen-Shannon divergence" in told["train", "down"]["x"]
    assert "above the threshold 0.3" in told["train", "down"]["x"]


def test_drift_below_the_limit_is_not_told(validate):
    assert validate(train=both(down=rows(red=18)), before=both(), drift=0.5) == {}


def test_without_a_limit_nothing_is_compared(validate):
    other = both(down=rows(red=20, shift=100.0))
    assert validate(train=other, evaluated=both(), before=both(up=rows(red=0))) == {}


def test_without_earlier_statistics_there_is_no_drift(validate):
    assert validate(drift=0.0, block=["drift"]) == {}


def test_a_route_and_a_feature_that_the_earlier_run_lacked_have_not_drifted(validate):
    without_x = [{key: value for key, value in row.items() if key != "x"} for row in rows()]
    assert validate(before={"up": without_x, "down": []}, drift=0.1) == {}


def test_skew_is_told_of_the_eval_split(validate, tmp_path):
    told = validate(evaluated=both(up=rows(red=0)), skew=0.4)
    assert told.keys() == {("eval", "up")} and told["eval", "up"].keys() == {"colour"}
    assert "between this eval split and train is 0.5" in told["eval", "up"]["colour"]
    proto = anomalies_pb2.Anomalies.FromString(
        (tmp_path / "anomalies" / "Split-eval" / "SchemaDiff.pb").read_bytes()
    )
    assert "route up: Skew" in proto.anomaly_info["colour"].short_description
    of_up = [info for info in proto.drift_skew_info if info.path.step[0] == "colour"][0]
    assert of_up.skew_measurements[0].value == pytest.approx(0.5)


def test_skew_without_a_split_to_compare_with_is_refused(tmp_path):
    examples = examples_artifact(tmp_path / "examples", {"eval": both()})
    statistics = run_route_statistics(examples, tmp_path / "statistics", TABLE)
    schema, output = standard_artifacts.Schema(), standard_artifacts.ExampleAnomalies()
    schema.uri, output.uri = str(tmp_path / "schema"), str(tmp_path / "anomalies")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "schema.pbtxt").write_text("")
    properties = {"routing": to_json(TABLE), "validation": to_json(Validation(skew=0.1))}
    with pytest.raises(BranchlineError, match="the split 'train', and the .* splits eval; leave"):
        Executor().Do(
            {"statistics": [statistics], "schema": [schema]}, {"anomalies": [output]}, properties
        )


def test_a_comparator_of_the_schema_stands_for_its_feature(validate):
    schema = declared_schema(TABLE)
    [colour] = [feature for feature in schema.feature if feature.name == "colour"]
    colour.skew_comparator.infinity_norm.threshold = 0.6
    skewed = both(up=rows(red=0, shift=100.0))
    assert validate(evaluated=skewed, skew=0.4, schema=schema)["eval", "up"].keys() == {"x"}


@pytest.mark.parametrize("kind", ["drift", "skew"])
def test_a_blocked_kind_ends_the_run_and_says_where_and_what_to_do(validate, kind, tmp_path):
    odd = both(down=rows(red=18))
    with pytest.raises(BranchlineError) as raised:
        if kind == "drift":
            validate(train=odd, evaluated=odd, before=both(), drift=0.3, block=["drift"])
        else:
            validate(evaluated=odd, skew=0.3, block=["skew"])
    split = {"drift": "train", "skew": "eval"}[kind]
    message = str(raised.value)
    assert f"route down, split {split}, feature colour: {kind.capitalize()}: " in message
    assert "is 0.4" in message and "above the threshold 0.3" in message
    assert f"Validation({kind}=" in message and len(message) < 600
    assert found(tmp_path)[split, "down"].keys() == {"colour"}


def curated(domain):
    schema = declared_schema(TABLE)
    [colour] = [feature for feature in schema.feature if feature.name == "colour"]
    colour.string_domain.value.extend(domain)
    return schema


def test_a_blocked_anomaly_ends_the_run_and_a_long_text_is_cut(validate):
    names = [{"x": 1.0, "colour": f"colour-{i}", "y": 1.0} for i in range(200)]
    with pytest.raises(BranchlineError) as raised:
        validate(train=both(up=names), schema=curated(["red", "blue"]), block=["anomalies"])
    message = str(raised.value)
    assert "route up, split train, feature colour: Unexpected string values" in message
    assert "correct the records or the schema" in message and len(message) < 600


def test_the_error_counts_the_other_findings(validate):
    with pytest.raises(BranchlineError, match=r"feature colour: .* \(3 more in the log\)"):
        validate(schema=curated(["red"]), block=["anomalies"])


def test_what_is_not_blocked_is_only_told(validate):
    told = validate(
        train=both(down=rows(red=18)),
        before=both(),
        schema=curated(["red"]),
        drift=0.3,
        skew=0.9,
        block=["skew"],
    )
    assert "Drift" in told["train", "down"]["colour"] and "blue" in told["train", "down"]["colour"]
    assert "Drift" not in told["train", "up"]["colour"]


def test_a_route_without_rows_is_not_blocked_here(validate):
    told = validate(evaluated=both(up=[]), block=["anomalies"])
    assert told.keys() == {("eval", "up")} and told["eval", "up"].keys() == {""}


def test_the_inferred_schema_can_be_curated_and_given(validate, tmp_path):
    validate()
    path = tmp_path / "anomalies" / "inferred_schema.pbtxt"
    inferred = tfdv.load_schema_text(str(path))
    assert tfdv.get_domain(inferred, "colour").value == ["blue", "red"]
    assert {"x", "y", "_route"} < {feature.name for feature in inferred.feature}
    tfdv.get_domain(inferred, "colour").value.append("green")
    (tmp_path / "again").mkdir()
    green = [*rows(), {"x": 1.0, "colour": "green", "y": 1.0}]
    pink = [*rows(), {"x": 1.0, "colour": "pink", "y": 1.0}]
    again = text_format.Parse(text_format.MessageToString(inferred), schema_pb2.Schema())
    for folder in ("now", "now-examples", "schema", "anomalies"):
        (tmp_path / folder).rename(tmp_path / "again" / folder)
    told = validate(train=both(up=green, down=pink), schema=again)
    assert told.keys() == {("train", "down")} and "pink" in told["train", "down"]["colour"]


def test_what_a_component_is_given_is_part_of_its_cache_key():
    statistics = channel_utils.as_channel([standard_artifacts.ExampleStatistics()])
    schema = channel_utils.as_channel([standard_artifacts.Schema()])
    strict = Validation(drift=0.1, block=["drift"])
    component = RouteValidator(statistics, schema, TABLE, statistics, strict)
    assert component.exec_properties["validation"] == to_json(strict)
    assert component.inputs.keys() == {"statistics", "schema", "previous_statistics"}
    assert RouteValidator(statistics, schema, TABLE).inputs.keys() == {"statistics", "schema"}
