"""Judges a route's figures against its thresholds and against the baseline's figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from branchline.schemas.metrics import Bound, higher_is_better


@dataclass(frozen=True)
class Check:
    """One bound on one metric of a route, and whether the model's value holds it."""

    metric: str
    kind: str  # "threshold" or "regression"
    least: float | None
    greatest: float | None
    value: float | None
    holds: bool


def judge(
    figures: Mapping[str, float],
    thresholds: Mapping[str, Bound],
    baseline: Mapping[str, float] | None = None,
    max_regression: float = 0.05,
) -> list[Check]:
    """Checks every threshold, and that no metric with one fell behind the baseline.

    Args:
        figures: Metric → the model's value. One that is missing or not finite holds no bound.
        thresholds: Metric → its bound.
        baseline: Metric → the baseline's value; a metric it has no finite value of is not compared.
        max_regression: The share of the baseline's value by which the model may be worse.

    >>> judge({"auc": 0.9}, {"auc": Bound(least=0.8)}, {"auc": 0.97})[1].holds
    False
    """
    checks = []
    for metric, bound in thresholds.items():
        checks.append(_check(metric, "threshold", bound, figures))
        allowed = _allowed(metric, bound, (baseline or {}).get(metric), max_regression)
        if allowed is not None:
            checks.append(_check(metric, "regression", allowed, figures))
    return checks


def _allowed(
    metric: str, bound: Bound, baseline: float | None, max_regression: float
) -> Bound | None:
    """Bounds the metric by the baseline's value; None when no side is known to be the bad one."""
    if baseline is None or not math.isfinite(baseline):
        return None
    better = higher_is_better(metric)
    if better is None and (bound.least is None) != (bound.greatest is None):
        better = bound.greatest is None
    if better is None:
        return None
    slack = max_regression * abs(baseline)
    return Bound(least=baseline - slack) if better else Bound(greatest=baseline + slack)


def _check(metric: str, kind: str, bound: Bound, figures: Mapping[str, float]) -> Check:
    value = figures.get(metric, math.nan)
    finite = math.isfinite(value)
    return Check(
        metric=metric,
        kind=kind,
        least=bound.least,
        greatest=bound.greatest,
        value=value if finite else None,
        holds=finite and bound.holds(value),
    )
