"""Pipelines, parameters and options that are wrong: refused before the server is asked."""

import pytest
import yaml
from builders_submit import SPEC, edited, kfp_is_quiet, only, run, write
from builders_submit import api as api
from builders_submit import pipeline as pipeline

from branchline.pipeline.kubeflow.submit.run_values import check_values
from branchline.schemas import Numeric, RecipeError, Route, RoutingTable, to_json, when

pytestmark = kfp_is_quiet


@pytest.mark.parametrize("root", ["volume://claim/runs", "/data", ""])
def test_root_that_has_to_be_compiled_in_is_an_argument_error(api, pipeline, root):
    with pytest.raises(RecipeError, match="--pipeline-root: got .*`compile` has to know it"):
        run(pipeline, "--host", api.url, "--pipeline-root", root)
    assert not api.requests


@pytest.mark.parametrize(
    "arguments, compiled_for",
    [([], "minio"), (["--volume=/branchline-volume"], "volume")],
    ids=["store", "volume"],
)
def test_root_in_a_store_that_the_steps_cannot_reach_is_an_argument_error(
    api, tmp_path, arguments, compiled_for
):
    command = ["-c", "exec python -m branchline.pipeline.kubeflow.step.entrypoint"]
    container = {"image": "branchline:1", "command": command, "args": arguments}
    executors = {"executors": {"run": {"container": container}}}
    path = write(
        tmp_path / "mixed.yaml",
        SPEC | {"deploymentSpec": executors, "defaultPipelineRoot": "minio://bucket/a"},
    )
    with pytest.raises(RecipeError, match=f"compiled for {compiled_for}://…, and its steps"):
        run(path, "--host", api.url, "--pipeline-root", "s3://bucket/b")
    assert not api.requests
    if compiled_for == "minio":
        assert run(path, "--host", api.url, "--pipeline-root", "minio://bucket/b")[0] == 0


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: [", "is no YAML in line"),
        ("just text", "is no pipeline"),
        ("", "is no pipeline"),
        ("pipelineInfo: {name: a}", "it has no root.dag.tasks"),
        ('{"pipelineSpec": {}}', "is a job with a pipeline inside"),
        (yaml.safe_dump_all([SPEC, {"kind": "Workflow"}]), "only one with `platforms`"),
        (b"\xff\xfe\x00\xd8", "is no YAML"),
        (edited("pipelineInfo", name=7), "pipelineInfo.name is no text"),
        (edited("root", "dag", tasks=["Router"]), "root.dag.tasks is no table of tables"),
        (edited("root", "dag", "tasks", Router=None), "root.dag.tasks is no table of tables"),
        (edited(components=None), "it has no components"),
        (edited("components", step=None), "components is no table of tables"),
        (edited("components", "step", dag={"tasks": [1]}), "components.step.dag.tasks is no"),
        (edited("root", "inputDefinitions", parameters=[1]), "parameters is no table of tables"),
        (edited("root", "inputDefinitions", "parameters", steps=None), "is no table of tables"),
        (edited("deploymentSpec", "executors", run={"resolver": {}}), "with --backend vertex"),
    ],
)
def test_file_that_is_no_pipeline_is_an_argument_error(api, tmp_path, text, words):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError, match=words) as caught:
        run(path, "--host", api.url)
    assert str(path) in str(caught.value) and "compile" in str(caught.value)
    assert not api.requests


@pytest.mark.parametrize("definitions", [None, []], ids=["null", "list"])
def test_pipeline_without_parameters_has_none(api, tmp_path, definitions):
    path = tmp_path / "mixed.yaml"
    path.write_text(edited("root", inputDefinitions=definitions))
    assert run(path, "--host", api.url)[0] == 0
    with pytest.raises(RecipeError, match="it has: none"):
        run(path, "--host", api.url, "--parameter", "steps=3")


def test_missing_files_are_argument_errors(api, pipeline, tmp_path):
    with pytest.raises(RecipeError, match="nowhere.yaml: No such file"):
        run(tmp_path / "nowhere.yaml", "--host", api.url)
    for option in ("--token-file", "--service-account-token", "--ca-cert"):
        with pytest.raises(RecipeError, match=f"{option} .*nowhere: No such file"):
            run(pipeline, "--host", api.url, option, tmp_path / "nowhere")
    assert not api.requests


