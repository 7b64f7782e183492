"""The components in pipelines of TFX's own: three of a user's, and the documented one."""

import json

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from builders_mixed import examples, lay_out, pipeline_of
from tfx.components.infra_validator import request_builder
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.proto.infra_validator_pb2 import RequestSpec, TensorFlowServingRequestSpec
from tfx.types import artifact_utils, standard_artifacts

pytestmark = pytest.mark.e2e


def run_pipeline(folder, module):
    """Runs the pipeline of a module on this machine."""
    store = sqlite_metadata_connection_config(str(folder / "m.sqlite"))
    with pipeline_of(lay_out(folder, module), module, metadata_connection_config=store) as made:
        LocalDagRunner().run(made)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return run_pipeline(tmp_path_factory.mktemp("shop"), "shop")


@pytest.fixture(scope="module")
def mail(tmp_path_factory):
    return run_pipeline(tmp_path_factory.mktemp("mail"), "mail")


@pytest.fixture(scope="module")
def own_trainer(tmp_path_factory):
    return run_pipeline(tmp_path_factory.mktemp("own_trainer"), "own_trainer")


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    return run_pipeline(tmp_path_factory.mktemp("documented"), "my_pipeline")


def only(folder, pattern):
    (found,) = folder.glob(f"pipeline/{pattern}")
    return found


def read(folder, pattern):
    return json.loads(only(folder, pattern).read_text())


def test_a_users_own_model_and_preprocessing_are_trained(shop):
    history = read(shop, "BranchTrainer/model_run/*/history.json")
    assert history["steps"] == 200 and set(history["routes"]) == {"up", "down"}
    # x, z and colour through Dense(8), and the route's head; the trunk is 8 × 8 + 8
    assert {route["parameters"] for route in history["routes"].values()} == {32 + 72 + 9}


def test_tfxs_evaluator_judges_every_route_and_tfxs_pusher_believes_it(shop):
    counts = read(shop, "Router/quarantine/*/counts.json")["out"]["eval"]
    folder = only(shop, "Evaluator/evaluation/*")
    result = tfma.load_eval_result(str(folder))
    for route, metric, least, most in (
        ("up", "mean_absolute_error", 0, 0.5),
        ("down", "auc", 0.8, 1),
    ):
        metrics = result.get_metrics_for_slice((("_route", route),), output_name=route)
        assert metrics["example_count"]["doubleValue"] == counts[route]
        assert least <= metrics[metric]["doubleValue"] <= most
    assert tfma.load_validation_result(str(folder)).validation_ok
    assert list(shop.glob("serving/*/saved_model.pb"))


def test_the_report_after_tfxs_evaluator_says_what_it_was_not_given(shop):
    report = read(shop, "RunReport/report/*/report.json")
    counts = read(shop, "Router/quarantine/*/counts.json")["out"]["eval"]
    assert report["missing"] == ["recipe", "training"] and report["problems"] == []
    assert report["blessed"] is True
    found = report["routes"]
    assert {name: route["examples"] for name, route in found.items()} == counts
    assert set(found["up"]["metrics"]) == {"mean_absolute_error"}
    assert set(found["down"]["metrics"]) == {"auc"}


def test_an_inferred_schema_has_no_anomalies_in_its_own_rows(shop):
    splits = read(shop, "RouteValidator/anomalies/*/anomalies.json")["splits"]
    assert set(splits) == {"train", "eval"}
    assert {r["examples"] > 0 for of_split in splits.values() for r in of_split.values()} == {True}
    found = [route["anomalies"] for of_split in splits.values() for route in of_split.values()]
    assert found == [{}] * 4


