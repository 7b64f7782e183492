"""Compiling for Kubeflow: what is refused before there is a YAML."""

import pytest
from builders_compile import IMAGE, RECIPE, ROOT
from builders_compile import compile_ as compile_
from builders_compile import own_recipe as own_recipe

from branchline.pipeline.kubeflow.arguments import read_arguments
from branchline.pipeline.kubeflow.compile.write_pipeline import write_pipeline
from branchline.pipeline.kubeflow.main import main
from branchline.schemas import RecipeError


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
