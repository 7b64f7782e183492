import json
from typing import Any

import pytest
from builders_kubeflow import (
    executor_input,
    input_artifact,
    output_artifact,
    spec_of,
    through_store,
    type_of,
)
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as tfx_entrypoint
from tfx.types import standard_artifacts
from tfx.types.experimental.simple_artifacts import File

from branchline.components.artifacts import Quarantine
from branchline.pipeline.kubeflow.step import differences
from branchline.schemas import BranchlineError

QUARANTINE = "branchline.components.artifacts.Quarantine"


def step(**more):
    return executor_input(output_file="/tmp/kfp_outputs/output_metadata.json", **more)


def as_message(invocation):
    return json_format.ParseDict(
        invocation, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True
    )


def read_by_tfx(invocation, side="inputs", names=None):
    """name → the first of its artifacts, as TFX's entrypoint reads them."""
    artifacts = getattr(as_message(invocation), side).artifacts
    found = tfx_entrypoint.parse_raw_artifact_dict(artifacts, names)
    return {name: listed[0] for name, listed in found.items()}


def written_by_tfx(names, **artifacts):
    """The ExecutorOutput of these artifacts."""
    translated = tfx_entrypoint.translate_executor_output(
        {name: [artifact] for name, artifact in artifacts.items()}, names
    )
    output: Any = pipeline_spec_pb2.ExecutorOutput()
    for name, listed in translated.items():
        output.artifacts[name].CopyFrom(listed)
    return json.loads(json_format.MessageToJson(output))


def only(output, name):
    [artifact] = output["artifacts"][name]["artifacts"]
    return artifact


UNTYPED = {
    "empty": {"instanceSchema": ""},
    "null": {"instanceSchema": None},
    "without a kind": {},
    "no type": None,
    "a title of KFP": {"schemaTitle": "system.Model"},
}


@pytest.mark.parametrize("given", UNTYPED.values(), ids=UNTYPED)
def test_tfx_reads_no_input_as_kfp_gives_it(given):
    invocation = step(inputs={"model": input_artifact("/m") | {"type": given}})
    with pytest.raises(Exception):  # noqa: B017 of five inputs five kinds
        read_by_tfx(invocation)


@pytest.mark.parametrize("given", UNTYPED.values(), ids=UNTYPED)
def test_an_input_gets_its_type_from_the_definition(given):
    invocation = step(inputs={"model": input_artifact("/m") | {"type": given}})
    differences.set_artifact_types(invocation, spec_of(model="tfx.Model"), {})
    assert isinstance(read_by_tfx(invocation)["model"], standard_artifacts.Model)


def test_an_artifact_without_any_type_is_told():
    invocation = step(inputs={"model": input_artifact("/m")})
    with pytest.raises(BranchlineError, match="the input model came without a type"):
        differences.set_artifact_types(invocation, spec_of(examples="tfx.Examples"), {})


def test_a_type_of_our_own_is_known_for_inputs_and_outputs():
    artifact = output_artifact("quarantine", "/q", QUARANTINE, type=None)
    invocation = step(inputs={"quarantine": input_artifact("/i")}, outputs={"quarantine": artifact})
    spec = spec_of(quarantine=QUARANTINE)
    differences.set_artifact_types(invocation, spec, spec)
    assert type(read_by_tfx(invocation)["quarantine"]) is Quarantine
    assert type(read_by_tfx(invocation, "outputs")["quarantine"]) is Quarantine


def test_the_log_that_kfp_adds_to_the_outputs_is_left_out():
    logs = {"uri": "/logs", "type": {"schemaTitle": "system.Artifact"}}
    model = output_artifact("model", "/m", "tfx.Model")
    invocation = step(outputs={"executor-logs": logs, "model": model})
    with pytest.raises(ImportError):
        read_by_tfx(invocation, "outputs")
    differences.drop_unknown_outputs(invocation, spec_of(model="tfx.Model"))
    assert set(read_by_tfx(invocation, "outputs")) == {"model"}


