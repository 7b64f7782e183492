"""Takes further metrics and slices out of an EvalConfig, as TFX's Evaluator would be given it."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.read_batch import ROUTE
from branchline.components.branch_evaluator.try_metric import can_compute
from branchline.schemas import RoutingTable, Target
from branchline.schemas.errors import reject

_WHERE = "BranchEvaluator.eval_config"


def read_eval_config(text: str | None) -> config_pb2.EvalConfig:
    """Reads it as `json_format` writes it; an empty one for None."""
    return json_format.Parse(text or "{}", config_pb2.EvalConfig())


def check_eval_config(config: config_pb2.EvalConfig, routing: RoutingTable) -> None:
    """Refuses what could not be computed, and what would be left out silently.

    Raises:
        RecipeError: It sets something else than slices and metrics, slices by no column of the
            routing table, or has a metric that suits no label.
    """
    _only(_WHERE, config, "model_specs", "slicing_specs", "metrics_specs")
    known = columns(routing)
    for slicing in config.slicing_specs:
        _only(f"{_WHERE}.slicing_specs", slicing, "feature_keys", "feature_values")
        for key in (*slicing.feature_keys, *slicing.feature_values):
            if key != ROUTE and key not in known:
                reject(f"{_WHERE}.slicing_specs", key, f"a column among {', '.join(known)}")
    targets = {target for route in routing.routes for target in route.labels.values()}
    for spec in config.metrics_specs:
        _only(f"{_WHERE}.metrics_specs", spec, "metrics", "binarize", "aggregate")
        for metric in spec.metrics:
            _only(f"{_WHERE}.metrics_specs", metric, "class_name", "module", "config")
            if not _suits(spec, metric, targets):
                reject(f"{_WHERE}.metrics_specs", metric.class_name, "a metric that suits a label")


def columns(routing: RoutingTable) -> dict[str, str]:
    """Column of a routed example → its dtype, of all routes."""
    fields = (field for name in routing.names for field in routing.fields(name).values())
    return {field.column: field.dtype for field in fields}


def slice_columns(config: config_pb2.EvalConfig) -> list[str]:
    """Lists the columns to slice by, beside the route."""
    return sorted({key for each in config.slicing_specs for key in _keys(each)} - {ROUTE})


def slices_within(config: config_pb2.EvalConfig, by: Sequence[str]) -> list[config_pb2.SlicingSpec]:
    """Crosses the slices with `by`; leaves out those that have no column beside the route.

    >>> by_age = config_pb2.SlicingSpec(feature_keys=["age"])
    >>> config = config_pb2.EvalConfig(slicing_specs=[config_pb2.SlicingSpec(), by_age])
    >>> [list(each.feature_keys) for each in slices_within(config, ["_route"])]
    [['_route', 'age']]
    """
    return [
        config_pb2.SlicingSpec(
            feature_keys=sorted({*each.feature_keys, *by} - {*each.feature_values}),
            feature_values=each.feature_values,
        )
        for each in config.slicing_specs
        if _keys(each) - {ROUTE}
    ]


def further_specs(
    config: config_pb2.EvalConfig, targets: Iterable[Target]
) -> list[config_pb2.MetricsSpec]:
    """Takes out the metrics that can be computed for such labels."""
    targets = set(targets)
    specs = [
        _with(spec, [metric for metric in spec.metrics if _suits(spec, metric, targets)])
        for spec in config.metrics_specs
    ]
    return [spec for spec in specs if spec.metrics]


def _suits(
    spec: config_pb2.MetricsSpec, metric: config_pb2.MetricConfig, targets: Iterable[Target]
) -> bool:
    return any(can_compute(_with(spec, [metric]), target) for target in targets)


def _with(
    spec: config_pb2.MetricsSpec, metrics: Iterable[config_pb2.MetricConfig]
) -> config_pb2.MetricsSpec:
    copy = config_pb2.MetricsSpec()
    copy.CopyFrom(spec)
    del copy.metrics[:]
    copy.metrics.extend(metrics)
    return copy


def _keys(slicing: config_pb2.SlicingSpec) -> set[str]:
    return {*slicing.feature_keys, *slicing.feature_values}


def _only(where: str, message: Any, *allowed: str) -> None:
    for field, value in message.ListFields():
        if field.name not in allowed:
            reject(f"{where}.{field.name}", value, f"no more than {', '.join(allowed)}")
