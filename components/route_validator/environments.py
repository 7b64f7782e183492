"""Gives a TFDV schema one environment per route, and says what a route's rows must hold."""

from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.components.transform.declared_schema import TYPES
from branchline.schemas.routes import RoutingTable


def with_environments(schema: schema_pb2.Schema, routing: RoutingTable) -> schema_pb2.Schema:
    """Copies `schema` with an environment per route, named like it.

    A feature is in the environments of the routes that declare it (or have it as a label), and
    in no other route's. Environments that the schema has already are left as they are, so a schema
    that somebody wrote for these routes by hand keeps its own.

    SchemaGen calls every feature DEPRECATED that the last split it looks at lacks, and TFDV and
    Transform pass over those: features that a route declares lose that mark.
    """
    copy = schema_pb2.Schema()
    copy.CopyFrom(schema)
    added = [name for name in routing.names if name not in schema.default_environment]
    copy.default_environment.extend(added)
    columns = _columns(routing)
    for feature in (*copy.feature, *copy.sparse_feature, *copy.weighted_feature):
        known = {*feature.in_environment, *feature.not_in_environment}
        lacking = [n for n in added if feature.name not in columns[n] and n not in known]
        feature.not_in_environment.extend(lacking)
    for feature in copy.feature:
        declared = any(feature.name in names for names in columns.values())
        if declared and feature.lifecycle_stage == schema_pb2.DEPRECATED:
            feature.ClearField("lifecycle_stage")
    return copy


def route_schema(schema: schema_pb2.Schema, routing: RoutingTable, route: str) -> schema_pb2.Schema:
    """Copies `schema` and makes what the rows of `route` must hold required: in every row.

    SchemaGen infers one schema from all routes' rows, so there nothing is required that one of
    them lacks; TFDV knows environments of features but not of their presence. Features that no
    route declares (where a record came from, keys that only conditions read) are not validated.

    Args:
        schema: With environments.
        routing: The routing table.
        route: A route's name.
    """
    copy = schema_pb2.Schema()
    copy.CopyFrom(schema)
    declared = routing[route]
    required = {key for key, kind in declared.features.items() if kind.required}
    required |= {key for key, target in declared.labels.items() if not target.optional}
    by_name = {feature.name: feature for feature in copy.feature}
    for key in sorted(required):
        column = routing.column(route, key)
        feature = by_name.get(column)
        if feature is None:
            feature = copy.feature.add(name=column, type=TYPES[declared.dtypes[key]])
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = max(feature.presence.min_count, 1)
    everyones = set().union(*_columns(routing).values())
    for feature in copy.feature:
        if feature.name not in everyones:
            feature.lifecycle_stage = schema_pb2.DEBUG_ONLY
    return copy


def _columns(routing: RoutingTable) -> dict[str, set[str]]:
    return {name: set(routing.columns(name).values()) for name in routing.names}
