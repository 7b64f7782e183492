"""Reads what an evaluation says of each route: BranchEvaluator's, or that of TFX's Evaluator."""

import os
from collections.abc import Collection
from typing import Any

from branchline.components.files.storage import exists, read_json


def read_evaluation(uri: str) -> dict[str, Any] | None:
    """The content of `evaluation.json`, or as much of it as TFMA's results say.

    Args:
        uri: Of a ModelEvaluation artifact.

    Returns:
        None if it says nothing of routes.
    """
    summary = os.path.join(uri, "evaluation.json")
    if exists(summary):
        return read_json(summary)
    if exists(os.path.join(uri, "eval_config.json")):
        return _of_tfma(uri)
    return None


def _of_tfma(uri: str) -> dict[str, Any] | None:
    """From TFX's Evaluator, if it slices by `_route` alone; other slices are passed over."""
    import tensorflow_model_analysis as tfma  # 3 s, and seldom needed

    models = tfma.load_eval_result(uri).config.model_specs
    if len(models) < 2:
        found, baseline = _by_route(tfma.load_eval_result(uri)), None
    else:
        by_model = {
            spec.is_baseline: _by_route(tfma.load_eval_result(uri, model_name=spec.name))
            for spec in models
        }
        found, baseline = by_model[False], by_model.get(True)
    routes = {}
    for route, metrics in sorted(found.items()):
        count = metrics.pop("example_count", None)
        routes[route] = {"examples": None if count is None else int(count), "metrics": metrics}
        if baseline:
            before = baseline.get(route, {})
            routes[route]["baseline"] = {name: before[name] for name in metrics if name in before}
    return {"routes": routes} if routes else None


def _by_route(result: Any) -> dict[str, dict[str, float]]:
    slices = {
        key[0][1]: metrics
        for key, metrics in result.slicing_metrics
        if len(key) == 1 and key[0][0] == "_route"
    }
    return {route: _values(metrics, route, slices) for route, metrics in slices.items()}


def _values(
    metrics: dict[str, dict[str, dict[str, Any]]], route: str, routes: Collection[str]
) -> dict[str, float]:
    """Metric → value, named as BranchEvaluator does; without other routes' outputs.

    >>> _values({"": {"": {"auc": {"doubleValue": 0.5}, "plot": {"bytesValue": ""}}}}, "r", ["r"])
    {'auc': 0.5}
    >>> auc = {"auc": {"doubleValue": 0.5}}
    >>> _values({"r": {"": auc}, "r/y": {"classId:1": auc}, "s": {"": auc}}, "r", ["r", "s"])
    {'auc': 0.5, 'y/classId:1/auc': 0.5}
    """
    values = {}
    for output, by_sub_key in metrics.items():
        whose, _, key = output.partition("/")
        if whose in routes and whose != route:
            continue
        place = key if whose == route else output
        for sub_key, by_name in by_sub_key.items():
            for name, value in by_name.items():
                if "doubleValue" in value:
                    path = "/".join(part for part in (place, sub_key, name) if part)
                    values[path] = float(value["doubleValue"])
    return values
