"""Writes down as a TFDV schema what a routing table declares.

SchemaGen cannot infer it: it takes each split for a sample of the same examples, and calls what
another route's split lacks deprecated.
"""

from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.schemas import Ids, Route, RoutingTable

TYPES = {"string": schema_pb2.BYTES, "float": schema_pb2.FLOAT, "int": schema_pb2.INT}


def declared_schema(table: RoutingTable) -> schema_pb2.Schema:
    """Describes the columns of the routed examples, with an environment for every route.

    A column is in the environments of the routes that declare it; it must be present in every
    example where all of them require it.
    """
    schema = schema_pb2.Schema(default_environment=table.names)
    schema.feature.add(
        name="_route",
        type=schema_pb2.BYTES,
        presence={"min_fraction": 1.0, "min_count": 1},
        value_count={"min": 1, "max": 1},
        string_domain={"name": "_route", "value": table.names},
    )
    uses: dict[str, list[tuple[Route, str]]] = {}
    for route in table.routes:
        for key, column in table.columns(route.name).items():
            uses.setdefault(column, []).append((route, key))
    for column, users in uses.items():
        schema.feature.append(_describe(column, users, table))
    return schema


def _describe(
    column: str, users: list[tuple[Route, str]], table: RoutingTable
) -> schema_pb2.Feature:
    (first, first_key), *_ = users
    feature = schema_pb2.Feature(name=column, type=TYPES[first.dtypes[first_key]])
    names = [route.name for route, _ in users]
    feature.not_in_environment.extend(name for name in table.names if name not in names)
    required = [_is_required(route, key) for route, key in users]
    feature.presence.CopyFrom(
        schema_pb2.FeaturePresence(min_fraction=1.0, min_count=1)
        if all(required)
        else schema_pb2.FeaturePresence(min_count=1)
    )
    sizes = [{**route.features, **route.labels}[key].num_values for route, key in users]
    feature.value_count.min = min(size or 0 for size in sizes)
    if None not in sizes:
        feature.value_count.max = max(size or 0 for size in sizes)
    ranges = [_num_values_of(route, key) for route, key in users]
    if feature.type == schema_pb2.INT and None not in ranges:
        feature.int_domain.min, feature.int_domain.max = 0, max(each or 0 for each in ranges) - 1
    return feature


def _is_required(route: Route, key: str) -> bool:
    if key in route.labels:
        return not route.labels[key].optional
    return route.features[key].required


def _num_values_of(route: Route, key: str) -> int | None:
    """How many values, from 0 on, a column of whole numbers may take."""
    if key in route.labels:
        return route.labels[key].classes
    kind = route.features[key]
    return kind.num_ids if isinstance(kind, Ids) else None
