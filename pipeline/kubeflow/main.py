"""Compiles a recipe's pipeline for a cluster or submits one: what run_kubeflow.py does."""

import os
import sys
from argparse import Namespace

from branchline.pipeline.kubeflow.arguments import read_arguments
from branchline.schemas import BranchlineError, RecipeError


def main(argv: list[str] | None = None) -> int:
    """Runs what the command line says.

    Args:
        argv: The arguments; None for those of the process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong arguments, recipe or pipeline, 130 interrupted.
    """
    arguments = read_arguments(argv)
    try:
        return _compile(arguments) if arguments.command == "compile" else _submit(arguments)
    except BranchlineError as error:
        print(f"run_kubeflow: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, RecipeError) else 1
    except KeyboardInterrupt as stop:
        print("; ".join(["run_kubeflow: interrupted", *map(str, stop.args)]), file=sys.stderr)
        return 130
    except BrokenPipeError:  # who read the output has enough of it, as `head -1` has
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for what is flushed at the end
        return 1


def _compile(arguments: Namespace) -> int:
    from branchline.pipeline.logs import captured

    sys.argv = sys.argv[:1]  # TFX's Beam executors parse it for flags of their own
    with captured() as capture:  # what libraries say on import and in compiling
        try:
            from branchline.pipeline.kubeflow.compile.write_pipeline import write_pipeline

            written = write_pipeline(arguments)
        except ImportError as error:
            raise BranchlineError(
                f"{error}; compiling needs the extra kubeflow: uv sync --extra kubeflow"
            ) from error
        print(f"wrote {written.path}: {written.summary}", file=capture.out)
    return 0


def _submit(arguments: Namespace) -> int:
    from branchline.pipeline.kubeflow.submit.submit_pipeline import submit

    return submit(arguments, sys.stdout)
