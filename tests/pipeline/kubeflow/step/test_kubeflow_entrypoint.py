import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import boto3
import pytest
from builders_kubeflow import arguments, executor_input, input_artifact, output_artifact, spec_of
from moto.server import ThreadedMotoServer

from branchline.components.code_version import code_version
from branchline.components.run_report import component as run_report
from branchline.components.transform import preprocessing
from branchline.components.user_code import recipe_files
from branchline.pipeline.kubeflow.packing import pack
from branchline.pipeline.kubeflow.step import entrypoint
from branchline.pipeline.kubeflow.step.check_step import check_code, check_recipe
from branchline.schemas import BranchlineError

ROOT = pathlib.Path(__file__).parents[4]
REPORT = "branchline.components.run_report.component.RunReportExecutor"
INPUTS = spec_of(evaluation="tfx.ModelEvaluation", blessing="tfx.ModelBlessing") | {
    "parameters": {"recipe": {"parameterType": "STRING"}, "code_version": {}}
}
REPORT_TYPE = "branchline.components.artifacts.Report"
OUTPUTS = spec_of(report=REPORT_TYPE)
BEAM = ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
EVALUATION = {"blessed": True, "baseline": None, "routes": {}, "overall": {"examples": 0}}


def run(*args, **variables):
    return subprocess.run(
        [sys.executable, "-m", "branchline.pipeline.kubeflow.step.entrypoint", *args],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def report_step(volume, task, *, output_file, evaluation=EVALUATION, **report):
    """A RunReport whose inputs lie on `volume`, where an object store's would."""
    folder = volume / "bucket" / "root" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return executor_input(
        inputs={
            "evaluation": input_artifact("minio://bucket/root/evaluation", "11"),
            "blessing": input_artifact("minio://bucket/root/blessing", "12", blessed=1.0),
        },
        outputs={
            "report": output_artifact(
                "report", f"minio://bucket/root/{task}/report", REPORT_TYPE, **report
            ),
            "executor-logs": {
                "uri": f"minio://bucket/root/{task}/executor-logs",
                "type": {"schemaTitle": "system.Artifact"},
            },
        },
        parameters={"recipe": None, "code_version": code_version(run_report.__file__)},
        output_file=output_file,
    )


def test_a_step_runs_as_releases_to_2_14_launch_it(tmp_path):
    output_file = tmp_path / "kfp_outputs" / "output_metadata.json"
    invocation = report_step(tmp_path / "volume", "task", output_file=output_file)
    ran = run(*arguments(REPORT, invocation, INPUTS, OUTPUTS, f"--volume={tmp_path}/volume", *BEAM))
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert (tmp_path / "volume/bucket/root/task/report/report.html").is_file()
    output = json.loads(output_file.read_text())
    [report] = output["artifacts"]["report"]["artifacts"]
    assert report["uri"] == "minio://bucket/root/task/report"
    assert set(output["artifacts"]) == {"report"}
    assert "Starting executor" in ran.stderr


def test_a_step_runs_as_later_releases_launch_it(tmp_path):
    task_root = tmp_path / "minio" / "task"
    task_root.mkdir(parents=True)
    invocation = report_step(
        tmp_path / "volume",
        "task",
        output_file=task_root / "output_metadata.json",
        customPath=str(task_root / "report"),
    )
    carried = json.dumps({"path": str(tmp_path / "carried"), "packed": pack("its text")})
    more = [f"--volume={tmp_path}/volume", f"--carried_file={carried}", *BEAM]
    (tmp_path / "temporary").mkdir()
    step = arguments(REPORT, invocation, INPUTS, OUTPUTS, *more)
    ran = run(*step, TMPDIR=str(tmp_path / "temporary"))
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert (task_root / "report" / "metrics.json").is_file()
    assert not (tmp_path / "carried").exists()
    assert not list((tmp_path / "temporary").iterdir())
    output = json.loads((task_root / "output_metadata.json").read_text())
    assert output["artifacts"]["report"]["artifacts"][0]["uri"] == "minio://bucket/root/task/report"
    # Beam's temporary files would lie in task_root/.temp: beside what is uploaded.
    assert {path.name for path in task_root.iterdir()} <= {
        "report",
        "output_metadata.json",
        ".temp",
    }


def test_a_step_sees_what_tfx_promises_and_kfp_gets_back_what_it_knows(tmp_path):
    volume = tmp_path / "volume"
    outputs = {"blessing": "tfx.ModelBlessing", "verdict": "tfx.String"}
    invocation = executor_input(
        inputs={"model": input_artifact("s3://bucket/root/model", "17", tags=["a"])},
        parameters={"not_given": None, "steps": 3.0},
        outputs={n: output_artifact(n, f"s3://bucket/root/t/{n}", t) for n, t in outputs.items()},
        output_file=tmp_path / "task" / "output_metadata.json",
    )
    invocation["outputs"]["parameters"] = {"verdict": {"outputFile": "/tmp/kfp/outputs/verdict"}}
    inputs_spec, outputs_spec = spec_of(model="tfx.Model"), spec_of(**outputs)
    inputs_spec["parameters"] = {"steps": {"parameterType": "NUMBER_INTEGER"}}
    ran = run(
        *arguments("steps.Bless", invocation, inputs_spec, outputs_spec, f"--volume={volume}"),
        PYTHONPATH=f"{ROOT}:{ROOT / 'tests' / 'helpers'}",
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "0 files" in ran.stdout.splitlines()
    assert (volume / "bucket/root/t/blessing/BLESSED").read_text() == str(volume)
    output = json.loads((tmp_path / "task" / "output_metadata.json").read_text())
    [blessing] = output["artifacts"]["blessing"]["artifacts"]
    assert blessing["uri"] == "s3://bucket/root/t/blessing"
    metadata = blessing["metadata"]
    assert metadata["current_model_id"] == "17"
    assert metadata["current_model"] == "s3://bucket/root/model"
    assert (metadata["parameters"], metadata["tags"]) == ('{"steps": 3}', '["a"]')
    assert output["parameterValues"] == {"verdict": "passed"}


def test_a_step_on_remote_artifacts_leaves_no_markers_of_directories(tmp_path):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    access = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    session = boto3.Session("key", "secret", region_name="us-east-1")
    s3: Any = session.client("s3", endpoint_url=address)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="root/t/schema/", Body=b"")
    (tmp_path / "schema.pbtxt").write_text('feature { name: "a" }')
    invocation = executor_input(
        outputs={"schema": output_artifact("schema", "s3://bucket/root/t/schema", "tfx.Schema")},
        parameters={"schema_file": str(tmp_path / "schema.pbtxt")},
        output_file=tmp_path / "output_metadata.json",
    )
    step = "tfx.components.schema_gen.import_schema_gen.executor.Executor"
    spec = spec_of(schema="tfx.Schema")
    try:
        ran = run(
            *arguments(step, invocation, {"parameters": {}}, spec, "--artifacts=remote"),
            AWS_ENDPOINT_URL=address,
            AWS_DEFAULT_REGION="us-east-1",
            **access,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    finally:
        server.stop()
    assert keys == ["root/t/schema/schema.pbtxt"]
    output = json.loads((tmp_path / "output_metadata.json").read_text())
    [schema] = output["artifacts"]["schema"]["artifacts"]
    assert schema["uri"] == "s3://bucket/root/t/schema"


def test_a_carried_file_is_there_while_the_step_runs(tmp_path):
    for how in ({"text": "its text"}, {"packed": pack("its text")}):
        with entrypoint._carried(str(tmp_path / "deep" / "schema.pbtxt"), **how):
            assert (tmp_path / "deep" / "schema.pbtxt").read_text() == "its text"
        assert not (tmp_path / "deep" / "schema.pbtxt").exists()


def test_a_failing_step_ends_with_its_cause(tmp_path):
    output_file = tmp_path / "output_metadata.json"
    invocation = report_step(tmp_path / "volume", "task", output_file=output_file)
    (tmp_path / "volume/bucket/root/evaluation/evaluation.json").write_text("{")
    ran = run(*arguments(REPORT, invocation, INPUTS, OUTPUTS, f"--volume={tmp_path}/volume"))
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith(f"branchline: {REPORT} failed: ")
    assert "/evaluation/evaluation.json: got no JSON: Expecting property name" in last
    assert not output_file.exists()


def test_progress_is_printed_as_plain_lines(tmp_path):
    program = (
        "import logging; from branchline.pipeline.kubeflow.step.entrypoint import _log_progress;"
        "_log_progress(); logging.getLogger('branchline.progress').info('step %d', 3)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "step 3\n", ran.stderr


def test_an_image_without_the_executor_is_told_in_one_line(tmp_path):
    missing = "branchline.components.no_such.component.Executor"
    ran = run(*arguments(missing, {"outputs": {}}, {}, {}))
    assert ran.returncode == 2
    [line] = ran.stderr.strip().splitlines()
    assert line.startswith(f"branchline: error: the image lacks {missing} (ModuleNotFoundError")
    assert "another version of branchline" in line


def test_a_cluster_without_the_store_is_told_in_one_line(tmp_path):
    ran = run(*arguments(REPORT, {"outputs": {}}, {}, {}, "--cluster_store"))
    assert ran.returncode == 2
    *_, line = ran.stderr.splitlines()  # after what TensorFlow says
    assert line.startswith("branchline: error: no object store of Kubeflow Pipelines answers at ")
    named = report_step(tmp_path / "volume", "task", output_file=tmp_path / "output_metadata.json")
    volume = f"--volume={tmp_path}/volume"
    ran = run(
        *arguments(REPORT, named, INPUTS, OUTPUTS, volume, "--cluster_store"),
        AWS_ENDPOINT_URL="http://named.invalid",
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_a_recipe_file_that_the_image_lacks_is_told_in_one_line(tmp_path):
    recipe = f"--recipe_file={tmp_path}/support.py"
    ran = run(*arguments(REPORT, {"outputs": {}}, {}, {}, recipe))
    assert ran.returncode == 2
    [line] = ran.stderr.strip().splitlines()
    assert line.startswith(
        f"branchline: error: {tmp_path}/support.py: there is no such recipe file"
    )
    assert "its image lacks the file: COPY it" in line


@pytest.mark.parametrize("packed", [False, True], ids=["readable", "packed"])
def test_another_version_of_the_component_is_told_in_one_line(packed):
    version = {"code_version": "0.0.1+0"}
    invocation = {"inputs": {} if packed else {"parameterValues": version}, "outputs": {}}
    more = [f"--packed_parameters={pack(version)}"] if packed else []
    ran = run(*arguments(REPORT, invocation, {}, {}, *more))
    assert ran.returncode == 2
    line = ran.stderr.strip().splitlines()[-1]
    assert line.startswith("branchline: error: the image holds another branchline than")
    assert "expected 0.0.1+0" in line and "Traceback" not in ran.stderr


@pytest.fixture
def image(tmp_path):
    """A folder of an image with a recipe and what it imports, and their hashes."""
    (tmp_path / "layers").mkdir()
    (tmp_path / "support.py").write_text("import my_layers")
    (tmp_path / "my_layers.py").write_text("def build():\n    import layers.dense")
    (tmp_path / "layers" / "dense.py").write_text("a = 1")
    return tmp_path, recipe_files(tmp_path / "support.py")


@pytest.mark.parametrize("changed", ["support.py", "my_layers.py", "layers/dense.py"])
def test_a_changed_recipe_and_a_changed_module_of_it_are_rejected_by_name(image, changed):
    folder, compiled_with = image
    check_recipe(str(folder / "support.py"), compiled_with)
    with open(folder / changed, "a") as file:
        file.write("\nb = 2")
    with pytest.raises(BranchlineError) as error:
        check_recipe(str(folder / "support.py"), compiled_with)
    assert str(error.value).startswith(f"the image's {folder / changed} is not the recipe")


def test_a_module_of_the_recipe_that_the_image_lacks_is_told(image):
    folder, compiled_with = image
    (folder / "layers" / "dense.py").unlink()
    told = f"the image's {folder} lacks layers/dense.py, which the recipe imports: COPY it"
    with pytest.raises(BranchlineError, match=told):
        check_recipe(str(folder / "support.py"), compiled_with)


@pytest.mark.parametrize("name", ["support.py", "my_layers.py"])
def test_a_file_that_the_user_cannot_read_is_told(image, name, monkeypatch):
    folder, compiled_with = image
    read = pathlib.Path.read_bytes

    def refuse(path):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)  # root, who tests here, may read all
    told = rf"{name} cannot be read by user \d+ \(Permission denied\): COPY --chmod=644"
    with pytest.raises(BranchlineError, match=told):
        check_recipe(str(folder / "support.py"), compiled_with)


def test_other_libraries_than_the_pipeline_was_compiled_with_are_told():
    version = code_version(run_report.__file__)
    tensorflow = re.search(r"tensorflow [^,]+", version)[0]
    other = version.replace(tensorflow, "tensorflow 9.9")
    with pytest.raises(BranchlineError) as error:
        check_code(REPORT, {"code_version": other})
    assert f"{tensorflow}, expected tensorflow 9.9;" in str(error.value)


def test_a_step_that_holds_a_gpu_it_cannot_use_is_told(tmp_path):
    ran = run(*arguments(REPORT, {"outputs": {}}, {}, {}, "--gpus=2"), CUDA_VISIBLE_DEVICES="")
    assert ran.returncode == 2
    line = ran.stderr.strip().splitlines()[-1]
    assert line.startswith(
        "branchline: error: the step holds 2 accelerator(s), of which TensorFlow"
    )
    assert '--build-arg EXTRAS="--extra gpu"' in line and "Traceback" not in ran.stderr


def test_a_built_in_recipe_is_found_by_its_name():
    check_recipe("recipe:mixed", recipe_files(ROOT / "pipeline/recipes/mixed.py"))
    with pytest.raises(BranchlineError, match="no built-in recipe 'mixt'"):
        check_recipe("recipe:mixt", {})


def test_the_version_of_preprocessing_within_transform_is_checked():
    transform = "tfx.components.transform.executor.Executor"
    config = {"code_version": code_version(preprocessing.__file__)}
    check_code(transform, {"custom_config": json.dumps(config)})
    with pytest.raises(BranchlineError, match="another branchline"):
        check_code(transform, {"custom_config": '{"code_version": "0.0.1+0"}'})


@pytest.mark.parametrize("parameters", [{}, {"custom_config": "null"}, {"custom_config": "{"}])
def test_a_component_of_somebody_else_has_no_version_to_check(parameters):
    check_code("their.component.Executor", parameters | {"code_version": "7"})