def test_a_parameter_that_is_not_given_is_left_out():
    invocation = step(parameters={"recipe": None, "steps": 3.0, "name": ""})

    def parsed():
        inputs = as_message(invocation).inputs
        return tfx_entrypoint.parse_execution_properties(
            inputs.parameter_values, inputs.parameters, pipeline_spec_pb2.ComponentInputsSpec()
        )

    assert parsed()["recipe"] == 0  # what TFX makes of null
    differences.drop_null_parameters(invocation)
    assert parsed() == {"steps": 3.0, "name": ""}


def test_the_noise_and_the_numbers_of_the_store_need_no_cure():
    given = {"span": 3.0, "split_names": '["train"]', "tfx_version": "1.16.0", "rows": 7.0}
    artifact = input_artifact("/e", **given) | {"type": type_of("tfx.Examples")}
    examples = read_by_tfx(step(inputs={"examples": artifact}))["examples"]
    assert (examples.span, examples.split_names) == (3, '["train"]')
    assert examples.get_int_custom_property("rows") == 7
    assert examples.get_string_custom_property("tfx_version") == "1.16.0"
    assert examples.get_string_custom_property("display_name") == "model"


@pytest.mark.parametrize("metadata", ["missing", None, {}])
def test_artifacts_without_metadata_or_name_need_no_cure(metadata):
    artifact = input_artifact("/m") | {"type": type_of("tfx.Model"), "metadata": metadata}
    if metadata == "missing":
        del artifact["metadata"], artifact["name"]
    invocation = step(inputs={"model": artifact})
    differences.unwrap_metadata(invocation)
    assert read_by_tfx(invocation)["model"].uri == "/m"


def test_an_optional_input_without_artifacts_is_an_empty_list():
    invocation = step()
    invocation["inputs"]["artifacts"] = {"baseline": {}, "other": {"artifacts": []}}
    differences.set_artifact_types(invocation, spec_of(baseline="tfx.Model"), {})
    differences.use_local_paths(invocation)
    differences.restore_input_directories(invocation)
    artifacts = as_message(invocation).inputs.artifacts
    assert tfx_entrypoint.parse_raw_artifact_dict(artifacts) == {"baseline": [], "other": []}


@pytest.mark.parametrize("value", [["a", 1.0], {"a": [1.0]}, {"list": [1.0]}, "text", 3.0])
def test_metadata_is_read_as_it_was_written(value):
    artifact = input_artifact("/m", key=value) | {"type": type_of("tfx.Model")}
    invocation = step(inputs={"model": artifact})
    differences.unwrap_metadata(invocation)
    model = read_by_tfx(invocation)["model"]
    assert model.get_json_value_custom_property("key") == value


def test_the_store_wraps_lists():
    artifact = input_artifact("/m", key=["a"]) | {"type": type_of("tfx.Model")}
    model = read_by_tfx(step(inputs={"model": artifact}))["model"]
    assert model.get_json_value_custom_property("key") == through_store(["a"]) == {"list": ["a"]}


@pytest.mark.parametrize(
    ("uri", "volume", "local"),
    [
        ("minio://mlpipeline/v2/a", None, "/minio/mlpipeline/v2/a"),
        ("s3://bucket/a", None, "/s3/bucket/a"),
        ("gs://bucket/a", None, "/gcs/bucket/a"),
        ("minio://mlpipeline/v2/a", "/volume/runs", "/volume/runs/mlpipeline/v2/a"),
        ("/data/a", None, "/data/a"),
    ],
)
def test_uris_become_the_paths_of_the_launcher(uri, volume, local):
    invocation = step(inputs={"model": input_artifact(uri)})
    uris = differences.use_local_paths(invocation, volume)
    assert only(invocation["inputs"], "model")["uri"] == local
    assert uris == ({} if uri == local else {local: uri})


