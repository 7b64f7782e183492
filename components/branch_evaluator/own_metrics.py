"""Configures the metrics of our own: of shapes, lists, quantiles, items, and classes in order."""

import json
from typing import Any

from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.by_class import FIGURES, ByClass
from branchline.components.branch_evaluator.item_rows import OF_ITEMS
from branchline.components.branch_evaluator.quadratic_kappa import QuadraticKappa
from branchline.components.branch_evaluator.quantile_rows import OF_QUANTILES
from branchline.components.branch_evaluator.row_mean import OF_ROW, RowMean
from branchline.schemas.errors import RecipeError
from branchline.schemas.targets import Target

_KAPPA = "quadratic_weighted_kappa"
_OF_SHAPES = ("exact_match", "dice")


def own_metric(name: str, target: Target, where: str) -> config_pb2.MetricConfig | None:
    """Configures a metric that neither TFMA nor Keras has; None where `name` is none of these.

    Raises:
        RecipeError: It is not one for such a target.
    """
    if target.top_k:
        if name not in OF_ITEMS:
            refuse(name, where, f"items have {', '.join(OF_ITEMS)}")
        return row_mean(name, OF_ITEMS[name].__name__)
    if name in _OF_SHAPES:
        _check_shape(name, target, where)
        return row_mean(name, name)
    if target.is_set and name in FIGURES:
        return by_class(name)
    if name in OF_QUANTILES:
        if not target.quantiles:
            refuse(name, where, 'it needs task="quantile"')
        return row_mean(name, name, quantiles=target.quantiles)
    if name != _KAPPA:
        return None
    if target.task != "ordinal":
        refuse(name, where, 'it needs task="ordinal"')
    return config_pb2.MetricConfig(
        class_name=QuadraticKappa.__name__,
        module=QuadraticKappa.__module__,
        config=json.dumps({"name": name}),
    )


def by_class(name: str) -> config_pb2.MetricConfig:
    """Configures one of `by_class.FIGURES` over all classes, or the table of all."""
    return config_pb2.MetricConfig(
        class_name=ByClass.__name__,
        module=ByClass.__module__,
        config=json.dumps({"name": name, "figure": name}),
    )


def row_mean(name: str, of: str, **settings: Any) -> config_pb2.MetricConfig:
    """Configures the mean over the examples of a function, see `RowMean`."""
    assert of in OF_ROW or of in OF_QUANTILES
    return config_pb2.MetricConfig(
        class_name=RowMean.__name__,
        module=RowMean.__module__,
        config=json.dumps({"name": name, "of": of} | settings),
    )


def refuse(name: str, where: str, why: str, cause: Exception | None = None) -> None:
    """Raises a RecipeError about the metric `name` of the label that `where` names."""
    raise RecipeError(f"metric {name!r} cannot be computed for the {where}: {why}") from cause


def _check_shape(name: str, target: Target, where: str) -> None:
    if not target.label_shape:
        refuse(name, where, "it needs a target with a shape")
    if name == "dice" and target.task != "binary" or target.is_number:
        refuse(name, where, "it needs a binary target" + " or classes" * (name != "dice"))
