"""Reads a compiled pipeline as Kubeflow's driver does: where each input of a task comes from.

Facts: resolveInputs and getFingerPrint in backend/src/v2/driver, addImplicitDependencies in
backend/src/v2/compiler/argocompiler of https://github.com/kubeflow/pipelines, read at 2.17.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from kfp_step import Step
from kfp_stores import go_json

_TYPES = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def load_spec(path: Path) -> tuple[dict, dict]:
    """The pipeline spec, and executor label → what Kubernetes is to add to its container."""
    spec, *others = yaml.safe_load_all(Path(path).read_text())
    platforms = others[0]["platforms"] if others else {}
    executors = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return spec, executors


def producers(task_spec: dict) -> set[str]:
    """Tasks that must have ended: those named, and those whose outputs are inputs."""
    given = task_spec.get("inputs", {})
    sources = [*given.get("parameters", {}).values(), *given.get("artifacts", {}).values()]
    outputs = [s.get("taskOutputParameter") or s.get("taskOutputArtifact") for s in sources]
    return {o["producerTask"] for o in outputs if o} | set(task_spec.get("dependentTasks", []))


def upstream(dag: dict, tasks: set[str]) -> set[str]:
    """These tasks and all that they wait for."""
    more = set().union(*(producers(dag[task]) for task in tasks)) | tasks
    return tasks if more == tasks else upstream(dag, more)


def pipeline_parameters(spec: dict, given: Mapping[str, object]) -> dict[str, object]:
    """The parameters of a run: those given, and defaults.

    Raises:
        ValueError: One is not known, has no value or one of another type.
    """
    definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if unknown := given.keys() - definitions.keys():
        raise ValueError(f"parameters that the pipeline has not: {sorted(unknown)}")
    values = {name: d.get("defaultValue") for name, d in definitions.items()} | dict(given)
    for name, definition in definitions.items():
        if values[name] is None and not definition.get("isOptional"):
            raise ValueError(f"parameter {name!r} has no value")
        if values[name] is not None:
            values[name] = _checked("pipeline", name, values[name], definition)
    return values


def _checked(task: str, name: str, value, definition: dict):
    """Anything can be text; else the type must fit."""
    kind = definition.get("parameterType", "STRING")
    if kind == "STRING":
        if value is None:
            return ""
        return value if isinstance(value, str) else go_json(value)
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
        raise ValueError(f"{task}: input parameter {name!r}: expect {kind}, got {value!r}")
    return value


def fingerprint(executor_input: dict, component: dict, container: dict) -> str:
    """The key under which a cache knows a step."""
    inputs, outputs = executor_input["inputs"], executor_input["outputs"]
    definitions = component.get("outputDefinitions", {}).get("parameters", {})
    key = {
        "inputArtifactNames": {
            name: [artifact["name"] for artifact in each["artifacts"]]
            for name, each in inputs["artifacts"].items()
        },
        "inputParameterValues": inputs["parameterValues"],
        "outputArtifactsSpec": {
            name: [artifact["type"] for artifact in each["artifacts"]]
            for name, each in outputs["artifacts"].items()
        },
        "outputParametersSpec": {name: d["parameterType"] for name, d in definitions.items()},
        "containerSpec": [container["image"], container["command"], container.get("args", [])],
    }
    return hashlib.sha256(go_json(key).encode()).hexdigest()


def resolve_inputs(
    task: str,
    task_spec: dict,
    component: dict,
    values: Mapping[str, object],
    steps: Mapping[str, Step],
    artifact_of: Callable[[str], dict],
) -> dict:
    """The inputs of an ExecutorInput.

    Args:
        task: Its name.
        task_spec: Says where each input comes from.
        component: Says of what type a parameter is.
        values: The run's parameters.
        steps: What has ended.
        artifact_of: An artifact's name → as a consumer is given it.

    Raises:
        ValueError: A parameter has no value or one of another type.
    """
    given = task_spec.get("inputs", {})
    parameters, artifacts = {}, {}
    for name, source in given.get("parameters", {}).items():
        if "componentInputParameter" in source:
            parameters[name] = values[source["componentInputParameter"]]
        elif "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            producer = steps[output["producerTask"]]
            parameters[name] = producer.parameters[output["outputParameterKey"]]
        else:
            parameters[name] = source["runtimeValue"]["constant"]
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    parameters = {
        name: _checked(task, name, value, definitions.get(name, {}))
        for name, value in parameters.items()
        if value is not None
    }
    for name, definition in definitions.items():
        if name in parameters or definition.get("isOptional"):
            continue
        if "defaultValue" not in definition:
            raise ValueError(f"{task}: neither value nor default value for parameter {name!r}")
        # Then the driver converts the value that it has not, nil, to the type.
        parameters[name] = _checked(task, name, None, definition)
    for name, source in given.get("artifacts", {}).items():
        output = source["taskOutputArtifact"]
        artifact = steps[output["producerTask"]].artifacts[output["outputArtifactKey"]]
        artifacts[name] = {"artifacts": [artifact_of(artifact)]}
    return {"parameterValues": parameters, "artifacts": artifacts}


def secret_variables(
    task: str, config: dict, secrets: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """The environment variables that a platform spec takes from secrets.

    Raises:
        ValueError: A secret or a key of it is not there.
    """
    variables = {}
    for taken in config.get("secretAsEnv", []):
        name = taken["secretName"]
        if name not in secrets and not taken.get("optional"):
            raise ValueError(f"{task}: secret {name!r} not found")
        secret = secrets.get(name, {})
        for each in taken["keyToEnv"]:
            if each["secretKey"] in secret:
                variables[each["envVar"]] = secret[each["secretKey"]]
            elif not taken.get("optional"):
                raise ValueError(f"{task}: no key {each['secretKey']!r} in secret {name!r}")
    return variables
