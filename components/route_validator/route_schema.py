"""Cuts out of a TFDV schema what it says about the rows of one route."""

from collections.abc import Iterable

from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.components.transform.declared_schema import TYPES
from branchline.schemas.fields import Field
from branchline.schemas.routes import RoutingTable


class RouteSchemas:
    """Makes the schemas of single routes from the one that describes them all.

    A feature is in the environment of a route, named like it, where the schema says so: by
    `in_environment` or `not_in_environment`, or by `default_environment`. Where it says nothing, a
    feature is in the environments of the routes that declare it.

    Args:
        schema: Inferred, declared or written by hand; is not changed.
        table: The routes.

    Attributes:
        table: The routes.
        fields: Route → column → the field that it holds.
    """

    def __init__(self, schema: schema_pb2.Schema, table: RoutingTable) -> None:
        self.table = table
        self._made: dict[tuple[str, frozenset[str]], schema_pb2.Schema] = {}
        whole, self._rest = schema_pb2.Schema(), schema_pb2.Schema()
        whole.CopyFrom(schema)
        self._default = set(whole.default_environment)
        whole.ClearField("default_environment")
        self._inside: dict[str, set[str]] = {}
        self._outside: dict[str, set[str]] = {}
        for feature in (*whole.feature, *whole.sparse_feature, *whole.weighted_feature):
            self._inside[feature.name] = set(feature.in_environment)
            self._outside[feature.name] = set(feature.not_in_environment)
            feature.ClearField("in_environment")
            feature.ClearField("not_in_environment")
        self._features = {feature.name: feature for feature in whole.feature}
        self._rest.CopyFrom(whole)
        self._rest.ClearField("feature")
        self.fields = {
            name: {field.column: field for field in table.fields(name).values()}
            for name in table.names
        }
        self._declared = set().union(*self.fields.values())

    def of(self, route: str, present: Iterable[str]) -> schema_pb2.Schema:
        """The schema of the rows of `route`, to be validated in the environment of that name.

        It holds the route's own columns and those `present`, not the hundreds of other routes' that
        the rows lack: validating all routes takes time in proportion to their number.

        What the route requires is required in every row, and has the number of values and the
        classes that this route declares: one schema for all routes cannot say either, and TFDV has
        environments of features but not of their presence. SchemaGen calls features DEPRECATED that
        the last split it looks at lacks, and TFDV passes over those: declared ones lose that mark.
        Features that no route declares (keys that only conditions read) are not validated.
        """
        key = route, frozenset(present)  # mostly the same in all splits of a route
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, route: str, present: frozenset[str]) -> schema_pb2.Schema:
        fields = self.fields[route]
        schema = schema_pb2.Schema(default_environment=[route])
        schema.MergeFrom(self._rest)
        for part in (*schema.sparse_feature, *schema.weighted_feature):
            part.not_in_environment.extend(self._out(part.name, route))
        for column in sorted({*fields, *present}):
            if column in self._features:
                feature = schema.feature.add()
                feature.CopyFrom(self._features[column])
                feature.not_in_environment.extend(self._out(column, route))
            elif column in fields and fields[column].required:
                feature = schema.feature.add(name=column, type=TYPES[fields[column].dtype])
            else:
                continue  # TFDV calls it new if there are rows with it
            if column not in self._declared:
                feature.lifecycle_stage = schema_pb2.DEBUG_ONLY
            elif feature.lifecycle_stage == schema_pb2.DEPRECATED:
                feature.ClearField("lifecycle_stage")
            if column in fields:
                _tighten(feature, fields[column])
        return schema

    def _out(self, name: str, route: str) -> list[str]:
        """The environment `route`, if the feature `name` is not in it."""
        if route in self._inside[name]:
            return []
        in_it = route in self._default or name in self.fields[route]
        return [] if in_it and route not in self._outside[name] else [route]


def _tighten(feature: schema_pb2.Feature, field: Field) -> None:
    if field.required:
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = max(feature.presence.min_count, 1)
    if field.num_values and not feature.HasField("shape"):
        feature.value_count.min = feature.value_count.max = field.num_values
    if field.num_codes and feature.HasField("int_domain"):
        feature.int_domain.max = min(feature.int_domain.max, field.num_codes - 1)
    if field.classes and feature.WhichOneof("domain_info") in (None, "string_domain"):
        allowed = set(feature.string_domain.value or field.stored)
        del feature.string_domain.value[:]
        feature.string_domain.name = feature.name
        feature.string_domain.value.extend(name for name in field.stored if name in allowed)
