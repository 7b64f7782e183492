"""Runs a compiled pipeline step by step on this machine, as Kubeflow Pipelines would.

Facts: resolveInputs, getFingerPrint and reuseCachedOutputs in backend/src/v2/driver, and
backend/src/v2/compiler/argocompiler of https://github.com/kubeflow/pipelines, read at 2.17.
"""

import concurrent.futures
import hashlib
import itertools
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from kfp_launcher import Launcher
from kfp_step import Step, launch
from kfp_stores import go_json

_TYPES = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


@dataclass
class Run:
    """A finished run."""

    root: str
    launcher: Launcher = field(repr=False)
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def executed(self) -> set[str]:
        """Tasks whose container ran."""
        return {task for task, step in self.steps.items() if step.executed}

    def artifact(self, task: str, output: str) -> dict:
        """As a consumer is given it."""
        return self.launcher.artifact(self.steps[task].artifacts[output])


class Kubeflow:
    """A Kubeflow Pipelines without a cluster.

    Args:
        launcher: How files and what is known of them come into containers.
        work_dir: For working directories and logs.
        secrets: Name → key → value, for containers whose platform spec takes variables from them.
        variables: What each container's image would set, beyond PATH and HOME.
        workers: How many steps run at once.
    """

    def __init__(
        self,
        launcher: Launcher,
        work_dir: Path,
        *,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        variables: Mapping[str, str] | None = None,
        workers: int = 2,
    ):
        self.launcher = launcher
        self._work_dir = work_dir
        self._secrets = secrets or {}
        self._variables = variables or {}
        self._workers = workers
        self._cache: dict[tuple[str, str], Step] = {}
        self._number = itertools.count(1)

    def run(
        self,
        path: Path,
        parameters: Mapping[str, object] | None = None,
        until: set[str] | None = None,
    ) -> Run:
        """Runs the pipeline in a file.

        Args:
            path: The compiled pipeline.
            parameters: Those of the run.
            until: Only these tasks, and what they wait for.

        Raises:
            StepFailed: A container failed; steps that ran at the same time have ended.
            ValueError: The file or a parameter is not what Kubeflow takes.
        """
        spec, platform = load_spec(path)
        dag = spec["root"]["dag"]["tasks"]
        values = _pipeline_parameters(spec, parameters or {})
        name = spec["pipelineInfo"]["name"]
        number = next(self._number)
        root = self.launcher.root.rstrip("/")
        run = Run(f"{root}/{name}/{uuid.uuid4()}", self.launcher)
        waiting = {task: dag[task] for task in dag if not until or task in _upstream(dag, until)}
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            running = {}
            while waiting or running:
                for task in [t for t in waiting if producers(waiting[t]) <= run.steps.keys()]:
                    args = (spec, platform, task, waiting.pop(task), values, run, number)
                    running[pool.submit(self._run_task, *args)] = task
                if not running:
                    raise ValueError(f"tasks wait for each other: {sorted(waiting)}")
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    run.steps[running.pop(future)] = future.result()
        return run

    def _run_task(self, spec, platform, task, task_spec, values, run, number) -> Step:
        component = spec["components"][task_spec["componentRef"]["name"]]
        label = component["executorLabel"]
        executor = spec["deploymentSpec"]["executors"][label]
        if "container" not in executor:
            raise ValueError(f"{task}: {', '.join(executor)} is not implemented")
        container = executor["container"]
        config = platform.get(label, {})
        task_root = f"{run.root}/{task}/{uuid.uuid4()}"
        executor_input = {
            "inputs": self._inputs(task, task_spec, component, values, run),
            "outputs": self.launcher.provision(
                task_root, task, component.get("outputDefinitions", {})
            ),
        }
        cached = task_spec.get("cachingOptions", {}).get("enableCache", False)
        key = (spec["pipelineInfo"]["name"], _fingerprint(executor_input, component, container))
        if cached and key in self._cache:
            earlier = self._cache[key]
            inputs = executor_input["inputs"]
            return Step(task, False, inputs, earlier.artifacts, earlier.parameters)
        step = launch(
            self.launcher,
            task,
            run_root=run.root,
            task_root=task_root,
            component=component,
            container=container,
            executor_input=executor_input,
            environment=self._environment(task, container, config),
            work_dir=self._work_dir / f"run{number}" / task,
        )
        if cached:
            self._cache[key] = step
        return step

    def _inputs(self, task, task_spec, component, values, run: Run) -> dict:
        given = task_spec.get("inputs", {})
        parameters, artifacts = {}, {}
        for name, source in given.get("parameters", {}).items():
            if "componentInputParameter" in source:
                parameters[name] = values[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                output = source["taskOutputParameter"]
                producer = run.steps[output["producerTask"]]
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
            optional = definition.get("isOptional") or "defaultValue" in definition
            if name not in parameters and not optional:
                raise ValueError(f"{task}: neither value nor default value for parameter {name!r}")
        for name, source in given.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            artifact = run.artifact(output["producerTask"], output["outputArtifactKey"])
            artifacts[name] = {"artifacts": [artifact]}
        return {"parameterValues": parameters, "artifacts": artifacts}

    def _environment(self, task: str, container: dict, config: dict) -> dict[str, str]:
        """Nothing of this process, but its Python first on PATH as in an image."""
        home = self._work_dir / "home"
        home.mkdir(parents=True, exist_ok=True)
        variables = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            **self._variables,
        }
        variables |= {each["name"]: each["value"] for each in container.get("env", [])}
        for taken in config.get("secretAsEnv", []):
            name = _constant(taken, "secretName")
            if name not in self._secrets and not taken.get("optional"):
                raise ValueError(f"{task}: secret {name!r} not found")
            secret = self._secrets.get(name, {})
            for each in taken["keyToEnv"]:
                if each["secretKey"] in secret:
                    variables[each["envVar"]] = secret[each["secretKey"]]
                elif not taken.get("optional"):
                    raise ValueError(f"{task}: no key {each['secretKey']!r} in secret {name!r}")
        return variables


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


def _upstream(dag: dict, tasks: set[str]) -> set[str]:
    more = set().union(*(producers(dag[task]) for task in tasks)) | tasks
    return tasks if more == tasks else _upstream(dag, more)


def _pipeline_parameters(spec: dict, given: Mapping[str, object]) -> dict:
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
        return value if isinstance(value, str) else go_json(value)
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
        raise ValueError(f"{task}: input parameter {name!r}: expect {kind}, got {value!r}")
    return value


def _constant(config: dict, name: str) -> str:
    """A setting of the platform spec in its newer or its older form."""
    newer = config.get(f"{name}Parameter", {}).get("runtimeValue", {})
    return newer.get("constant") or config[name]


def _fingerprint(executor_input: dict, component: dict, container: dict) -> str:
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
