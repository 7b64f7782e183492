"""Compiling for Kubeflow: what is in the YAML."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from builders_compile import IMAGE, RECIPE, ROOT, constant_of, container_of, tasks_of
from builders_compile import compile_ as compile_
from builders_compile import own_recipe as own_recipe
from kfp_step import expanded

from branchline.components.user_code import recipe_files
from branchline.pipeline.kubeflow.packing import unpack
from branchline.pipeline.kubeflow.submit.run_values import check_values
from branchline.schemas import RecipeError, from_json, when
from branchline.schemas.resources import STEPS

REPO = Path(__file__).parents[4]
MANY_ROUTES = """
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, when

names = [f"route{i}" for i in range(%(routes)d)]


def key(name, route):
    return f"{name}_{route}" if %(distinct)r else name


recipe = Recipe(
    name="many",
    routing=RoutingTable(
        *[
            Route(
                name,
                when.equals("kind", name),
                features={
                    **{key(f"number{k}", name): Numeric() for k in range(5)},
                    key("category", name): Categorical(),
                },
                label=key("label", name),
                task="binary",
            )
            for name in names
        ]
    ),
    thresholds={name: {"auc": 0.5} for name in names},
)
"""
LONGEST_ARGUMENT = 128 * 1024  # bytes, of Linux


def argument_of(arguments, name):
    return next(a for a in arguments if a.startswith(f"{name}=")).partition("=")[2]


def test_every_step_of_the_local_pipeline_runs_on_the_cluster(compile_):
    spec, *_ = compile_(IMAGE, ROOT)
    assert set(tasks_of(spec)) == set(STEPS)
    assert spec["defaultPipelineRoot"] == "s3://bucket/root"
    assert all("container" in each for each in spec["deploymentSpec"]["executors"].values())


def test_vertex_asks_its_own_metadata_for_the_baseline(compile_):
    spec, *platforms = compile_(IMAGE, "--pipeline-root=gs://b/r", "--backend=vertex")
    resolvers = [e for e in spec["deploymentSpec"]["executors"].values() if "resolver" in e]
    assert len(resolvers) == 2
    assert "Baseline" not in tasks_of(spec)
    assert not platforms


def test_a_validation_that_blocks_comes_before_the_training(compile_):
    blocking = ["--set=validation.drift=0.1", '--set=validation.block=["drift"]']
    spec, *_ = compile_(IMAGE, ROOT, *blocking)
    tasks = tasks_of(spec)
    assert "RouteValidator" in tasks["BranchTrainer"]["dependentTasks"]
    assert "artifacts" in tasks["RouteValidator"]["inputs"]
    assert "EarlierStatistics" not in tasks


def test_drift_is_compared_with_what_baseline_finder_finds_where_it_is_asked_for(compile_):
    tasks = tasks_of(compile_(IMAGE, ROOT, "--set=validation.drift=0.1")[0])
    source = tasks["RouteValidator"]["inputs"]["artifacts"]["previous_statistics"]
    assert source["taskOutputArtifact"]["producerTask"] == "Baseline"
    assert source["taskOutputArtifact"]["outputArtifactKey"] == "previous_statistics"
    plain = tasks_of(compile_(IMAGE, ROOT)[0])
    assert "previous_statistics" not in plain["RouteValidator"]["inputs"]["artifacts"]
    for each in (tasks, plain):  # so that a later run can be told to compare
        source = each["Baseline"]["inputs"]["artifacts"]["statistics"]["taskOutputArtifact"]
        assert source["producerTask"] == "RouteStatistics"


def test_vertex_compares_no_drift(compile_):
    vertex = ["--pipeline-root=gs://b/r", "--backend=vertex", "--set=validation.drift=0.1"]
    tasks = tasks_of(compile_(IMAGE, *vertex)[0])
    assert "previous_statistics" not in tasks["RouteValidator"]["inputs"]["artifacts"]


def test_data_steps_and_thresholds_are_parameters_of_the_pipeline(compile_):
    spec, *_ = compile_(IMAGE, ROOT, "--data=s3://bucket/records", "--set=training.steps=7")
    declared = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: p["defaultValue"] for name, p in declared.items() if name != "thresholds"} == {
        "data": "s3://bucket/records",
        "steps": 7,
    }
    assert '"tumours": {"auc": 0.98}' in declared["thresholds"]["defaultValue"]
    users = {
        (step, name, parameter["componentInputParameter"])
        for step, task in tasks_of(spec).items()
        for name, parameter in task["inputs"]["parameters"].items()
        if "componentInputParameter" in parameter
    }
    assert users == {
        ("DataFingerprint", "input_base", "data"),
        ("MixedExampleGen", "input_base", "data"),
        ("BranchTrainer", "steps", "steps"),
        ("BranchEvaluator", "thresholds", "thresholds"),
    }


def test_several_paths_are_one_parameter(compile_):
    spec, *_ = compile_(IMAGE, ROOT, "--data", "s3://b/x", "gs://b/y")
    default = spec["root"]["inputDefinitions"]["parameters"]["data"]["defaultValue"]
    assert default == '["s3://b/x", "gs://b/y"]'


def test_a_recipe_without_records_has_to_be_given_some_by_every_run(compile_, own_recipe):
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    assert spec["root"]["inputDefinitions"]["parameters"]["data"] == {"parameterType": "STRING"}


def test_what_a_step_gets_from_another_comes_from_a_step_that_there_is(compile_):
    spec, *_ = compile_(IMAGE, ROOT)
    parameter = tasks_of(spec)["MixedExampleGen"]["inputs"]["parameters"]["input_fingerprint"]
    source = parameter["taskOutputParameter"]
    assert source["producerTask"] in tasks_of(spec)
    outputs = spec["components"][source["producerTask"]]["outputDefinitions"]["parameters"]
    assert source["outputParameterKey"] in outputs


def test_nothing_of_this_machine_is_in_the_pipeline(compile_, own_recipe):
    for arguments in ([], [f"--recipe={own_recipe}"]):
        text = yaml.safe_dump_all(compile_(IMAGE, ROOT, *arguments))
        for path in (REPO, own_recipe.parent, sys.prefix, tempfile.gettempdir() + "/pytest"):
            assert str(path) not in text


def test_steps_that_look_outside_are_never_cached(compile_):
    cached = {
        step
        for step, task in tasks_of(compile_(IMAGE, ROOT)[0]).items()
        if task.get("cachingOptions", {}).get("enableCache")
    }
    assert set(STEPS) - cached == {"DataFingerprint", "Baseline"}
    without = tasks_of(compile_(IMAGE, ROOT, "--no-cache")[0])
    assert not any("cachingOptions" in task for task in without.values())


def test_steps_get_resources_of_the_recipe_and_of_flags(compile_):
    spec, platform = compile_(
        IMAGE,
        ROOT,
        "--gpus=2",
        "--set=resources.BranchTrainer.cpu=7.5",
        "--set=resources.*.memory=4",
        '--set=resources.BranchTrainer.node_selector={"pool": "gpu"}',
        '--set=resources.BranchTrainer.tolerations=["nvidia.com/gpu:NoSchedule"]',
        '--set=resources.*.tolerations=["pool=ml:NoExecute"]',
        "--step-image=Pusher=reg/pusher:2",
        "--env=BranchTrainer:LEVEL=",
        "--secret=KEY=store/key",
        "--secret=Pusher:OTHER=store/other",
    )
    assert container_of(spec, "BranchTrainer")["resources"] == {
        "cpuLimit": 7.5,
        "memoryLimit": 4.0,
        "accelerator": {"type": "nvidia.com/gpu", "count": "2"},
    }
    assert container_of(spec, "BranchTrainer")["env"] == [{"name": "LEVEL", "value": ""}]
    assert container_of(spec, "Router")["resources"] == {"memoryLimit": 4.0}
    assert {s for s in STEPS if "--gpus=2" in container_of(spec, s)["args"]} == {"BranchTrainer"}
    images = {step: container_of(spec, step)["image"] for step in STEPS}
    assert images.pop("Pusher") == "reg/pusher:2"
    assert set(images.values()) == {"reg/branchline:1"}
    of = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert of["BranchTrainer_executor"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    ml = {"operator": "Equal", "key": "pool", "value": "ml", "effect": "NoExecute"}
    gpu = {"operator": "Exists", "key": "nvidia.com/gpu", "effect": "NoSchedule"}
    assert of["BranchTrainer_executor"]["tolerations"] == [ml, gpu]
    assert of["Router_executor"]["tolerations"] == [ml]
    assert all(each["secretAsEnv"][0]["secretName"] == "store" for each in of.values())
    assert of["Router_executor"]["secretAsEnv"][0]["keyToEnv"] == [
        {"envVar": "KEY", "secretKey": "key"}
    ]
    assert {each["envVar"] for each in of["Pusher_executor"]["secretAsEnv"][0]["keyToEnv"]} == {
        "KEY",
        "OTHER",
    }


def test_the_accelerator_has_the_name_that_the_backend_knows(compile_):
    vertex, *_ = compile_(IMAGE, "--pipeline-root=gs://b/r", "--backend=vertex", "--gpus=1")
    assert container_of(vertex, "BranchTrainer")["resources"]["accelerator"] == {
        "type": "NVIDIA_TESLA_T4",
        "count": "1",
    }
    other, *_ = compile_(IMAGE, ROOT, "--gpus=1", "--gpu-type=amd.com/gpu")
    assert container_of(other, "BranchTrainer")["resources"]["accelerator"]["type"] == "amd.com/gpu"


def test_a_volume_is_mounted_in_every_step_and_holds_what_outlives_them(compile_):
    spec, platform = compile_(IMAGE, "--pipeline-root=volume://claim/a/b")
    assert "defaultPipelineRoot" not in spec  # the cluster's own, in which nothing will lie
    of = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {step.removesuffix("_executor") for step in of} == set(STEPS)
    for each in of.values():
        (mount,) = each["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("claim", "/branchline-volume")
    for step in STEPS:
        assert "--volume=/branchline-volume/a/b" in container_of(spec, step)["args"]
    checkpoints = constant_of(spec, "BranchTrainer", "checkpoint_dir")
    assert checkpoints == "/branchline-volume/a/b/checkpoints/mixed"
    destination = constant_of(spec, "Pusher", "push_destination")
    assert "/branchline-volume/a/b/serving/mixed" in destination


def test_minio_brings_the_secret_and_the_search_for_the_clusters_own(compile_):
    root = "--pipeline-root=minio://mlpipeline/v2/artifacts"
    spec, platform = compile_(IMAGE, root)
    of = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    secret = of["Pusher_executor"]["secretAsEnv"][0]
    assert secret["secretName"] == "mlpipeline-minio-artifact"
    assert "env" not in container_of(spec, "Pusher")
    assert "--cluster_store" in container_of(spec, "Pusher")["args"]
    named, _ = compile_(IMAGE, root, "--s3-endpoint=http://minio.store:9000")
    [variable] = container_of(named, "Pusher")["env"]
    assert variable == {"name": "AWS_ENDPOINT_URL", "value": "http://minio.store:9000"}
    assert "--cluster_store" not in container_of(named, "Pusher")["args"]
    amazon, *_ = compile_(IMAGE, ROOT)
    assert "--cluster_store" not in container_of(amazon, "Pusher")["args"]


def test_a_roots_query_is_for_the_launcher_alone(compile_):
    root = "s3://bucket/root?region=eu-1&endpoint=http://s3.example.com/x"
    spec, *_ = compile_(IMAGE, f"--pipeline-root={root}")
    assert spec["defaultPipelineRoot"] == root
    destination = constant_of(spec, "Pusher", "push_destination")
    assert '"s3://bucket/root/serving/mixed"' in destination


def test_a_recipe_file_is_looked_for_in_the_image(compile_, own_recipe):
    own_model = "\n\ndef build_model(recipe, inputs):\n    import own_layers\n"
    own_recipe.write_text(RECIPE + own_model)
    own_recipe.with_name("own_layers.py").write_text("")
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    files = recipe_files(own_recipe)
    assert set(files) == {"", "own_layers.py"}
    for step in STEPS:
        arguments = container_of(spec, step)["args"]
        assert "--recipe_file=/recipes/own.py" in arguments
        assert f"--recipe_files={json.dumps(files)}" in arguments
    assert constant_of(spec, "BranchTrainer", "recipe_file") == "/recipes/own.py"
    assert spec["pipelineInfo"]["name"] == "own-recipe"
    elsewhere, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}", "--recipe-in-image=/x/y.py")
    assert constant_of(elsewhere, "BranchTrainer", "recipe_file") == "/x/y.py"


def test_a_recipe_file_that_no_step_reads_need_not_be_in_the_image(compile_, own_recipe):
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    assert not any("recipe_file" in each for each in container_of(spec, "Router")["args"])


@pytest.mark.parametrize(
    ("arguments", "runner"),
    [
        (["--runner=flink", "--beam-arg=--flink_master=f:8081"], "FlinkRunner"),
        (["--runner=spark", "--beam-arg=--spark_master_url=spark://s:7077"], "SparkRunner"),
        (
            [
                "--runner=dataflow",
                "--beam-arg=--project=p",
                "--beam-arg=--region=r",
                "--beam-arg=--temp_location=gs://b/t",
            ],
            "DataflowRunner",
        ),
    ],
)
def test_beam_workers_elsewhere_read_artifacts_where_they_lie(compile_, arguments, runner):
    spec, *_ = compile_(IMAGE, "--pipeline-root=gs://bucket/root", *arguments)
    router, trainer = (container_of(spec, step)["args"] for step in ("Router", "BranchTrainer"))
    assert f"--runner={runner}" in router
    assert "--sdk_container_image=reg/branchline:1" in router
    assert "--artifacts=remote" in router
    assert "--artifacts=local" in trainer
    # What the recipe writes itself would lie on the disk of the ingestion step alone.
    assert "defaultValue" not in spec["root"]["inputDefinitions"]["parameters"]["data"]


def test_beam_runs_within_the_step_unless_told_otherwise(compile_):
    spec, *_ = compile_(IMAGE, ROOT, "--beam-arg=--direct_num_workers=3")
    arguments = container_of(spec, "Router")["args"]
    assert any(each.endswith("FnApiRunner") for each in arguments)
    assert arguments[-1] == "--direct_num_workers=3"
    assert "--artifacts=local" in arguments


def test_a_recipes_records_in_a_store_are_the_default(compile_, own_recipe):
    own_recipe.write_text(RECIPE.replace("routing=", 'data="s3://bucket/records", routing='))
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    declared = spec["root"]["inputDefinitions"]["parameters"]
    assert declared["data"]["defaultValue"] == "s3://bucket/records"


def test_settings_come_through_a_containers_command_as_they_are(compile_, own_recipe):
    """Where Kubernetes expands variables and makes one dollar of two, and Argo fills in names."""
    own_recipe.write_text(
        RECIPE.replace('when.present("x")', r'when.equals("p", "$$ $(LEVEL) \\$$ {{x}} {{{")')
    )
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}", "--env=LEVEL=1")
    for step in ("Router", "BranchTrainer", "BranchEvaluator", "Transform"):
        inputs = json.dumps(tasks_of(spec)[step]["inputs"])
        assert "u0024" in inputs and expanded(inputs, {"LEVEL": "1"}) == inputs
        assert "u007b" in inputs and "{{" not in inputs
    routing = from_json(constant_of(spec, "Router", "routing"))
    assert routing.routes[0].condition == when.equals("p", r"$$ $(LEVEL) \$$ {{x}} {{{")


@pytest.mark.parametrize("distinct", [False, True], ids=["same keys", "keys of their own"])
@pytest.mark.parametrize("routes", [16, 100, 300])
def test_a_pipeline_of_many_routes_fits_into_arguments(compile_, own_recipe, routes, distinct):
    """Kubeflow starts a run with all tasks and their settings in one, a step with its inputs."""
    own_recipe.write_text(MANY_ROUTES % {"routes": routes, "distinct": distinct})
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    for text in [
        json.dumps(spec["root"]),
        *(json.dumps(task["inputs"]) + json.dumps(parameters) for task in tasks_of(spec).values()),
        *(argument for step in STEPS for argument in container_of(spec, step)["args"]),
    ]:
        assert len(text.encode()) < LONGEST_ARGUMENT


def test_packed_settings_are_what_the_steps_get(compile_, own_recipe):
    own_recipe.write_text(MANY_ROUTES % {"routes": 100, "distinct": True})
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    arguments = {step: container_of(spec, step)["args"] for step in spec["components"]}

    def packed(step):
        return unpack(argument_of(arguments[step], "--packed_parameters"))

    assert len(json.loads(packed("Router")["routing"])["routes"]) == 100
    for step in ("Router", "RouteStatistics"):
        assert not packed(step).keys() & tasks_of(spec)[step]["inputs"]["parameters"].keys()
        assert not packed(step).keys() & spec["components"][step]["inputDefinitions"]["parameters"]
    with pytest.raises(RecipeError, match="expected one of the routes route0"):
        check_values({"thresholds": '{"b": {"auc": 1}}'}, spec)
    carried = json.loads(argument_of(arguments["ImportSchemaGen"], "--carried_file"))
    assert unpack(carried["packed"]).count("feature {") == 100 * 7 + 1  # and `_route`


def test_the_command_says_what_it_wrote(tmp_path):
    command = [sys.executable, str(REPO / "run_kubeflow.py"), "compile", IMAGE, ROOT]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "wrote mixed.yaml: 12 steps, parameters data, steps, thresholds\n"
    assert (tmp_path / "mixed.yaml").exists()
