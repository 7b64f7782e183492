"""Finds the TFMA or Keras metric that a recipe means by a name."""

import difflib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils.keras_lib import tf_keras

from branchline.components.branch_evaluator.auc import Auc
from branchline.components.branch_evaluator.own_metrics import own_metric, refuse, row_mean
from branchline.components.branch_evaluator.try_metric import try_metric
from branchline.schemas.errors import RecipeError
from branchline.schemas.metrics import DEFAULT_METRICS
from branchline.schemas.route import Route
from branchline.schemas.routes import RoutingTable
from branchline.schemas.targets import Target

_ACCURACY = {"binary": "BinaryAccuracy"} | dict.fromkeys(
    ("multiclass", "ordinal"), "SparseCategoricalAccuracy"
)
# TFMA's own default is 10 000 since 0.26, Keras's is 200; named here so that it stays.
_SETTINGS = {"AUCPrecisionRecall": {"num_thresholds": 10_000}}
# Class → our function of a row. TFMA's own means of errors add the first of several bundles twice:
# their merge_accumulators goes over a sequence after taking `next(iter(sequence))` (0.47 to 0.52).
_OF_ROW = {
    "BinaryAccuracy": "accuracy",
    "SparseCategoricalAccuracy": "accuracy",
    "MeanAbsoluteError": "absolute_error",
    "MeanAbsolutePercentageError": "absolute_percentage_error",
    "MeanSquaredError": "squared_error",
    "MeanSquaredLogarithmicError": "squared_logarithmic_error",
    "RootMeanSquaredError": "squared_error",
}
_UNWEIGHTED = ("example_count", "mean_label", "mean_prediction")  # our own, see `evaluate.py`
_ABSTRACT = ("Loss", "MeanMetricWrapper", "Metric", "Reduction")


def metric_names(
    route: Route, thresholds: Mapping[str, Any] | None, metrics: Iterable[str] | None
) -> dict[str, tuple[str, ...]]:
    """Names what is reported for `route`: the defaults, what is asked for, what is bounded.

    Args:
        route: The route.
        thresholds: Metric → its bound, for this route.
        metrics: Further metrics of this route.

    Returns:
        Label → its metrics, without the label's name.

    Raises:
        RecipeError: A name has no target of the route in front.
    """
    found = {key: list(default_metrics(target)) for key, target in route.labels.items()}
    for name in (*(metrics or ()), *(thresholds or ())):
        key, metric = _split(name, route)
        found[key].append(metric)
    return {key: tuple(dict.fromkeys(names)) for key, names in found.items()}


def default_metrics(target: Target) -> tuple[str, ...]:
    """Names what is reported for a target when a recipe asks for nothing more.

    >>> default_metrics(Target("binary", shape=(5,)))
    ('auc', 'accuracy', 'exact_match')
    """
    names = DEFAULT_METRICS[target.task]
    names += ("exact_match",) if target.shape and not target.is_number else ()
    return (*names, "dice") if target.loss == "dice" else names


def _split(name: str, route: Route) -> tuple[str, str]:
    if route.label is not None:
        return route.label, name
    key, _, metric = name.rpartition("/")
    if key not in route.targets:
        example = route.metric(next(iter(route.targets)), metric)
        raise RecipeError(
            f"metric {name!r} of route {route.name!r}: expected one of a target, such as "
            f"{example!r}; the targets are {', '.join(route.targets)}"
        )
    return key, metric


