"""Sums an evaluation up as JSON: each route's figures, its checks, and whether all of them hold."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from branchline.components.branch_evaluator.evaluate_routes import Evaluation
from branchline.components.branch_evaluator.judge import Check, judge
from branchline.schemas import Bound


def summarize(
    evaluations: Mapping[str, Evaluation],
    thresholds: Mapping[str, Mapping[str, Bound]],
    max_regression: float,
    baseline: str | None = None,
) -> dict[str, Any]:
    """Judges every route; figures that are not finite numbers become None.

    Args:
        evaluations: Route → its figures.
        thresholds: Route → metric → its bound.
        max_regression: See `judge`.
        baseline: Where the model that was compared with is; for the reader.
    """
    routes = {
        name: _route(evaluation, thresholds.get(name, {}), max_regression)
        for name, evaluation in evaluations.items()
    }
    return {
        "blessed": all(check["holds"] for route in routes.values() for check in route["checks"]),
        "baseline": baseline,
        "routes": routes,
        "overall": {"examples": sum(route["examples"] for route in routes.values())},
    }


def write_summary(summary: Mapping[str, Any], path: str) -> None:
    """Writes the JSON under a temporary name and renames it, so that no part of it is ever read."""
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    part = f"{path}.part"
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(part, "w") as file:
        file.write(text + "\n")
    tf.io.gfile.rename(part, path, overwrite=True)


def _route(
    evaluation: Evaluation, thresholds: Mapping[str, Bound], max_regression: float
) -> dict[str, Any]:
    model, baseline = evaluation.model, evaluation.baseline
    checks = judge(
        model.metrics, thresholds, baseline.metrics if baseline else None, max_regression
    )
    notes = [evaluation.note] if evaluation.note else []
    if not math.isfinite(model.mean_prediction):
        # TFMA counts a NaN as "below every threshold", so AUC and accuracy look like numbers.
        checks.append(Check("mean_prediction", "threshold", None, None, None, False))
        notes.append("some predictions are not finite numbers")
    if "auc" in model.metrics and model.mean_label in (0, 1):
        notes.append(f"every label is {model.mean_label:.0f}, so the AUC says nothing")
    return {
        "examples": model.examples,
        "metrics": _finite(model.metrics),
        "baseline": _finite(baseline.metrics) if baseline else None,
        "checks": [dataclasses.asdict(check) for check in checks],
        "note": "; ".join(notes) or None,
    }


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