def test_a_custom_path_stands_before_every_other():
    artifact = output_artifact("model", "s3://b/m", "tfx.Model", customPath="/own/m")
    invocation = step(outputs={"model": artifact})
    assert differences.use_local_paths(invocation, "/volume") == {"/own/m": "s3://b/m"}
    assert read_by_tfx(invocation, "outputs")["model"].uri == "/own/m"


def test_uris_come_back_in_outputs_and_in_their_metadata():
    uris = {"/s3/b/run/model": "s3://b/run/model", "/s3/b/run/blessing": "s3://b/run/blessing"}
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = "/s3/b/run/blessing"
    blessing.set_string_custom_property("current_model", "/s3/b/run/model")
    blessing.set_string_custom_property("other", "/s3/b/run/model2 /x/s3/b/run/model")
    blessing.set_json_value_custom_property("files", {"all": ["/s3/b/run/model/saved_model.pb"]})
    output = written_by_tfx({}, blessing=blessing)
    differences.restore_uris(output, uris)
    assert only(output, "blessing")["uri"] == "s3://b/run/blessing"
    metadata = only(output, "blessing")["metadata"]
    assert metadata["current_model"] == "s3://b/run/model"
    assert metadata["other"] == "/s3/b/run/model2 /x/s3/b/run/model"
    assert metadata["files"] == {"all": ["s3://b/run/model/saved_model.pb"]}


def test_a_blessing_names_its_model_as_the_store_does():
    artifact = input_artifact("/m", "17") | {"type": type_of("tfx.Model")}
    invocation = step(inputs={"model": artifact})
    names = {}
    model = read_by_tfx(invocation, names=names)["model"]
    blessing = standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property("current_model_id", model.id)
    blessing.set_int_custom_property("blessed", 1)
    output = written_by_tfx(names, blessing=blessing)
    assert only(output, "blessing")["metadata"]["current_model_id"] == pytest.approx(model.id)
    differences.restore_names(output, invocation)
    assert only(output, "blessing")["metadata"] == {"current_model_id": "17", "blessed": 1}


def typed(uri, title):
    return input_artifact(str(uri)) | {"type": type_of(title)}


def test_inputs_that_were_empty_directories_are_directories_again(tmp_path):
    (tmp_path / "marker").write_bytes(b"")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "empty").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"x")
    inputs = {n: typed(tmp_path / n, "tfx.Model") for n in ("marker", "lost", "model", "file")}
    differences.restore_input_directories(step(inputs=inputs))
    assert (tmp_path / "marker").is_dir()
    assert (tmp_path / "lost").is_dir()
    assert (tmp_path / "model" / "empty").is_file()
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("title", ["tfx.String", "tfx.File"])
def test_an_empty_input_that_is_a_file_by_its_type_stays_one(tmp_path, title):
    (tmp_path / "value").write_bytes(b"")
    differences.restore_input_directories(step(inputs={"v": typed(tmp_path / "value", title)}))
    assert (tmp_path / "value").is_file()
    assert isinstance(read_by_tfx(step(inputs={"v": typed("/v", "tfx.File")}))["v"], File)


def test_outputs_have_empty_directories_as_with_tfx_own_launcher(tmp_path):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "left over").write_text("of a failed attempt")
    outputs = {
        "model": output_artifact("model", str(tmp_path / "task" / "model"), "tfx.Model"),
        "again": output_artifact("again", str(tmp_path / "again"), "tfx.Model"),
        "value": output_artifact("value", str(tmp_path / "other" / "value"), "tfx.String"),
        "remote": output_artifact("remote", "gs://bucket/remote", "tfx.Model"),
    }
    differences.make_output_directories(step(outputs=outputs))
    assert (tmp_path / "task" / "model").is_dir()
    assert list((tmp_path / "again").iterdir()) == []
    assert (tmp_path / "other" / "value").read_bytes() == b""
