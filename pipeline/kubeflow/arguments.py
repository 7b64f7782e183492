"""Reads the command line of run_kubeflow.py; imports nothing heavy."""

import argparse

from branchline.pipeline.arguments import Parser
from branchline.pipeline.kubeflow.submit.submit_arguments import add_submit_arguments

RUNNERS = ("direct", "flink", "spark", "dataflow")

_EXAMPLES = """\
examples:
  python run_kubeflow.py compile --recipe mixed --image REG/branchline:1 \\
      --pipeline-root minio://mlpipeline/v2/artifacts --output mixed.yaml
  python run_kubeflow.py compile --recipe my/support.py --image REG/support:3 \\
      --pipeline-root s3://bucket/branchline --data s3://bucket/records \\
      --secret AWS_ACCESS_KEY_ID=s3-access/id --secret AWS_SECRET_ACCESS_KEY=s3-access/key \\
      --gpus 1 --set resources.BranchTrainer.memory=32 --output support.yaml
  python run_kubeflow.py compile --backend vertex --image REGION-docker.pkg.dev/… \\
      --pipeline-root gs://bucket/branchline --output mixed.yaml
  python run_kubeflow.py submit mixed.yaml --host https://kubeflow.example.com/pipeline --wait

exit codes:
  0 done   1 failed   2 wrong arguments, recipe or pipeline   130 interrupted
"""


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The options of run_kubeflow.py; exits with code 2 and one line where they are wrong."""
    parser = Parser(
        prog="run_kubeflow",
        description="Compiles a recipe's pipeline for Kubeflow Pipelines v2 or Vertex AI, and "
        "submits it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="compile|submit")
    compiling = commands.add_parser(
        "compile",
        help="write a recipe's pipeline as YAML",
        description="Writes a recipe's pipeline as YAML (pipeline spec 2.1). Its parameters data, "
        "steps and thresholds can be set for every run.",
        allow_abbrev=False,
    )
    _add_what(compiling)
    _add_where(compiling)
    _add_steps(compiling)
    submitting = commands.add_parser(
        "submit",
        help="upload a compiled pipeline to Kubeflow Pipelines and start a run",
        allow_abbrev=False,
    )
    add_submit_arguments(submitting)
    return parser.parse_args(argv)


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what")
    group.add_argument(
        "--recipe",
        default="mixed",
        metavar="NAME|FILE.py",
        help="a built-in recipe, or a file that defines one (default: mixed)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="FIELD=VALUE",
        help="changes a field of the recipe by its dotted name, also resources.STEP.FIELD",
    )
    group.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="files and folders of records that the cluster can read: s3://, gs://, minio://, or a "
        "path on a --volume; the default of the pipeline parameter `data`",
    )
    group.add_argument(
        "--recipe-in-image",
        metavar="PATH",
        help="where the image has a recipe file of your own (default: /recipes/<its name>)",
    )
    group.add_argument("--output", metavar="FILE.yaml", help="default: <recipe>.yaml")


def _add_where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    group.add_argument(
        "--backend",
        choices=("kfp", "vertex"),
        default="kfp",
        help="open-source Kubeflow Pipelines v2 (default), or Vertex AI Pipelines",
    )
    group.add_argument("--image", required=True, help="image of all steps, made by the Dockerfile")
    group.add_argument(
        "--pipeline-root",
        required=True,
        metavar="URI",
        help="where artifacts lie: s3://…, gs://…, minio://… or volume://CLAIM[/PATH]",
    )
    group.add_argument(
        "--serving-dir",
        metavar="URI",
        help="where blessed models are pushed (default: <pipeline root>/serving/<recipe>)",
    )
    group.add_argument(
        "--volume",
        action="append",
        default=[],
        dest="volumes",
        metavar="CLAIM:PATH",
        help="mounts a persistent volume claim in every step",
    )
    group.add_argument(
        "--s3-endpoint",
        metavar="URL",
        help="of an S3 that is not Amazon's (default with minio://: the one Kubeflow brought)",
    )


def _add_steps(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("steps")
    group.add_argument("--gpus", type=int, metavar="N", help="for the training step")
    group.add_argument(
        "--gpu-type",
        metavar="TYPE",
        help="default: nvidia.com/gpu, or NVIDIA_TESLA_T4 with --backend vertex",
    )
    group.add_argument(
        "--step-image",
        action="append",
        default=[],
        dest="step_images",
        metavar="STEP=IMAGE",
        help="another image for one step",
    )
    group.add_argument(
        "--secret",
        action="append",
        default=[],
        dest="secrets",
        metavar="[STEP:]VARIABLE=SECRET/KEY",
        help="an environment variable from a Kubernetes secret, for one step or all",
    )
    group.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="[STEP:]VARIABLE=VALUE",
        help="an environment variable, for one step or all; not for secrets",
    )
    group.add_argument(
        "--runner",
        choices=RUNNERS,
        default="direct",
        help="where the Beam pipelines run (default: within each step)",
    )
    group.add_argument(
        "--beam-arg",
        action="append",
        default=[],
        dest="beam_args",
        metavar="--NAME=VALUE",
        help="passed to every Beam pipeline, as in --beam-arg=--flink_master=flink:8081",
    )
    group.add_argument(
        "--no-cache", action="store_true", help="runs every step, also what has not changed"
    )