def test_foreign_records_keep_their_keys_wherever_they_go(mail):
    counts = read(mail, "Router/quarantine/*/counts.json")
    assert counts["in"] == 301 and counts["quarantined"] == {"no_route": 1}
    (sample,) = counts["samples"]["no_route"]
    assert json.loads(sample["record"]) == {"what": "unknown", "_source": "mailbox", "_offset": -1}
    path = only(mail, "Router/routed_examples/*/Split-eval/text-*.gz")
    (first, *_) = tf.data.TFRecordDataset(str(path), "GZIP")
    features = tf.train.Example.FromString(first.numpy()).features.feature
    assert features["_source"].bytes_list.value == [b"mailbox"] and "_offset" in features


def test_training_goes_on_from_a_base_model_with_what_a_tuner_found(mail):
    first = read(mail, "First/model_run/*/history.json")["routes"]
    second = read(mail, "BranchTrainer/model_run/*/history.json")
    assert second["steps"] == 10
    for name, route in second["routes"].items():
        assert route["losses"][0][1] < 0.5 * first[name]["losses"][0][1]
        assert route["examples"] == 16 * route["steps"]


def test_bulk_inferrer_predicts_the_rows_of_a_route_that_have_no_labels(mail):
    counts = read(mail, "Fresh/quarantine/*/counts.json")["out"]["eval"]
    predicted = {"text": [], "meter": []}
    for path in mail.glob("pipeline/BulkInferrer/output_examples/*/Split-eval/*"):
        for serialized in tf.data.TFRecordDataset(str(path), "GZIP"):
            row = tf.train.Example.FromString(serialized.numpy()).features.feature
            (route,) = row["_route"].bytes_list.value
            (value,) = row["predicted"].float_list.value
            predicted[route.decode()].append(value)
    assert {name: len(rows) for name, rows in predicted.items()} == counts
    assert all(0 <= value <= 1 for value in predicted["text"])


def test_infra_validator_can_make_requests_for_the_model(mail):
    # Sending them takes TensorFlow Serving, in Docker or on Kubernetes.
    model, examples = standard_artifacts.Model(), standard_artifacts.Examples()
    model.uri = str(only(mail, "BranchTrainer/model/*"))
    examples.uri = str(only(mail, "Router/routed_examples/*"))
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    served = TensorFlowServingRequestSpec(signature_names=["serving_default"])
    spec = RequestSpec(tensorflow_serving=served, split_name="eval", num_examples=5)
    requests = request_builder.build_requests("mail", model, examples, spec)
    loaded = tf.saved_model.load(str(only(mail, "BranchTrainer/model/*/Format-Serving")))
    (asked,) = {name for request in requests for name in request.inputs}
    rows = [tf.make_ndarray(request.inputs[asked]) for request in requests]
    routes = loaded.signatures["serving_default"](**{asked: tf.concat(rows, 0)})["route"]
    assert set(routes.numpy().tolist()) <= {b"text", b"meter"} and len(routes) == 5


def test_a_model_of_tfxs_trainer_is_judged_route_by_route(own_trainer):
    evaluation = read(own_trainer, "BranchEvaluator/evaluation/*/evaluation.json")
    assert evaluation["blessed"] is True
    assert evaluation["routes"]["up"]["metrics"]["mean_absolute_error"] < 0.5
    assert evaluation["routes"]["down"]["metrics"]["auc"] > 0.8
    assert only(own_trainer, "BranchEvaluator/blessing/*/BLESSED").exists()
    report = read(own_trainer, "RunReport/report/*/report.json")
    assert report["missing"] == ["anomalies", "recipe", "training"] and report["problems"] == []


def test_the_documented_pipeline_trains_judges_and_pushes(documented):
    history = read(documented, "BranchTrainer/model_run/*/history.json")
    assert set(history["routes"]) == {"up", "down"}
    assert list(documented.glob("serving/*/saved_model.pb"))
    report = read(documented, "RunReport/report/*/report.json")
    assert report["problems"] == [] and report["blessed"] is True
    assert report["missing"] == ["anomalies", "recipe", "training"]


def test_the_documented_example_fits_on_a_page():
    assert 35 <= len([line for line in examples()[0].splitlines() if line.strip()]) <= 48
