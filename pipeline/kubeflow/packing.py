"""Packs long settings, so that they fit into the arguments of containers.

Linux has 128 KiB for an argument (MAX_ARG_STRLEN, https://man7.org/linux/man-pages/man2/execve.2.html).
Kubeflow Pipelines puts all inputs of a step into one, and all tasks of a pipeline with all their
settings into one of the container that starts a run (`--component` in backend/src/v2/compiler/
argocompiler/dag.go). Seven steps get the routing table; packed, it is 13 times shorter or more:
with 300 routes of 7 keys each, none shared, the longest argument is the schema's, of 14 KB.
"""

import base64
import json
import zlib
from typing import Any

_FLAG = "--packed_parameters="
LONGEST_READABLE = 8_000  # characters; what is shorter can be read in Kubeflow's pages


def pack(value: Any) -> str:
    """What JSON can hold, as printable text.

    >>> unpack(pack({"a": [1, "b"]}))
    {'a': [1, 'b']}
    """
    return base64.b64encode(zlib.compress(json.dumps(value).encode(), 9)).decode()


def unpack(text: str) -> Any:
    """What was packed."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def pack_settings(spec: dict[str, Any]) -> None:
    """Moves long constants from tasks' inputs to packed arguments of the steps' containers.

    An argument counts for the cache as an input does. The component no longer has the input, as
    Kubeflow would miss a value for it; its type stays in the arguments, from where TFX takes it.
    """
    for step, task in spec["root"]["dag"]["tasks"].items():
        parameters = task.get("inputs", {}).get("parameters", {})
        values = {
            name: source.get("runtimeValue", {}).get("constant")
            for name, source in parameters.items()
        }
        long = {k: v for k, v in values.items() if len(str(v)) > LONGEST_READABLE}
        component = spec["components"][step]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]].get("container")
        if not long or not container:
            continue
        for name in long:
            del parameters[name], component["inputDefinitions"]["parameters"][name]
        container["args"][6:6] = [f"{_FLAG}{pack(long)}"]


def settings_of(spec: dict[str, Any], step: str) -> dict[str, Any]:
    """The constants among a step's inputs, packed ones too; of a file that may have been edited."""
    parameters = at(spec, "root", "dag", "tasks", step, "inputs", "parameters") or {}
    found = {name: at(parameters, name, "runtimeValue", "constant") for name in parameters}
    label = at(spec, "components", step, "executorLabel")
    for argument in at(spec, "deploymentSpec", "executors", label, "container", "args") or []:
        if argument.startswith(_FLAG):
            found |= unpack(argument.removeprefix(_FLAG))
    return found


def at(tree: Any, *names: str) -> Any:
    """What lies in nested dicts under `names`, None where there is nothing.

    >>> at({"a": {"b": 1}}, "a", "b"), at({"a": [1]}, "a", "b")
    (1, None)
    """
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
