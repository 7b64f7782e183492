"""Compiling for Kubeflow: what is in the YAML, and what is refused before there is one."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import golden_pipelines
import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_step import expanded

from branchline.components.code_version import file_hash
from branchline.pipeline.kubeflow.arguments import read_arguments
from branchline.pipeline.kubeflow.main import main
from branchline.pipeline.kubeflow.packing import unpack
from branchline.pipeline.kubeflow.run_values import check_values
from branchline.pipeline.kubeflow.write_pipeline import write_pipeline
from branchline.schemas import RecipeError, from_json, when
from branchline.schemas.resources import STEPS

REPO = Path(__file__).parent.parent
IMAGE, ROOT = "--image=reg/branchline:1", "--pipeline-root=s3://bucket/root"
RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, when

recipe = Recipe(
    name="Own_Recipe",
    routing=RoutingTable(
        Route("a", when.present("x"), features={"x": Numeric()}, label="y", task="regression")
    ),
)
"""
MANY_ROUTES = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, when

recipe = Recipe(
    name="many",
    routing=RoutingTable(
        *[
            Route(
                f"route{i}",
                when.present(f"x{i}_0"),
                features={f"x{i}_{k}": Numeric() for k in range(8)},
                label=f"label{i}",
                task="regression",
            )
            for i in range(24)
        ]
    ),
)
"""


@pytest.fixture
def compile_(tmp_path):
    def compile_(*arguments):
        path = tmp_path / "pipeline.yaml"
        write_pipeline(read_arguments(["compile", *arguments, f"--output={path}"]))
        return list(yaml.safe_load_all(path.read_text()))

    return compile_


@pytest.fixture
def own_recipe(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(RECIPE)
    return path


def tasks_of(spec):
    return spec["root"]["dag"]["tasks"]


def argument_of(arguments, name):
    return next(a for a in arguments if a.startswith(f"{name}=")).partition("=")[2]


def container_of(spec, step):
    return spec["deploymentSpec"]["executors"][f"{step}_executor"]["container"]


def constant_of(spec, step, name):
    return tasks_of(spec)[step]["inputs"]["parameters"][name]["runtimeValue"]["constant"]


@pytest.mark.parametrize("name", golden_pipelines.PIPELINES)
def test_pipelines_compile_to_the_golden_ones(name):
    compiled = golden_pipelines.compile_yaml(golden_pipelines.PIPELINES[name])
    golden = (golden_pipelines.GOLDEN / f"{name}.yaml").read_text()
    assert compiled == golden, "if so intended: uv run python tests/golden_pipelines.py"


@pytest.mark.parametrize("name", golden_pipelines.PIPELINES)
def test_kfp_loads_them_and_they_are_valid(name):
    text = (golden_pipelines.GOLDEN / f"{name}.yaml").read_text()
    spec, *platforms = yaml.safe_load_all(text)
    assert set(components.load_component_from_text(text).pipeline_spec.components) == set(
        spec["components"]
    )
    # Strict: an unknown field is an error.
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    deployment: Any = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(spec["deploymentSpec"], deployment)
    assert set(deployment.executors) == {c["executorLabel"] for c in spec["components"].values()}
    for document in platforms:
        json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())


def test_what_kubernetes_is_to_add_has_only_fields_that_the_oldest_driver_knows():
    """That of 2.0 to 2.4.0 reads it strictly (backend/src/v2/cmd/driver/main.go)."""
    text = (golden_pipelines.GOLDEN / "kfp_volume.yaml").read_text()
    _, platform = yaml.safe_load_all(text)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    mounts = [mount for each in executors for mount in each["pvcMount"]]
    secrets = [secret for each in executors for secret in each.get("secretAsEnv", ())]
    assert {key for mount in mounts for key in mount} == {"constant", "mountPath"}
    assert {key for secret in secrets for key in secret} == {"secretName", "keyToEnv"}


@pytest.mark.e2e
def test_the_newest_kfp_loads_them_and_they_are_valid_there(tmp_path):
    """In an environment of its own, with the schema of what Kubernetes adds."""
    script = tmp_path / "check.py"
    script.write_text("""
import sys
import tempfile
import kfp, yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

