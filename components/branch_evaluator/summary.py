"""Sums an evaluation up as JSON: each route's figures, its checks, and whether all of them hold."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from branchline.components.branch_evaluator.judge import Check, judge
from branchline.components.branch_evaluator.read_figures import Evaluation, Figures
from branchline.schemas import Bound, Route


def summarize(
    evaluations: Mapping[str, Evaluation],
    thresholds: Mapping[str, Mapping[str, Bound]],
    max_regression: float,
    baseline: str | None = None,
) -> dict[str, Any]:
    """Judges every route; figures that are not finite numbers become None.

    `confusion` has, of each label whose classes have names, these and how often which of them (a
    row of the counts) was predicted as which (a column).

    `weight` has the key of what weighs a route's examples, if there is one.

    A route without examples has no checks; a model that was evaluated on none is not blessed.
    "test" is empty: see `figures_alone`.

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
        "blessed": any(route["examples"] for route in routes.values())
        and all(check["holds"] for route in routes.values() for check in route["checks"]),
        "baseline": baseline,
        "routes": routes,
        "overall": {"examples": sum(route["examples"] for route in routes.values())},
        "test": {},
    }


def figures_alone(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """What was found in a split that decides on nothing, as `summarize` has it, without checks."""
    routes = {name: _route(evaluation, {}, 0) for name, evaluation in evaluations.items()}
    return {
        name: {key: route[key] for key in ("examples", "metrics", "note")}
        for name, route in routes.items()
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
    route = evaluation.route
    model = _by_metric(route, evaluation.model)
    baseline = _by_metric(route, evaluation.baseline) if evaluation.baseline else None
    checks = judge(model, thresholds, baseline, max_regression) if evaluation.examples else []
    notes = [evaluation.note] if evaluation.note else []
    confusion = {
        key: {"classes": list(route.labels[key].classes or ()), "counts": figures.confusion}
        for key, figures in evaluation.model.items()
        if figures.confusion
    }
    for key, figures in evaluation.model.items():
        if figures.examples and not math.isfinite(figures.mean_prediction):
            # TFMA counts a NaN as "below every threshold", so AUC and accuracy look like numbers.
            name = route.metric(key, "mean_prediction")
            checks.append(Check(name, "threshold", None, None, None, False))
        notes += [_of(route, key) + note for note in _notes(figures, evaluation.examples)]
    return {
        "examples": evaluation.examples,
        "metrics": _finite(model),
        "baseline": _finite(baseline) if baseline is not None else None,
        "checks": [dataclasses.asdict(check) for check in checks],
        **({"confusion": confusion} if confusion else {}),
        **({"weight": route.weight} if route.weight else {}),
        "note": "; ".join(notes) or None,
    }


def _by_metric(route: Route, by_label: Mapping[str, Figures]) -> dict[str, float]:
    return {
        route.metric(key, name): value
        for key, figures in by_label.items()
        for name, value in figures.metrics.items()
    }


def _of(route: Route, key: str) -> str:
    return f"{key}: " if route.targets else ""


def _notes(figures: Figures, examples: int) -> Iterator[str]:
    if figures.examples != examples:
        yield f"{figures.examples} of {examples} examples have this label"
    if figures.examples and not math.isfinite(figures.mean_prediction):
        yield "some predictions are not finite numbers"
    if "auc" in figures.metrics and figures.mean_label in (0, 1):
        yield f"every label is {figures.mean_label:.0f}, so the AUC says nothing"


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
