"""Runs one step of a compiled pipeline in its container.

What runs the step is TFX's own container entrypoint, by its command line and in this process. Open-
source KFP gives other things than that expects; `differences` cures the data on the way in and out.
"""

import argparse
import json
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from branchline.components.files.artifact_paths import VOLUME_VARIABLE
from branchline.components.files.scratch import own_temporary_folder
from branchline.pipeline.explain import explain
from branchline.pipeline.kubeflow.packing import unpack
from branchline.pipeline.kubeflow.step import differences
from branchline.pipeline.kubeflow.step.check_step import (
    check_code,
    check_gpus,
    check_recipe,
    import_executor,
)
from branchline.pipeline.kubeflow.step.cluster_store import find_cluster_store
from branchline.schemas import BranchlineError

_TFX_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
_STORE_VARIABLE = "AWS_ENDPOINT_URL"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the step.

    Args:
        argv: The arguments; None for those of the process.

    Returns:
        The exit code: 0 ran, 1 failed, 2 the image does not fit the pipeline.
    """
    arguments, beam_args = _read_arguments(argv)
    _log_progress()
    if arguments.volume:
        os.environ[VOLUME_VARIABLE] = arguments.volume
    try:
        if arguments.recipe_file:
            check_recipe(arguments.recipe_file, arguments.recipe_files)
        import_executor(arguments.executor_class_path)
        import_executor("kfp.pipeline_spec.pipeline_spec_pb2.ExecutorInput")
        inputs = arguments.invocation.setdefault("inputs", {})
        parameters = inputs.setdefault("parameterValues", {})
        parameters |= arguments.packed_parameters
        check_code(arguments.executor_class_path, parameters)
        if arguments.gpus:
            check_gpus(arguments.gpus)
        if arguments.cluster_store:
            _set_store()
    except BranchlineError as error:
        print(f"branchline: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    try:
        with own_temporary_folder(), _carried(**arguments.carried_file or {}):
            run_step(arguments, beam_args)
    except Exception as error:
        traceback.print_exc()
        cause = explain(error).cause
        print(f"branchline: {arguments.executor_class_path} failed: {cause}", file=sys.stderr)
        return 1
    return 0


def run_step(arguments: argparse.Namespace, beam_args: Sequence[str]) -> None:
    """Cures what KFP gives, runs TFX's entrypoint on it, and cures what that leaves.

    Raises:
        Exception: Whatever the executor raises.
    """
    from tfx.dsl.io import fileio

    from branchline.pipeline.kubeflow.step import object_store

    object_store.register(beam_args)
    invocation = arguments.invocation
    remote = arguments.artifacts == "remote"
    differences.drop_unknown_outputs(invocation, arguments.outputs_spec)
    differences.set_artifact_types(invocation, arguments.inputs_spec, arguments.outputs_spec)
    differences.drop_null_parameters(invocation)
    differences.unwrap_metadata(invocation)
    uris = {} if remote else differences.use_local_paths(invocation, arguments.volume)
    differences.restore_input_directories(invocation)
    differences.make_output_directories(invocation)

    _run_tfx(arguments.executor_class_path, invocation, arguments.inputs_spec, beam_args)

    output_file = invocation["outputs"]["outputFile"]
    with fileio.open(output_file, "r") as file:
        output = json.loads(file.read())
    differences.restore_names(output, invocation)
    differences.restore_uris(output, uris)
    with fileio.open(output_file, "w") as file:
        file.write(json.dumps(output))
    if remote:
        differences.delete_output_markers(invocation)


def _run_tfx(
    class_path: str,
    invocation: dict[str, Any],
    inputs_spec: dict[str, Any],
    beam_args: Sequence[str],
) -> None:
    saved = sys.argv
    sys.argv = [
        _TFX_ENTRYPOINT,
        f"--executor_class_path={class_path}",
        f"--json_serialized_invocation_args={json.dumps(invocation)}",
        f"--json_serialized_inputs_spec_args={json.dumps(inputs_spec)}",
        *beam_args,
    ]
    try:
        # As `python -m` does, and what absl's flags need: the module as the program.
        runpy.run_module(_TFX_ENTRYPOINT, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise BranchlineError(f"TFX's entrypoint ended with exit code {end.code}") from end
    finally:
        sys.argv = saved


def _read_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="branchline.pipeline.kubeflow.step.entrypoint",
        description="Runs one step of a compiled pipeline. What is not named here goes to Beam.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--executor_class_path", required=True, help="import path of the class that is run")
    add(
        "--json_serialized_invocation_args",
        dest="invocation",
        type=_json,
        required=True,
        help="the ExecutorInput, as KFP's launcher puts it in for {{$}}",
    )
    add(
        "--json_serialized_inputs_spec_args",
        dest="inputs_spec",
        type=_json,
        required=True,
        help="the component's ComponentInputsSpec, with the types of artifacts",
    )
    add("--outputs_spec", type=_json, required=True, help="its ComponentOutputsSpec")
    add(
        "--artifacts",
        choices=["local", "remote"],
        default="local",
        help="whether the executor works on the launcher's files, or on URIs that workers can read",
    )
    add(
        "--carried_file",
        type=_json,
        help='{"path": …, "text": …} or {"path": …, "packed": …}, written before the step runs',
    )
    add(
        "--packed_parameters",
        type=unpack,
        default={},
        help="more parameterValues, as pack_settings leaves them",
    )
    add("--volume", help="directory on a mounted volume that takes the place of the object store")
    add("--gpus", type=int, default=0, help="how many accelerators the step holds")
    add(
        "--cluster_store",
        action="store_true",
        help=f"look for the object store of Kubeflow Pipelines, unless {_STORE_VARIABLE} names one",
    )
    add("--recipe_file", help="path of the recipe in the image, or recipe:NAME")
    add(
        "--recipe_files",
        type=_json,
        default={},
        help="hashes of the recipe's file and what it imports, when the pipeline was compiled",
    )
    return parser.parse_known_args(argv)


@contextmanager
def _carried(path: str = "", text: str = "", packed: str | None = None) -> Iterator[None]:
    """Has a file that travels with the pipeline where the step looks for it, while it runs."""
    if not path:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text if packed is None else unpack(packed))
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)


def _set_store() -> None:
    if not os.environ.get(_STORE_VARIABLE):
        os.environ[_STORE_VARIABLE] = find_cluster_store()


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"got {text[:100]!r}, expected a JSON object: {error}"
        ) from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"got {text[:100]!r}, expected a JSON object")
    return value


def _log_progress() -> None:
    """Prints what components report about themselves, as plain lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("branchline.progress")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # As in run_local.py: all is said and written, and left to end by itself the interpreter may
    # wait for threads of Beam and TensorFlow, or crash in their destructors.
    os._exit(code)