def metric_config(name: str, route: Route, key: str) -> config_pb2.MetricConfig:
    """Configures the metric `name`, as `auc` or as `AUC`, for the label `key` of `route`.

    It has that name in TFMA's results too.

    A multiclass or ordinal label is an index, so `categorical_…` means `sparse_categorical_…`
    there; metrics of two classes (`auc`, `precision`, …) are taken over all (example, class) pairs,
    and `mean_absolute_error` of an ordinal one is in classes. Of a target with a shape they are all
    taken over the entries, but `exact_match` and `dice`; errors of quantiles over the one nearest
    to the median.

    Raises:
        RecipeError: No metric has that name, or it is not one for the label's task.
    """
    target, where = route.labels[key], _where(route, key)
    if route.weight and name in _UNWEIGHTED:
        refuse(name, where, "it says nothing of weights, and the route has one")
    own = own_metric(name, target, where)
    if own is not None:
        return own
    cls, module = _find(name, target, where)
    multiclass = target.is_multiclass
    if target.task == "ordinal" and cls == "MeanAbsoluteError":
        return row_mean(name, "class_distance")
    if target.quantiles and cls not in _OF_ROW:
        refuse(name, where, "it takes one number, and these are quantiles")
    if "Categorical" in cls and not multiclass:
        refuse(name, where, f"it needs a multiclass {_kind(route)}")
    if ("Binary" in cls or cls == "AUC") and target.is_number:
        refuse(name, where, f"it needs a binary or multiclass {_kind(route)}")
    in_tfma = cls in metric_types.registered_metrics() and not cls.endswith("Error")
    if multiclass and not in_tfma and not cls.startswith("Sparse"):
        # Keras would broadcast [batch, 1] labels over [batch, num_classes] and report nonsense.
        refuse(name, where, "it takes one-hot labels, and these are class indices")
    if cls in _OF_ROW and not (multiclass and cls == "BinaryAccuracy"):
        root = cls.startswith("Root")
        return row_mean(name, _OF_ROW[cls], root=root, quantiles=target.quantiles or ())
    settings = {"name": name} | _SETTINGS.get(cls, {})
    if cls == "AUC":
        cls, module = Auc.__name__, Auc.__module__
    return config_pb2.MetricConfig(class_name=cls, module=module, config=json.dumps(settings))


def check_metrics(
    routing: RoutingTable,
    thresholds: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Computes every metric of every route on a few made-up rows, in memory and without a model.

    Raises:
        RecipeError: A metric does not exist, or gives no number for the route's task; names the
            metric, the route and what was possibly meant.
    """
    for part in (thresholds or {}, metrics or {}):
        for name in part:
            if name not in routing.names:
                known = ", ".join(routing.names)
                raise RecipeError(f"route: got {name!r}, expected one of the routes {known}")
    for route in routing.routes:
        asked = (metrics or {}).get(route.name), (thresholds or {}).get(route.name)
        for key, names in metric_names(route, asked[1], asked[0]).items():
            target = route.labels[key]
            for name in names:
                config = metric_config(name, route, key)
                if name in default_metrics(target):
                    continue  # known to work; the first Keras metric of a process takes a second
                try:
                    try_metric(config, target, weighted=route.weight is not None)
                except Exception as error:  # whatever a metric's own code raises
                    why = str(error).strip().splitlines()[0]
                    refuse(name, _where(route, key), why, error)


def _where(route: Route, key: str) -> str:
    """Words the place of a label, as in "regression target 'price' of route 'houses'"."""
    task, place = route.labels[key].task, f"route {route.name!r}"
    return f"{task} target {key!r} of {place}" if route.targets else f"{task} {place}"


def _kind(route: Route) -> str:
    return "target" if route.targets else "route"


def _find(name: str, target: Target, where: str) -> tuple[str, str]:
    """Finds the class name and, for a Keras loss, the module."""
    key = _normal(name)
    if key == "accuracy":
        return _ACCURACY.get(target.task, "Accuracy"), ""
    known = _known()
    if key not in known:
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
        hint = f"; close to it: {', '.join(known[c][0] for c in close)}" if close else ""
        raise RecipeError(
            f"metric {name!r} of {where.partition(' ')[2]}: TFMA and Keras have none of that "
            f"name{hint}"
        )
    sparse = known.get("sparse" + key)
    return sparse if sparse and target.is_multiclass else known[key]


@cache
def _known() -> dict[str, tuple[str, str]]:
    """Normal name → class and, for a Keras loss, its module.

    Where several have one name, TFMA's metric comes before Keras's metric before Keras's loss.
    """
    known: dict[str, tuple[str, str]] = {}
    functions: dict[str, str] = {}
    for library, module in (
        (tf_keras.losses, tf_keras.losses.Loss.__module__),
        (tf_keras.metrics, ""),
    ):
        for name in dir(library):
            member = getattr(library, name)
            if isinstance(member, type) and name not in _ABSTRACT:
                known[_normal(name)] = (name, module)
            elif callable(member):  # `mse`, `MSE`: the function behind MeanSquaredError
                functions[_normal(name)] = _normal(getattr(member, "__name__", ""))
    for name in metric_types.registered_metrics():
        if _normal(name) not in ("binarycrossentropy", "categoricalcrossentropy"):  # miscounted too
            known[_normal(name)] = (name, "")
    aliases = {a: known[name] for a, name in functions.items() if a not in known and name in known}
    return known | aliases


def _normal(name: str) -> str:
    return name.replace("_", "").lower()
