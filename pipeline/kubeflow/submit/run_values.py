"""Checks what a run gives the parameters of a recipe's pipeline, before anything is uploaded."""

from collections.abc import Mapping
from typing import Any

from branchline.components.branch_evaluator.read_thresholds import read_thresholds
from branchline.pipeline.kubeflow.packing import settings_of
from branchline.schemas import RecipeError, RoutingTable, from_json
from branchline.schemas.errors import check_int


def check_values(values: Mapping[str, Any], spec: dict[str, Any]) -> None:
    """Rejects values that a step would fail on, hours later where it comes after the training.

    Args:
        values: Of parameters, each of its type.
        spec: Of the pipeline; one of another kind than a recipe's takes any values.

    Raises:
        RecipeError: `data` is a path that no container has, `steps` no number of steps, or
            `thresholds` are not those of the pipeline's routes.
    """
    tasks = spec["root"]["dag"]["tasks"]
    if "data" in values and "DataFingerprint" in tasks:
        _check_data(values["data"], bool(settings_of(spec, "MixedExampleGen").get("recipe_file")))
    if "steps" in values and "BranchTrainer" in tasks:
        check_int("--parameter steps", values["steps"])
    if "thresholds" in values and "BranchEvaluator" in tasks:
        routing = _routing(settings_of(spec, "BranchEvaluator").get("routing"))
        if routing is not None:
            read_thresholds(values["thresholds"], routing)


def _check_data(data: str, writes_own: bool) -> None:
    if not data and not writes_own:
        raise RecipeError("--parameter data: got '', but the recipe writes no records of its own")
    if data and "://" not in data and not data.startswith(("/", "[")):
        raise RecipeError(
            f"--parameter data: got {data!r}, a path on this machine; expected s3://…, gs://…, "
            "minio://…, a path on a mounted --volume, or a JSON list of these"
        )


def _routing(text: Any) -> RoutingTable | None:
    try:
        routing = from_json(text)
    except (TypeError, KeyError, ValueError):  # edited, or of another version of branchline
        return None
    return routing if isinstance(routing, RoutingTable) else None
