"""Adds the options of `submit` to a parser; imports nothing heavy."""

import argparse
import math

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"  # kfp's own name for it
TOKEN_VARIABLE = "BRANCHLINE_KFP_TOKEN"


def add_submit_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `submit` understands; there is no option for the token itself.

    Whoever may list the processes of a machine reads their command lines.
    """
    parser.add_argument("pipeline", metavar="PIPELINE.yaml", help="what `compile` wrote")
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host",
        metavar="URL",
        help="address of the Kubeflow Pipelines API, of a whole Kubeflow it ends with /pipeline "
        f"(default: the environment variable {HOST_VARIABLE})",
    )
    server.add_argument(
        "--namespace", help="the profile to run in, where Kubeflow has several users"
    )
    tokens = server.add_mutually_exclusive_group()
    tokens.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file with a bearer token, read anew for every request; or put the token into the "
        f"environment variable {TOKEN_VARIABLE}. No option takes the token itself: other "
        "users of a machine can read command lines",
    )
    tokens.add_argument(
        "--service-account-token",
        nargs="?",
        const="",
        metavar="PATH",
        help="inside the cluster: the token that Kubernetes projects into the pod (default PATH: "
        "as in kfp, KF_PIPELINES_SA_TOKEN_PATH or /var/run/secrets/kubeflow/pipelines/token)",
    )
    server.add_argument(
        "--ca-cert", metavar="FILE", help="certificate authority of the server, PEM"
    )
    server.add_argument(
        "--retries",
        type=_count,
        default=5,
        metavar="N",
        help="how often a request is repeated after 5xx and lost connections (default: 5)",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--parameter",
        action="append",
        default=[],
        dest="parameters",
        metavar="NAME=VALUE",
        help="gives a parameter of the pipeline another value than its default",
    )
    run.add_argument("--run-name", metavar="NAME", help="default: the pipeline's name and the time")
    run.add_argument("--experiment", metavar="NAME", help="default: the pipeline's name")
    run.add_argument(
        "--version-name",
        metavar="NAME",
        help="of the uploaded pipeline version (default: the pipeline's name and a content hash)",
    )
    run.add_argument(
        "--service-account", metavar="NAME", help="Kubernetes service account of the run's pods"
    )
    run.add_argument(
        "--pipeline-root",
        metavar="URI",
        help="where artifacts of this run go, in a store of the kind that the pipeline was "
        "compiled for (default: where it was compiled to put them); models are pushed where they "
        "were compiled to go",
    )
    run.add_argument(
        "--no-cache", action="store_true", help="runs every step, also what has not changed"
    )
    run.add_argument(
        "--wait", action="store_true", help="follows the run; exit code 1 when it fails"
    )
    run.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="with --wait: stops waiting then, with exit code 1; the run goes on",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of seconds above 0")
    return seconds
