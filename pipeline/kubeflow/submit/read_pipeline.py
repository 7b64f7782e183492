"""Reads a compiled pipeline and types the values given to its parameters."""

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from branchline.pipeline.kubeflow.packing import at
from branchline.pipeline.load_recipe import suggest
from branchline.schemas import RecipeError

_TASKS = ("root", "dag", "tasks")
_EXECUTORS = ("deploymentSpec", "executors")
_TABLES = (_TASKS, ("components",), _EXECUTORS)
_PARAMETERS = ("root", "inputDefinitions", "parameters")


@dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline file as Kubeflow takes it.

    Attributes:
        name: The pipeline's.
        content: The file, byte for byte.
        documents: The specification and, where it has one, the platform's part.
    """

    name: str
    content: bytes
    documents: list[dict[str, Any]]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that stand at the top."""
        return list(self.documents[0]["root"]["dag"]["tasks"])

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Name → type and default of the pipeline's parameters."""
        return at(self.documents[0], *_PARAMETERS) or {}

    @property
    def root(self) -> str:
        """Where its artifacts should lie; "" for the cluster's own root."""
        return str(self.documents[0].get("defaultPipelineRoot") or "")

    @property
    def root_scheme(self) -> str:
        """Scheme of the pipeline roots that its steps can reach; "" where any will do."""
        if b"branchline.pipeline.kubeflow.step.entrypoint" not in self.content:
            return ""
        if b"--volume=/" in self.content:
            return "volume"
        return self.root.partition("://")[0]

    @property
    def digest(self) -> str:
        """Names the content: SHA-256, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def without_cache(self) -> "CompiledPipeline":
        """The same pipeline, of which no task takes an earlier result.

        A run can say nothing about caching, only the pipeline that it runs can.
        """
        import yaml

        documents = copy.deepcopy(self.documents)
        for component in (documents[0]["root"], *documents[0]["components"].values()):
            for task in (at(component, "dag", "tasks") or {}).values():
                task["cachingOptions"] = {}
        content = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)
        return CompiledPipeline(self.name, content.encode(), documents)


def read_pipeline(path: str | Path) -> CompiledPipeline:
    """Reads what `compile` or kfp's compiler wrote.

    Raises:
        RecipeError: There is no such file, or it is no pipeline in kfp's YAML, or one for Vertex.
    """
    import yaml

    expected = "expected the YAML that `run_kubeflow.py compile --output` writes"
    try:
        content = Path(path).read_bytes()
        documents = list(yaml.load_all(content, _loader()))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; {expected}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        raise RecipeError(f"{path} is no YAML{line}; {expected}") from error
    if not documents or not isinstance(documents[0], dict):
        raise RecipeError(f"{path} is no pipeline; {expected}")
    if "pipelineSpec" in documents[0]:
        raise RecipeError(f"{path} is a job with a pipeline inside, as Vertex takes it; {expected}")
    spec = documents[0]
    for names in (("pipelineInfo", "name"), *_TABLES):
        if not at(spec, *names):
            raise RecipeError(f"{path} is no pipeline: it has no {'.'.join(names)}; {expected}")
    if not isinstance(spec["pipelineInfo"]["name"], str):
        raise RecipeError(f"{path} is no pipeline: pipelineInfo.name is no text; {expected}")
    inner = [(("components", name, "dag", "tasks")) for name in spec["components"]]
    for names in (*_TABLES, _PARAMETERS, *inner):
        _check_table(path, names, at(spec, *names), expected)
    if any("resolver" in executor for executor in at(spec, *_EXECUTORS).values()):
        raise RecipeError(
            f"{path} has resolvers, which Kubeflow Pipelines does not run: it was compiled with "
            "--backend vertex; compile it with --backend kfp"
        )
    others = documents[1:]
    if len(others) > 1 or not all(at(document, "platforms") for document in others):
        raise RecipeError(
            f"{path} is no pipeline: after the first document only one with `platforms` may "
            f"come; {expected}"
        )
    return CompiledPipeline(spec["pipelineInfo"]["name"], content, documents)


def type_parameters(
    assignments: Iterable[str], declared: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Types `NAME=VALUE`s as the pipeline declares its parameters.

    Returns:
        name → value, of those that were given.

    Raises:
        RecipeError: A name that the pipeline does not have, or twice; a value of another type; a
            parameter without a default is left out.

    >>> type_parameters(["steps=500"], {"steps": {"parameterType": "NUMBER_INTEGER"}})
    {'steps': 500}
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise RecipeError(f"--parameter {assignment}: expected NAME=VALUE, as in steps=500")
        if name not in declared:
            known = ", ".join(declared) or "none"
            hint = suggest(name, list(declared))
            raise RecipeError(
                f"--parameter {name}: the pipeline has no such parameter{hint} (it has: {known})"
            )
        if name in values:
            raise RecipeError(f"--parameter {name}: given twice")
        values[name] = _typed(name, text, declared[name])
    for name, declaration in declared.items():
        optional = "defaultValue" in declaration or declaration.get("isOptional")
        if name not in values and not optional:
            raise RecipeError(
                f"the pipeline's parameter {name} has no default: give --parameter {name}=VALUE"
            )
    return values


def _typed(name: str, text: str, declaration: Mapping[str, Any]) -> Any:
    kind = declaration.get("parameterType") or declaration.get("type")
    if kind == "STRING":
        return text
    if kind not in _EXPECTED:
        raise RecipeError(f"--parameter {name}: values of type {kind} cannot be given here")
    try:
        value = json.loads(text.lower() if kind == "BOOLEAN" else text)
    except ValueError:
        value = None
    types, expected = _EXPECTED[kind]
    fits = isinstance(value, types) and (kind == "BOOLEAN" or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise RecipeError(f"--parameter {name}: got {text!r}, expected {expected}")
    return value


_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "NUMBER_INTEGER": ((int,), "a whole number"),
    "INT": ((int,), "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "DOUBLE": ((int, float), "a number"),
    "BOOLEAN": ((bool,), "true or false"),
    "LIST": ((list,), 'a JSON list, as in ["a", "b"]'),
    "STRUCT": ((dict,), 'a JSON object, as in {"a": 1}'),
}


def _check_table(path: str | Path, names: tuple[str, ...], table: Any, expected: str) -> None:
    entries = table.values() if isinstance(table, dict) else [table]
    if table is not None and not all(isinstance(entry, dict) for entry in entries):
        raise RecipeError(
            f"{path} is no pipeline: {'.'.join(map(str, names))} is no table of tables; {expected}"
        )


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's reads ten times as fast
