"""The split `test`: evaluated once the model is blessed, for its figures alone."""

import builders_evaluator as build
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from tfx.types import channel_utils, standard_artifacts

from branchline.components import BranchEvaluator
from branchline.components.files.routed import file_name
from branchline.schemas import RoutingTable

TABLE = RoutingTable(build.routing()["b"], build.routing()["r"])
EVAL = {name: rows for name, rows in build.rows(size=40).items() if name in TABLE.names}
BOUNDS = {"b": {"auc": 0.6}, "r": {"mean_absolute_error": 2.0}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build.model(tmp_path_factory.mktemp("model"), TABLE)


def examples(folder, test_rows):
    """Rows of `eval` that pass, and these rows `y`, `x` of the route `r` in `test`."""
    made = build.routed_examples(folder, EVAL, TABLE, splits=("train", "eval", "test"))
    for name, rows in {"r": test_rows, "b": []}.items():
        columns = TABLE.columns(name)
        lines = [build.example(_route=name, **{columns["x"]: x, columns["y"]: y}) for y, x in rows]
        build.write_rows(folder, file_name(name, 0, 1), lines, "test")
    return made


def test_a_blessed_model_is_evaluated_on_test_and_no_threshold_looks_at_it(tmp_path, model):
    far = [(0.0, 50.0), (0.0, 70.0)]
    summary, blessing, folder = build.run(
        tmp_path, examples(tmp_path / "in", far), model, BOUNDS, table=TABLE
    )
    assert summary["blessed"] is True and blessing.get_int_custom_property("blessed") == 1
    assert summary["routes"]["r"]["metrics"]["mean_absolute_error"] < 2
    of_test = summary["test"]["r"]
    assert of_test.keys() == {"examples", "metrics", "note"} and of_test["examples"] == 2
    assert of_test["metrics"]["mean_absolute_error"] == pytest.approx(60)
    assert summary["overall"] == {"examples": 80}
    for place, count in ((folder, 40), (folder / "Split-test", 2)):
        result = tfma.load_eval_result(str(place), model_name="model")
        found = result.get_metrics_for_slice((("_route", "r"),))
        assert found["example_count"] == {"doubleValue": count}


def test_a_route_without_test_rows_is_noted(tmp_path, model):
    given = examples(tmp_path / "in", [(1.0, 1.0)])
    summary, *_ = build.run(tmp_path, given, model, BOUNDS, table=TABLE)
    assert summary["test"]["b"] == {
        "examples": 0,
        "metrics": {},
        "note": "not evaluated: no examples in split 'test'",
    }


def test_a_model_that_is_not_blessed_never_sees_test(tmp_path, model):
    given = examples(tmp_path / "in", [])
    (tmp_path / "in" / "Split-test" / file_name("r", 0, 1)).write_bytes(b"no TFRecord")
    strict = {"r": {"mean_absolute_error": 1e-6}}
    summary, *_ = build.run(tmp_path, given, model, strict, table=TABLE)
    assert summary["blessed"] is False and summary["test"] == {}


@pytest.mark.parametrize("properties", [{"test_split": ""}, {"test_split": "eval"}, {}])
def test_without_such_a_split_there_is_no_last_evaluation(tmp_path, model, properties):
    given = build.routed_examples(tmp_path / "in", EVAL, TABLE)
    summary, *_ = build.run(tmp_path, given, model, BOUNDS, table=TABLE, **properties)
    assert summary["blessed"] is True and summary["test"] == {}


def test_a_prediction_of_test_that_is_no_number_is_noted_and_changes_no_blessing(tmp_path, model):
    given = examples(tmp_path / "in", [(1.0, np.nan), (1.0, 1.0)])
    summary, *_ = build.run(tmp_path, given, model, BOUNDS, table=TABLE)
    assert summary["blessed"] is True
    assert "not finite numbers" in summary["test"]["r"]["note"]


def test_the_split_is_test_unless_another_is_named(model):
    channels = [channel_utils.as_channel([e]) for e in (standard_artifacts.Examples(), model)]
    assert BranchEvaluator(*channels, TABLE).exec_properties["test_split"] == "test"
    named = BranchEvaluator(*channels, TABLE, test_split="last")
    assert named.exec_properties["test_split"] == "last"
