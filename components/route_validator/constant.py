"""Finds numeric features that do not vary, which is mostly a mistake in the records.

Their deviation is 0, and what is scaled by it is 0 too. One that is not finite there cannot be: NaN
and infinity are quarantined, and deviations are of 64 bits.
"""

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from branchline.components.route_validator.add_anomaly import add_anomaly
from branchline.components.route_validator.slices import column
from branchline.schemas import Numeric, Route
from branchline.schemas.fields import Field


def add_constant(
    anomalies: anomalies_pb2.Anomalies,
    dataset: statistics_pb2.DatasetFeatureStatistics,
    route: Route,
    fields: Mapping[str, Field],
) -> None:
    """Adds an anomaly for each `Numeric` that is one number in all rows.

    Of a list all its entries are looked at together. One row alone says nothing.

    Args:
        anomalies: What else is wrong with the rows.
        dataset: Their statistics.
        route: The route.
        fields: Column → the field of the route that it holds.
    """
    for feature in dataset.features:
        field, numbers = fields.get(column(feature)), feature.num_stats
        kind = route.features.get(field.key) if field else None
        if not isinstance(kind, Numeric) or numbers.common_stats.num_non_missing < 2:
            continue
        if numbers.min == numbers.max:
            assert field is not None
            told = f"{field.key} is {numbers.min:g} wherever it is there: it tells no rows apart"
            add_anomaly(anomalies, field.column, "Does not vary", told)