for path in sys.argv[1:]:
    text = open(path).read()
    spec, *platforms = yaml.safe_load_all(text)
    kfp.components.load_component_from_text(text)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    for document in platforms:
        for each in document["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            json_format.ParseDict(each, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    print("valid with", kfp.__version__)
""")
    goldens = [str(golden_pipelines.GOLDEN / f"{name}.yaml") for name in golden_pipelines.PIPELINES]
    command = ["uv", "run", "--no-project", "--isolated", "--python", "3.11"]
    command += ["--with", "kfp>=2.17", "--with", "kfp-kubernetes", "python", str(script), *goldens]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.count("valid with 2.") == len(goldens), ran.stderr


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
    own_recipe.write_text(RECIPE + "\n\ndef build_model(recipe, inputs):\n    return None\n")
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    for step in STEPS:
        arguments = container_of(spec, step)["args"]
        assert "--recipe_file=/recipes/own.py" in arguments
        assert f"--recipe_hash={file_hash(own_recipe)}" in arguments
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pipeline-root=runs/x"], "runs/x is a path on this machine"),
        (["--pipeline-root=/data/root"], "is a path on this machine"),
        (["--pipeline-root=ftp://x/y"], "ftp://, which no step can read"),
        (["--pipeline-root=volume://Claim/x"], "'Claim', expected the name of a persistent"),
        (["--backend=vertex"], "Vertex AI needs gs://"),
        (
            ["--pipeline-root=gs://b/r", "--backend=vertex", "--volume=c:/x"],
            "Vertex AI has neither",
        ),
        (["--pipeline-root=gs://b/r", "--backend=vertex", "--secret=A=b/c"], "secrets is of Kube"),
        (["--data=records/"], "--data records/ is a path on this machine"),
        (["--data=/elsewhere/x", "--volume=c:/data"], "mounted --volume (/data)"),
        (["--serving-dir=serving"], "--serving-dir serving is a path on this machine"),
        (["--volume=c"], "expected CLAIM:/ABSOLUTE/PATH"),
        (["--pipeline-root=s3://"], "--pipeline-root s3:// names no bucket; expected s3://BUCKET"),
        (["--pipeline-root=s3:///x"], "--pipeline-root s3:///x names no bucket"),
        (["--pipeline-root=gs://a b/x"], "--pipeline-root gs://a b/x names no bucket"),
        (["--pipeline-root=volume://c/../../etc"], "expected a path without .."),
        (["--data=s3://"], "--data s3:// names no bucket"),
        (["--data=/data/../etc", "--volume=c:/data"], "expected a path without .."),
        (["--volume=a.b:/x"], "'a.b', expected the name of a persistent volume claim (a-z"),
        (["--volume=c:/"], "--volume c:/: expected CLAIM:/ABSOLUTE/PATH"),
        (["--volume=c:/x:ro"], "expected CLAIM:/ABSOLUTE/PATH"),
        (["--volume=c:/x", "--volume=c:/y"], "--volume c:/y: c is mounted at /x already"),
        (["--volume=c:/x", "--volume=d:/x/"], "the same path: c at /x, d at /x"),
        (
            ["--pipeline-root=volume://c", "--volume=d:/branchline-volume"],
            "the same path: c at /branchline-volume, d at /branchline-volume",
        ),
        (["--s3-endpoint=seaweed:8333"], "got 'seaweed:8333', expected http(s)://HOST[:PORT]"),
        (["--data=minio://b/x"], "s3:// and minio:// together"),
        (["--set=resources.Router.gpus=1"], "only BranchTrainer can use one"),
        (['--set=resources.*.tolerations=["gpu"]'], "expected <key>:<effect>"),
        (['--set=resources.*.tolerations="gpu:NoSchedule"'], "expected a list of str"),
        (["--step-image=Ruter=x"], "no step 'Ruter'"),
        (["--secret=A=b"], "expected <secret>/<key>"),
        (["--secret=A"], "--secret A: expected [STEP:]VARIABLE="),
        (["--gpus=-1"], "Resources.gpus: got -1"),
        (["--gpu-type=amd.com/gpu"], "--gpu-type amd.com/gpu: no GPU is asked for; add --gpus N"),
        (["--gpus=1", "--gpu-type=NVIDIA_TESLA_T4"], "such as --gpu-type nvidia.com/gpu"),
        (
            ["--backend=vertex", "--pipeline-root=gs://b/r", "--gpus=1", "--gpu-type=amd.com/gpu"],
            "amd.com/gpu is not of --backend vertex",
        ),
        (
            [
                "--backend=vertex",
                "--pipeline-root=gs://b/r",
                '--set=resources.Router.node_selector={"a": "b"}',
            ],
            "Vertex AI has none; leave it out with --set 'resources.Router.node_selector={}', or",
        ),
        (["--set=resources.Router.node_selector.pool=1"], 'as in {"pool": "1"}'),
        (["--image="], "--image: got '', expected REGISTRY/NAME:TAG"),
        (["--image=reg/a b"], "--image: got 'reg/a b'"),
        (["--step-image=Router=https://reg/a:1"], "Resources.image: got 'https://reg/a:1'"),
        (["--secret=A B=c/d"], "got 'A B', expected the name of an environment variable"),
        (["--secret=A=b_c/d"], "got 'b_c/d', expected <secret>/<key>"),
        (
            ["--secret=A=b/c", "--env=A=1"],
            "got 'A', expected one that is not from the secret b/c, too",
        ),
        (["--recipe-in-image=recipes/x.py"], "expected an absolute path"),
        (["--runner=flink"], "needs --beam-arg=--flink_master="),
        (
            ["--runner=flink", "--beam-arg=--flink_master=f:1"],
            "TensorFlow on its workers cannot read s3://bucket/root",
        ),
        (["--beam-arg=workers=3"], "expected --beam-arg=--NAME=VALUE"),
        (["--output=/nowhere/x.yaml"], "cannot write to --output /nowhere/x.yaml"),
    ],
)
def test_what_cannot_run_there_is_refused_before_it_is_compiled(tmp_path, arguments, said):
    with pytest.raises(RecipeError) as caught:
        write_pipeline(
            read_arguments(["compile", IMAGE, ROOT, f"--output={tmp_path / 'x.yaml'}", *arguments])
        )
    assert said in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_recipes_path_of_records_is_not_on_the_cluster(compile_, own_recipe):
    own_recipe.write_text(RECIPE.replace("routing=", 'data="records", routing='))
    with pytest.raises(RecipeError, match="a path on this machine; give --data"):
        compile_(IMAGE, ROOT, f"--recipe={own_recipe}")


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


def test_a_pipeline_of_many_routes_fits_into_arguments(compile_, own_recipe):
    """Linux has 128 KiB for one; Kubeflow starts a run with all tasks and their settings in one."""
    own_recipe.write_text(MANY_ROUTES)
    spec, *_ = compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    arguments = {step: container_of(spec, step)["args"] for step in spec["components"]}
    texts = [json.dumps(spec["root"]), *(a for given in arguments.values() for a in given)]
    assert max(len(text) for text in texts) < 128 * 1024

    def packed(step):
        return unpack(argument_of(arguments[step], "--packed_parameters"))

    assert len(json.loads(packed("Router")["routing"])["routes"]) == 24
    for step in ("Router", "StatisticsGen"):
        assert not packed(step).keys() & tasks_of(spec)[step]["inputs"]["parameters"].keys()
        assert not packed(step).keys() & spec["components"][step]["inputDefinitions"]["parameters"]
    with pytest.raises(RecipeError, match="expected one of the routes route0"):
        check_values({"thresholds": '{"b": {"auc": 1}}'}, spec)
    carried = json.loads(argument_of(arguments["ImportSchemaGen"], "--carried_file"))
    assert unpack(carried["packed"]).count("feature {") == 24 * 9 + 1


def test_settings_that_no_container_can_be_started_with_are_refused(compile_, own_recipe):
    isin = 'when.isin("x", [hex(i * 0x9E3779B97F4A7C15 %% 2**64) for i in range(%d)])'
    own_recipe.write_text(RECIPE.replace('when.present("x")', isin % 1_000))
    compile_(IMAGE, ROOT, f"--recipe={own_recipe}")
    own_recipe.write_text(RECIPE.replace('when.present("x")', isin % 9_000))
    with pytest.raises(RecipeError, match=r"settings of 1\d\d,\d{3} bytes; a container's argument"):
        compile_(IMAGE, ROOT, f"--recipe={own_recipe}")


def test_an_output_that_is_a_directory_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "pipelines").mkdir()
    with pytest.raises(RecipeError, match="cannot write to --output .*: Is a directory"):
        write_pipeline(read_arguments(["compile", IMAGE, ROOT, f"--output={tmp_path}/pipelines"]))
    assert [path.name for path in tmp_path.iterdir()] == ["pipelines"]


def test_errors_are_one_line_and_exit_code_2(capfd):
    assert main(["compile", IMAGE, "--pipeline-root=runs"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("run_kubeflow: error: --pipeline-root runs is a path on this machine")
    assert error.count("\n") == 1


def test_the_command_says_what_it_wrote(tmp_path):
    command = [sys.executable, str(REPO / "run_kubeflow.py"), "compile", IMAGE, ROOT]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "wrote mixed.yaml: 12 steps, parameters data, steps, thresholds\n"
    assert (tmp_path / "mixed.yaml").exists()
