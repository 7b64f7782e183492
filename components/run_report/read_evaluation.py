"""Reads what an evaluation says of each route: BranchEvaluator's, or that of TFX's Evaluator."""

import os
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

    routes = {}
    for slice_key, metrics in tfma.load_eval_result(uri).slicing_metrics:
        if len(slice_key) != 1 or slice_key[0][0] != "_route":
            continue
        values = _values(metrics)
        count = values.pop("example_count", None)
        examples = None if count is None else int(count)
        routes[slice_key[0][1]] = {"examples": examples, "metrics": values}
    return {"routes": dict(sorted(routes.items()))} if routes else None


def _values(metrics: dict[str, dict[str, dict[str, Any]]]) -> dict[str, float]:
    """Metric → value; with the output and the class before it where there are such.

    >>> _values({"": {"": {"auc": {"doubleValue": 0.5}, "plot": {"bytesValue": ""}}}})
    {'auc': 0.5}
    >>> _values({"a": {"classId:1": {"auc": {"doubleValue": 0.5}}}})
    {'a/classId:1/auc': 0.5}
    """
    return {
        "/".join(part for part in (output, sub_key, name) if part): float(value["doubleValue"])
        for output, by_sub_key in metrics.items()
        for sub_key, by_name in by_sub_key.items()
        for name, value in by_name.items()
        if "doubleValue" in value
    }