@pytest.mark.parametrize(
    "assignment, words",
    [
        ("step=3", r"no such parameter; did you mean steps\? \(it has: data, steps, rate"),
        ("steps", "expected NAME=VALUE"),
        ("steps=many", "got 'many', expected a whole number"),
        ("steps=1.5", "got '1.5', expected a whole number"),
        ("steps=true", "got 'true', expected a whole number"),
        ("rate=NaN", "got 'NaN', expected a number"),
        ("resume=1", "got '1', expected true or false"),
        ("routes=a", "expected a JSON list"),
        ("thresholds=[]", "expected a JSON object"),
    ],
)
def test_wrong_parameter_is_an_argument_error(api, pipeline, assignment, words):
    with pytest.raises(RecipeError, match=words):
        run(pipeline, "--host", api.url, "--parameter", assignment)
    assert not api.requests


ROUTING = to_json(
    RoutingTable(Route("a", when.present("x"), features={"x": Numeric()}, label="y", task="binary"))
)


def recipe_spec(recipe_file="", routing=ROUTING):
    constants = {
        "DataFingerprint": {},
        "MixedExampleGen": {"recipe_file": recipe_file},
        "BranchTrainer": {},
        "BranchEvaluator": {"routing": routing},
    }
    steps = {
        step: {
            "inputs": {"parameters": {n: {"runtimeValue": {"constant": v}} for n, v in of.items()}}
        }
        for step, of in constants.items()
    }
    return {"root": {"dag": {"tasks": steps}}}


@pytest.mark.parametrize(
    "values, words",
    [
        ({"data": "records/"}, "--parameter data: got 'records/', a path on this machine"),
        ({"data": ""}, "the recipe writes no records of its own"),
        ({"steps": 0}, "--parameter steps: got 0, expected an int of at least 1"),
        ({"thresholds": "0.9"}, "thresholds: got 0.9, expected an object"),
        ({"thresholds": "{'a'"}, "expected JSON such as"),
        ({"thresholds": '{"b": {"auc": 0.9}}'}, "got 'b', expected one of the routes a"),
        ({"thresholds": '{"a": {"auc": "high"}}'}, "got 'high', expected a finite number"),
    ],
)
def test_value_that_a_step_would_fail_on_is_an_argument_error(values, words):
    with pytest.raises(RecipeError, match=words):
        check_values(values, recipe_spec())
    check_values(values, {"root": {"dag": {"tasks": {"Another": {}}}}})


@pytest.mark.parametrize("routing", [None, 7, "{", "[]", '{"type": "Unknown"}'])
def test_values_that_can_be_right_are_let_through(routing):
    values = {"data": '["s3://b/x"]', "steps": 3, "thresholds": '{"a": {"auc": 0.9}}'}
    check_values(values, recipe_spec())
    check_values({"data": "/data/records"}, recipe_spec())
    check_values({"data": ""}, recipe_spec("recipe:mixed"))
    check_values({"thresholds": "{}"}, recipe_spec(routing=routing))


def test_parameter_without_default_must_be_given_once(api, tmp_path):
    declared = {"data": {"parameterType": "STRING"}}
    path = write(
        tmp_path / "mixed.yaml",
        SPEC | {"root": SPEC["root"] | {"inputDefinitions": {"parameters": declared}}},
    )
    with pytest.raises(RecipeError, match="parameter data has no default"):
        run(path, "--host", api.url)
    with pytest.raises(RecipeError, match="--parameter data: given twice"):
        run(path, "--host", api.url, "--parameter", "data=a", "--parameter", "data=b")
    assert run(path, "--host", api.url, "--parameter", "data=")[0] == 0
    assert only(api.runs)["runtime_config"]["parameters"] == {"data": ""}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--retries", "-1"],
        ["--timeout", "0"],
        ["--timeout", "soon"],
        ["--token-file", "a", "--service-account-token", "b"],
        ["--no-such-option"],
    ],
)
def test_wrong_option_ends_with_code_2(pipeline, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(pipeline, "--host", "http://localhost", *arguments)
    assert caught.value.code == 2
