"""Validates the statistics of one route's split against the schema."""

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from branchline.components.route_validator.environments import route_schema, with_environments
from branchline.schemas import BranchlineError, RoutingTable, split_name


def validate_split(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    routing: RoutingTable,
    split: str,
) -> anomalies_pb2.Anomalies:
    """Finds what is wrong with `split`, by the schema in the environment of the split's route.

    Raises:
        BranchlineError: The split is no route's.
    """
    route = route_of(split, routing)
    tightened = route_schema(with_environments(schema, routing), routing, route)
    return tfdv.validate_statistics(statistics, tightened, environment=route)


def route_of(split: str, routing: RoutingTable) -> str:
    """Names the route whose rows `split` holds.

    Raises:
        BranchlineError: The split is no route's.
    """
    part, _, route = split.partition("-")
    if route not in routing.names:
        expected = ", ".join(split_name(part or "train", name) for name in routing.names)
        raise BranchlineError(f"split {split!r} is no route's; expected one like {expected}")
    return route


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


def _short(info: anomalies_pb2.AnomalyInfo) -> str:
    return ": ".join(text.strip() for text in (info.short_description, info.description) if text)
