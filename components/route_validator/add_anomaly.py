"""Adds to what TFDV found what it does not look for."""

from tensorflow_metadata.proto.v0 import anomalies_pb2


def add_anomaly(
    anomalies: anomalies_pb2.Anomalies, column: str, reason: str, description: str
) -> None:
    """Adds a warning about a column, beside what else is said of it.

    Args:
        anomalies: Of the rows of a route.
        column: Of the routed examples.
        reason: In a few words.
        description: In a sentence.
    """
    entry = anomalies.anomaly_info[column]
    entry.path.step[:] = [column]
    entry.short_description = f"{entry.short_description}; {reason}".removeprefix("; ")
    entry.description = f"{entry.description} {description}".strip()
    entry.severity = max(entry.severity, anomalies_pb2.AnomalyInfo.WARNING)
    entry.reason.add(
        type=anomalies_pb2.AnomalyInfo.UNKNOWN_TYPE,
        short_description=reason,
        description=description,
    )
