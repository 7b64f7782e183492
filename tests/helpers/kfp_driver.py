"""Runs a compiled pipeline step by step on this machine, as Kubeflow Pipelines would.

Facts: resolveInputs, getFingerPrint and reuseCachedOutputs in backend/src/v2/driver, and
backend/src/v2/compiler/argocompiler of https://github.com/kubeflow/pipelines, read at 2.17.
"""

import concurrent.futures
import itertools
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kfp_launcher import Launcher
from kfp_spec import (
    fingerprint,
    load_spec,
    pipeline_parameters,
    producers,
    resolve_inputs,
    secret_variables,
    upstream,
)
from kfp_step import Step, launch


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
        values = pipeline_parameters(spec, parameters or {})
        name = spec["pipelineInfo"]["name"]
        number = next(self._number)
        root = self.launcher.root.rstrip("/")
        run = Run(f"{root}/{name}/{uuid.uuid4()}", self.launcher)
        waiting = {task: dag[task] for task in dag if not until or task in upstream(dag, until)}
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
        if "importer" in executor:
            return self._import(task, component, executor["importer"], run)
        if "container" not in executor:
            raise ValueError(f"{task}: {', '.join(executor)} is not implemented")
        container = executor["container"]
        config = platform.get(label, {})
        task_root = f"{run.root}/{task}/{uuid.uuid4()}"
        executor_input = {
            "inputs": resolve_inputs(
                task, task_spec, component, values, run.steps, self.launcher.artifact
            ),
            "outputs": self.launcher.provision(
                task_root, task, component.get("outputDefinitions", {})
            ),
        }
        cached = task_spec.get("cachingOptions", {}).get("enableCache", False)
        key = (spec["pipelineInfo"]["name"], fingerprint(executor_input, component, container))
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

    def _import(self, task: str, component: dict, importer: dict, run: Run) -> Step:
        """Records files that are there as an artifact (importer.go in backend/src/v2/component)."""
        (output,) = component["outputDefinitions"]["artifacts"]
        artifact = {
            "name": str(uuid.uuid4()),
            "type": importer["typeSchema"],
            "uri": importer["artifactUri"]["constant"],
            "metadata": importer.get("metadata", {}),
        }
        return Step(task, True, {}, {output: self.launcher.publish(run.root, output, artifact)}, {})

    def _environment(self, task: str, container: dict, config: dict) -> dict[str, str]:
        """Nothing of this process, but its Python first on PATH as in an image."""
        home = self._work_dir / "homes" / f"{task}-{uuid.uuid4()}"
        home.mkdir(parents=True)
        given = {each["name"]: each["value"] for each in container.get("env", [])}
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            **self._variables,
            **given,
            **secret_variables(task, config, self._secrets),
        }
