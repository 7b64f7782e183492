"""Runs one container of a compiled pipeline as a process, with what its launcher would give it.

Facts: executeV2, compileCmdAndArgs, collectOutputParameters and uploadOutputArtifacts in
backend/src/v2/component/launcher_v2.go of https://github.com/kubeflow/pipelines, read at 2.17.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from kfp_launcher import Launcher, StepFailed
from kfp_stores import go_json

ARTIFACT_FIELDS = {"name", "type", "uri", "properties", "customProperties", "metadata"}


@dataclass
class Step:
    """What became of a task."""

    task: str
    executed: bool  # or else taken from the cache
    inputs: dict  # the ExecutorInput's
    artifacts: dict[str, str]  # output → artifact's name
    parameters: dict[str, object]
    seconds: float = 0.0
    log: str = field(default="", repr=False)


def launch(
    launcher: Launcher,
    task: str,
    *,
    run_root: str,
    task_root: str,
    component: dict,
    container: dict,
    executor_input: dict,
    environment: dict[str, str],
    work_dir: Path,
) -> Step:
    """Runs a container's command on its inputs and publishes its outputs.

    Args:
        launcher: Moves files, records artifacts.
        task: Its name.
        run_root: URI below which all outputs of the run must lie.
        task_root: URI below which those of this task lie.
        component: The ComponentSpec.
        container: Image, command, args, env.
        executor_input: What `{{$}}` stands for.
        environment: All variables that the process has.
        work_dir: Becomes the process's empty working directory; its log lies beside it.

    Raises:
        StepFailed: The command failed, or its outputs are not what the launcher takes.
    """
    inputs = with_defaults(executor_input["inputs"], component)
    given = go_json({"inputs": inputs, "outputs": executor_input["outputs"]})
    command = [
        expanded(part.replace("{{$}}", given), environment)
        for part in container["command"] + container.get("args", [])
    ]
    work_dir.mkdir(parents=True)
    log = work_dir.with_suffix(".log")
    begin = time.monotonic()
    with launcher.files(task_root, executor_input):
        with log.open("w") as output:
            done = subprocess.run(
                command, cwd=work_dir, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        text = log.read_text(errors="replace")
        if done.returncode:
            raise StepFailed(f"{task} ended with code {done.returncode}:\n{text[-6000:]}")
        logs = executor_input["outputs"]["artifacts"].get("executor-logs")
        if logs:
            shutil.copyfile(log, str(launcher.path_of(logs["artifacts"][0])))
        written = _read_output(task, executor_input["outputs"]["outputFile"])
        parameters = _output_parameters(task, executor_input, component, written)
        names = {}
        for name, outputs in executor_input["outputs"]["artifacts"].items():
            artifact = deepcopy(outputs["artifacts"][0])
            own = written.get("artifacts", {}).get(name, {}).get("artifacts", [])
            if own and name != "executor-logs":
                _merge(own[0], artifact)
            names[name] = launcher.publish(run_root, name, artifact)
    return Step(task, True, inputs, names, parameters, time.monotonic() - begin, text)


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """A part of a container's command as Kubernetes changes it (Expand in package expansion)."""
    return re.sub(
        r"\$\$|\$\(([\w.-]+)\)",
        lambda found: environment.get(found[1], found[0]) if found[1] else "$",
        text,
    )


def with_defaults(inputs: dict, component: dict) -> dict:
    """The inputs and, as the launcher adds them, the component's own default values."""
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {n: d["defaultValue"] for n, d in definitions.items() if "defaultValue" in d}
    return inputs | {"parameterValues": defaults | inputs["parameterValues"]}


def _read_output(task: str, path: str) -> dict:
    """The ExecutorOutput; a field that the message has not is an error, as in Go."""
    if not Path(path).exists():
        return {}
    written = json.loads(Path(path).read_text())
    unknown = set(written) - {"parameters", "parameterValues", "artifacts"}
    for each in written.get("artifacts", {}).values():
        for artifact in each.get("artifacts", []):
            unknown |= set(artifact) - ARTIFACT_FIELDS - {"customPath"}
    if unknown:
        raise StepFailed(f"{task}: failed to unmarshall ExecutorOutput: {sorted(unknown)}")
    return written


def _output_parameters(task: str, executor_input: dict, component: dict, written: dict) -> dict:
    """From the ExecutorOutput, or else from the parameter's file."""
    values = dict(written.get("parameterValues", {}))
    for name, parameter in executor_input["outputs"]["parameters"].items():
        if name in values:
            continue
        kind = component["outputDefinitions"]["parameters"][name]["parameterType"]
        try:
            text = Path(parameter["outputFile"]).read_text()
        except OSError as error:
            raise StepFailed(f"{task}: failed to read output parameter {name!r}: {error}") from None
        values[name] = text if kind == "STRING" else json.loads(text)
    return values


def _merge(written: dict, artifact: dict) -> None:
    """What a step wrote of an artifact wins over what it was given."""
    if written.get("uri"):
        artifact["uri"] = written["uri"]
    if "metadata" in written:
        artifact["metadata"] = artifact.get("metadata", {}) | written["metadata"]
    if written.get("customPath"):
        artifact["customPath"] = written["customPath"]
