"""Finds numbers that are kept as floats of 32 bits and need more, such as times in milliseconds."""

from collections.abc import Mapping

import numpy as np
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from branchline.components.route_validator.slices import column
from branchline.schemas.fields import Field

_EXACT = 2.0**24  # up to here every whole number is a float of 32 bits
# What such floats are apart is told where the standard deviation is less than so many times that.
# Times of a year in milliseconds are at 70 000, those of a day at 190.
_STEPS = 100_000


def add_coarse(
    anomalies: anomalies_pb2.Anomalies,
    dataset: statistics_pb2.DatasetFeatureStatistics,
    fields: Mapping[str, Field],
) -> None:
    """Adds an anomaly for each such field of a route's rows.

    Args:
        anomalies: What else is wrong with the rows.
        dataset: Their statistics.
        fields: Column → the field of the route that it holds.
    """
    for feature in dataset.features:
        field = fields.get(column(feature))
        if field is None or field.dtype != "float" or field.is_weight:
            continue
        if not feature.HasField("num_stats"):
            continue
        numbers = feature.num_stats
        largest = max(abs(numbers.min), abs(numbers.max))
        step = float(np.spacing(np.float32(largest)))
        if largest < _EXACT or not numbers.std_dev < _STEPS * step:
            continue
        kind = 'Target("regression", whole=True)' if field.is_label else "Numeric(whole=True)"
        told = (
            f"{field.key} holds numbers such as {largest:.0f} and is read as a float of 32 bits, "
            f"which has steps of {step:g} there: what differs by less becomes equal. Whole numbers "
            f"are kept exactly by {kind}; or subtract an origin from the values"
        )
        entry = anomalies.anomaly_info[field.column]
        entry.path.step[:] = [field.column]
        reason = "Numbers too large for their differences"
        entry.short_description = f"{entry.short_description}; {reason}".removeprefix("; ")
        entry.description = f"{entry.description} {told}".strip()
        entry.severity = max(entry.severity, anomalies_pb2.AnomalyInfo.WARNING)
        entry.reason.add(
            type=anomalies_pb2.AnomalyInfo.UNKNOWN_TYPE,
            short_description=reason,
            description=told,
        )
