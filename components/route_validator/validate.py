"""Validates the statistics of a split against the schema, the rows of every route apart."""

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from branchline.components.route_validator.constant import add_constant
from branchline.components.route_validator.precision import add_coarse
from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.route_validator.slices import column, slices
from branchline.schemas.splits import TRAIN

_OfRoute = tuple[int, anomalies_pb2.Anomalies]
Found = dict[str, _OfRoute]
_NO_ROWS = anomalies_pb2.AnomalyInfo(
    severity=anomalies_pb2.AnomalyInfo.ERROR,
    short_description="No examples",
    description="No example of the split takes this route.",
    reason=[{"type": anomalies_pb2.AnomalyInfo.DATASET_LOW_NUM_EXAMPLES}],
)
_NO_ROUTE = anomalies_pb2.AnomalyInfo(
    severity=anomalies_pb2.AnomalyInfo.ERROR,
    short_description="Unknown route",
    description="Examples whose `_route` is not in the routing table, or that have none.",
    reason=[{"type": anomalies_pb2.AnomalyInfo.UNKNOWN_TYPE}],
)


def validate_split(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, schemas: RouteSchemas, split: str
) -> Found:
    """Finds what is wrong with the rows of every route, by the schema in the route's environment.

    Args:
        statistics: Of the split, sliced by route.
        schemas: Of the routes.
        split: Its name.

    Returns:
        Route → its number of examples and its anomalies; a route without rows has the one that says
        so. Under "", if there are any, the examples that take no route of the table.

    Raises:
        BranchlineError: The statistics are not sliced by route.
    """
    of_route, num_others = slices(statistics, schemas.table, split)
    found = {name: _validate(listed, schemas, name) for name, listed in of_route.items()}
    for name, listed in of_route.items():
        add_coarse(found[name][1], listed.datasets[0], schemas.fields[name])
        if split == TRAIN:
            route = schemas.table[name]
            add_constant(found[name][1], listed.datasets[0], route, schemas.fields[name])
    if num_others:
        found[""] = (num_others, anomalies_pb2.Anomalies(dataset_anomaly_info=_NO_ROUTE))
    return found


def describe(anomalies: anomalies_pb2.Anomalies) -> dict[str, str]:
    """Feature → what is wrong with it, in a few words; the whole split's trouble is under "".

    >>> describe(anomalies_pb2.Anomalies())
    {}
    """
    found = {
        ".".join(info.path.step) or name: _short(info)  # the map's own keys are quoted: 'y.float'
        for name, info in sorted(anomalies.anomaly_info.items())
    }
    if anomalies.HasField("dataset_anomaly_info"):
        found[""] = _short(anomalies.dataset_anomaly_info)
    return found


def summarize(all_found: Iterable[Found]) -> dict[str, Any]:
    """Route → its `examples`, and `anomalies`: feature → all that is wrong with it."""
    summary: dict[str, Any] = {}
    for route, (examples, anomalies) in _routes(all_found):
        said = summary.setdefault(route, {"examples": examples, "anomalies": {}})["anomalies"]
        for feature, what in describe(anomalies).items():
            said[feature] = _join(said.get(feature, ""), what)
    return summary


def merge(all_found: Iterable[Found], schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """Puts all anomalies of all routes into one message, as TFDV's tools show them.

    A feature has one entry, whose words name each route that it is wrong in.
    """
    merged = anomalies_pb2.Anomalies(
        baseline=schema, anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH
    )
    for route, (_, anomalies) in _routes(all_found):
        for name, info in sorted(anomalies.anomaly_info.items()):
            _add(merged.anomaly_info[name], info, route)
        if anomalies.HasField("dataset_anomaly_info"):
            _add(merged.dataset_anomaly_info, anomalies.dataset_anomaly_info, route)
        merged.drift_skew_info.extend(anomalies.drift_skew_info)
    return merged


def _validate(
    listed: statistics_pb2.DatasetFeatureStatisticsList, schemas: RouteSchemas, route: str
) -> tuple[int, anomalies_pb2.Anomalies]:
    (dataset,) = listed.datasets
    if not dataset.num_examples:
        return 0, anomalies_pb2.Anomalies(dataset_anomaly_info=_NO_ROWS)
    schema = schemas.of(route, {column(feature) for feature in dataset.features})
    anomalies = tfdv.validate_statistics(listed, schema, environment=route)
    return int(dataset.num_examples), anomalies


def _add(merged: anomalies_pb2.AnomalyInfo, info: anomalies_pb2.AnomalyInfo, route: str) -> None:
    where = f"route {route}: " if route else ""
    if info.HasField("path"):
        merged.path.CopyFrom(info.path)
    merged.severity = max(merged.severity, info.severity)
    merged.short_description = _join(merged.short_description, where + info.short_description)
    merged.description = _join(merged.description, where + info.description.strip())
    for reason in info.reason:
        added = merged.reason.add()
        added.CopyFrom(reason)
        added.short_description = where + reason.short_description
        added.description = where + reason.description


def _routes(all_found: Iterable[Found]) -> Iterator[tuple[str, _OfRoute]]:
    for found in all_found:
        yield from found.items()


def _join(before: str, more: str) -> str:
    return f"{before}; {more}" if before else more


def _short(info: anomalies_pb2.AnomalyInfo) -> str:
    return ": ".join(text.strip() for text in (info.short_description, info.description) if text)
