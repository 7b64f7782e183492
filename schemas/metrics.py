"""Which way a metric is good, and the bounds a recipe sets on it."""

import re
from dataclasses import dataclass
from typing import Any

from branchline.schemas.errors import check_number, reject

# By task; what the Evaluator reports when a recipe asks for nothing more.
DEFAULT_METRICS = {
    "binary": ("auc", "accuracy"),
    "multiclass": ("accuracy",),
    "multilabel": ("auc", "precision", "recall"),
    "regression": ("mean_absolute_error", "root_mean_squared_error"),
    "count": ("mean_absolute_error", "root_mean_squared_error"),
    "ordinal": ("accuracy", "mean_absolute_error", "quadratic_weighted_kappa"),
    "quantile": ("pinball_loss", "coverage", "mean_absolute_error"),
    "retrieval": ("accuracy", "top_k_accuracy", "mean_reciprocal_rank"),
}
_LOWER_IS_BETTER = (
    "error",
    "loss",
    "crossentropy",
    "divergence",
    "poisson",
    "hinge",
    "brier",
    "huber",
    "log_cosh",
    "fall_out",
    "miss_rate",
    "false_discovery_rate",
    "false_omission_rate",
)
_HIGHER_IS_BETTER = (
    "auc",
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "sensitivity",
    "f1",
    "ndcg",
    "coefficient",
    "similarity",
    "squared_pearson_correlation",
    "predictive_value",
    "threat_score",
    "informedness",
    "markedness",
    "fowlkes_mallows",
    "exact_match",
    "kappa",
    "reciprocal_rank",
)
# Abbreviations that TFMA and Keras have as names of their own.
_SHORT: dict[str, bool] = dict.fromkeys(
    ("mae", "mape", "mse", "msle", "kld", "fpr", "fnr", "fp", "fn"), False
)
_SHORT |= dict.fromkeys(("tpr", "tnr", "ppv", "npv", "tp", "tn", "dice"), True)
_OF_CLASS = re.compile(r"(?:[^\[]*/)?(\w+)\[.*\]", re.DOTALL)


@dataclass(frozen=True)
class Bound:
    """The least and the greatest value a metric may take; None leaves that side open."""

    least: float | None = None
    greatest: float | None = None

    def __post_init__(self) -> None:
        if self.least is None and self.greatest is None:
            reject("Bound", (None, None), "a least or a greatest value, or both")
        for name in ("least", "greatest"):
            if getattr(self, name) is not None:
                check_number(f"Bound.{name}", getattr(self, name))

    def holds(self, value: float) -> bool:
        """Whether `value` is within the bound; NaN never is."""
        return (self.least is None or value >= self.least) and (
            self.greatest is None or value <= self.greatest
        )


def higher_is_better(metric: str) -> bool | None:
    """Which way `metric` is good, by its name; None when the name does not say.

    >>> [higher_is_better(name) for name in ("auc", "MeanAbsoluteError", "mse", "Mean")]
    [True, False, False, None]
    >>> higher_is_better("loss_of_hearing/accuracy")  # of a target
    True
    >>> higher_is_better("topics/auc[loss/error]")  # of a class
    True
    """
    of_class = _OF_CLASS.fullmatch(metric)
    name = of_class[1] if of_class else metric.rpartition("/")[2]
    name = name.lower().replace("_", "")
    if name in _SHORT:
        return _SHORT[name]
    if any(part.replace("_", "") in name for part in _LOWER_IS_BETTER):
        return False
    if any(part.replace("_", "") in name for part in _HIGHER_IS_BETTER):
        return True
    return None


def bound(where: str, metric: str, value: Any) -> Bound:
    """Reads a threshold: a number bounds the metric on its bad side.

    >>> bound("thresholds", "auc", 0.9)
    Bound(least=0.9, greatest=None)
    >>> bound("thresholds", "mean_absolute_error", 2.0)
    Bound(least=None, greatest=2.0)
    """
    if isinstance(value, Bound):
        return value
    check_number(where, value)
    better = higher_is_better(metric)
    if better is None:
        reject(where, value, "Bound(least=…) or Bound(greatest=…): the name does not say which")
    return Bound(least=value) if better else Bound(greatest=value)
