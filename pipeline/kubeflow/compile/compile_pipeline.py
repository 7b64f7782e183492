"""Compiles a recipe's pipeline to pipeline spec 2.1, for Kubeflow Pipelines v2 or Vertex AI.

TFX compiles it (KubeflowV2DagRunner); the functions here add what TFX leaves out.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.pipeline import Pipeline

from branchline.pipeline.kubeflow.compile.step_options import accelerator_type
from branchline.pipeline.kubeflow.packing import pack_settings
from branchline.schemas import RecipeError, Resources

Spec = dict[str, Any]

# Of Linux's 131 072 bytes, what remains beside the artifacts among a step's inputs.
_LONGEST_ARGUMENT = 110_000

_ENTRYPOINT = "branchline.pipeline.kubeflow.step.entrypoint"
_NO_PACKAGE = (
    "branchline: this image has no Python that can import branchline; build the image with "
    "branchline's Dockerfile and name it with --image when compiling"
)
# The test comes first because "No module named branchline" does not say what to do.
_COMMAND = [
    "sh",
    "-c",
    f'python -c "import branchline" 2>/dev/null || {{ echo "{_NO_PACKAGE}" >&2; exit 2; }}; '
    f'exec python -m {_ENTRYPOINT} "$@"',
    "--",
]


def compile_spec(pipeline: Pipeline, image: str) -> Spec:
    """Has TFX compile a pipeline, and mends what it leaves out.

    Args:
        pipeline: As `create_pipeline` makes it for a cluster.
        image: Of all steps.

    Returns:
        The PipelineSpec as JSON would hold it.
    """
    config = KubeflowV2DagRunnerConfig(
        default_image=image, default_commands=list(_COMMAND), use_pipeline_spec_2_1=True
    )
    spec = KubeflowV2DagRunner(config=config).run(pipeline, write_out=False)["pipelineSpec"]
    _name_producers(spec)
    _give_defaults(spec, pipeline)
    return spec


def compile_yaml(pipeline: Pipeline, image: str) -> str:
    """Compiles a pipeline of anybody's, with TFX's components and ours, to a file's text.

    Args:
        pipeline: With absolute paths that the cluster can read.
        image: Of all steps; has branchline, and the modules that the pipeline names.

    Raises:
        RecipeError: A step's settings are longer than a container's argument may be.
    """
    spec = compile_spec(pipeline, image)
    add_arguments(spec, {})
    escape_settings(spec)
    pack_settings(spec)
    check_sizes(spec)
    return yaml.safe_dump(spec, sort_keys=True, width=1000)


def _name_producers(spec: Spec) -> None:
    """Tasks that pass a parameter on are named as they are.

    TFX refers to them as `<id>_task` (step_builder.py), but names them `<id>`, so that no backend
    finds them: https://github.com/tensorflow/tfx/blob/v1.16.0/tfx/orchestration/kubeflow/v2/step_builder.py
    """
    for task in spec["root"]["dag"]["tasks"].values():
        for parameter in task.get("inputs", {}).get("parameters", {}).values():
            source = parameter.get("taskOutputParameter")
            if source:
                source["producerTask"] = source["producerTask"].removesuffix("_task")


def _give_defaults(spec: Spec, pipeline: Pipeline) -> None:
    """Pipeline parameters have their defaults; TFX writes these for spec 2.0 only."""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for component in pipeline.components:
        for value in component.exec_properties.values():
            if isinstance(value, RuntimeParameter) and value.default is not None:
                declared[value.name] |= {"defaultValue": value.default, "isOptional": True}


def never_cache(spec: Spec, *steps: str) -> None:
    """Makes steps run every time, as what they look at is not among their inputs."""
    for step in steps:
        if step in spec["root"]["dag"]["tasks"]:
            spec["root"]["dag"]["tasks"][step].pop("cachingOptions", None)


def add_arguments(spec: Spec, arguments: Mapping[str, list[str]]) -> None:
    """Gives steps arguments for the entrypoint, and all of them the types of their outputs.

    Args:
        spec: Is changed.
        arguments: Step → arguments.
    """
    for step, container in containers(spec).items():
        outputs = spec["components"][step].get("outputDefinitions", {})
        own = [f"--outputs_spec={json.dumps(outputs, sort_keys=True)}", *arguments.get(step, [])]
        # After TFX's: --executor_class_path, the invocation and the types of the inputs.
        container["args"][6:6] = own


def escape_settings(spec: Spec) -> None:
    """Writes the steps' inputs that are JSON, as most settings are, as nothing on the way changes.

    KFP's driver puts a step's inputs into its container's command, in which Kubernetes makes `$` of
    `$$` and a variable's value of `$(NAME)`: https://github.com/kubeflow/pipelines/issues/10370
    Argo, through whose workflow they come, fills in `{{workflow.name}}` and evaluates `{{=…}}`.
    """
    for task in spec["root"]["dag"]["tasks"].values():
        for parameter in task.get("inputs", {}).get("parameters", {}).values():
            value = parameter.get("runtimeValue", {})
            text = value.get("constant")
            if isinstance(text, str) and text.startswith(("{", "[")):
                value["constant"] = escaped(text)


def escaped(text: str) -> str:
    r"""JSON that says the same without `$` and `{{`, which it has in strings only.

    >>> print(escaped('{"price": "$$", "name": "{{x}}"}'))
    {"price": "\u0024\u0024", "name": "{\u007bx}}"}
    """
    return text.replace("$", r"\u0024").replace("{{", r"{\u007b")


def check_sizes(spec: Spec) -> None:
    """Rejects a pipeline of which a container could not start, for reasons that packing.py gives.

    Raises:
        RecipeError: What the recipe gives a step, or all steps together, is longer.
    """
    for step, container in containers(spec).items():
        parameters = spec["root"]["dag"]["tasks"][step].get("inputs", {}).get("parameters", {})
        for text in (json.dumps(parameters), *container["args"]):
            if len(text.encode()) > _LONGEST_ARGUMENT:
                raise RecipeError(
                    f"the recipe gives the step {step} settings of {len(text.encode()):,} bytes; "
                    f"a container's argument holds {_LONGEST_ARGUMENT:,} at most. Shorten lists of "
                    "values in the routes' conditions, or the schema"
                )
    size = len(json.dumps(spec["root"]).encode())
    if size > _LONGEST_ARGUMENT:
        raise RecipeError(
            f"the recipe gives all steps together settings of {size:,} bytes; the argument with "
            f"which Kubeflow starts a run holds {_LONGEST_ARGUMENT:,} at most. Shorten names, or "
            "make fewer routes"
        )


def add_resources(spec: Spec, resources: Mapping[str, Resources], backend: str) -> None:
    """Gives steps their limits, accelerators, images and environment.

    Args:
        spec: Is changed.
        resources: Step → what it gets.
        backend: "kfp" or "vertex"; they name accelerators differently.
    """
    for step, container in containers(spec).items():
        given = resources[step]
        limits: Spec = {}
        if given.cpu is not None:
            limits["cpuLimit"] = float(given.cpu)
        if given.memory is not None:
            limits["memoryLimit"] = float(given.memory)
        if given.gpus:
            limits["accelerator"] = {
                "type": accelerator_type(given, backend),
                "count": str(given.gpus),
            }
        if limits:
            container["resources"] = limits
        if given.image:
            container["image"] = given.image
        if given.env:
            container["env"] = [{"name": k, "value": v} for k, v in sorted(given.env.items())]


def containers(spec: Spec) -> dict[str, Spec]:
    """Step → its container; not of a resolver, which has none."""
    executors = spec["deploymentSpec"]["executors"]
    found = {
        step: executors[component["executorLabel"]].get("container")
        for step, component in spec["components"].items()
    }
    return {step: container for step, container in found.items() if container}
