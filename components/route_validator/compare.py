"""Compares the rows of every route with other rows of it, by TFDV's comparators."""

from collections.abc import Mapping

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from branchline.components.route_validator.slices import column, slices
from branchline.components.route_validator.validate import Found
from branchline.schemas import RoutingTable

_Stats = statistics_pb2.DatasetFeatureStatisticsList
_TYPES = {
    statistics_pb2.FeatureNameStatistics.INT: schema_pb2.INT,
    statistics_pb2.FeatureNameStatistics.FLOAT: schema_pb2.FLOAT,
    statistics_pb2.FeatureNameStatistics.STRING: schema_pb2.BYTES,
}
# kind → the argument of TFDV that takes the other statistics, and the two sides in its words.
_OF_TFDV = {
    "drift": ("previous_statistics", "current and previous"),
    "skew": ("serving_statistics", "training and serving"),
}


def compare_split(
    kind: str,
    limit: float,
    statistics: _Stats,
    others: _Stats,
    schema: schema_pb2.Schema,
    table: RoutingTable,
    split: str,
) -> Found:
    """Finds the features of each route whose values are too far from those of other rows.

    Compared are the columns that a route declares and both sides have values of, of the same type;
    what is missing on one side, `validate_split` tells.

    Args:
        kind: "drift" (`others` are of an earlier run) or "skew" (of the split "train").
        limit: The greatest distance; for a feature that has a `drift_comparator` or
            `skew_comparator` in the schema, that one holds.
        statistics: Of the split.
        others: What they are compared with.
        schema: Gives single features limits of their own.
        table: The routes.
        split: The split's name.

    Returns:
        As `validate_split`; routes that have no rows on one side are left out.

    Raises:
        BranchlineError: Statistics are not sliced by route.
    """
    of_route, _ = slices(statistics, table, split)
    of_others, _ = slices(others, table, split)
    argument, theirs = _OF_TFDV[kind]
    name = f"{kind}_comparator"
    own = {f.name: getattr(f, name) for f in schema.feature if f.HasField(name)}
    sides = f"this {split} split and " + ("the last blessed run's" if kind == "drift" else "train")
    found = {}
    for route, listed in of_route.items():
        rows, known = listed.datasets[0], of_others[route].datasets[0]
        if rows.num_examples and known.num_examples:
            types = _shared(rows, known, {field.column for field in table.fields(route).values()})
            wanted = schema_pb2.Schema()
            for feature, data_type in types.items():
                added = wanted.feature.add(name=feature, type=data_type)
                getattr(added, name).CopyFrom(own.get(feature) or _comparator(data_type, limit))
            anomalies = tfdv.validate_statistics(
                _only(rows, types), wanted, **{argument: _only(known, types)}
            )
            for info in anomalies.anomaly_info.values():
                for each in (info, *info.reason):
                    each.short_description = kind.capitalize()
                    each.description = each.description.replace(theirs, sides)
            found[route] = (int(rows.num_examples), anomalies)
    return found


def _shared(
    rows: statistics_pb2.DatasetFeatureStatistics,
    others: statistics_pb2.DatasetFeatureStatistics,
    declared: set[str],
) -> dict[str, int]:
    """Column → type, of the declared ones that both have."""
    types = {column(feature): feature.type for feature in others.features}
    return {
        column(feature): _TYPES[feature.type]
        for feature in rows.features
        if column(feature) in declared
        and feature.type in _TYPES
        and types.get(column(feature)) == feature.type
    }


def _comparator(data_type: int, limit: float) -> schema_pb2.FeatureComparator:
    comparator = schema_pb2.FeatureComparator()
    texts = data_type == schema_pb2.BYTES
    distance = comparator.infinity_norm if texts else comparator.jensen_shannon_divergence
    distance.threshold = limit
    return comparator


def _only(dataset: statistics_pb2.DatasetFeatureStatistics, columns: Mapping[str, int]) -> _Stats:
    kept = statistics_pb2.DatasetFeatureStatistics(
        num_examples=dataset.num_examples,
        weighted_num_examples=dataset.weighted_num_examples,
        features=[feature for feature in dataset.features if column(feature) in columns],
    )
    return _Stats(datasets=[kept])
