"""Writes down as a TFDV schema what a routing table declares.

SchemaGen cannot infer it: it takes all examples for samples of one kind, and of a column that two
routes use differently it knows neither's.
"""

from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.schemas import Image, RoutingTable
from branchline.schemas.fields import Field

TYPES = {"string": schema_pb2.BYTES, "float": schema_pb2.FLOAT, "int": schema_pb2.INT}


def declared_schema(table: RoutingTable) -> schema_pb2.Schema:
    """Describes the columns of the routed examples, all routes together.

    Every column is in the environments, named like the routes, of those that declare it. There is
    no default environment: lists of where a column is not would grow with the square of the routes.
    A column must be in every example only if all routes require it; `RouteValidator` makes it
    required in the rows of those that do. No column has a `shape`, so that Transform gets each as a
    sparse tensor (`VarLenFeature`), and serving can do without labels.
    """
    schema = schema_pb2.Schema()
    schema.feature.add(
        name="_route",
        type=schema_pb2.BYTES,
        presence={"min_fraction": 1.0, "min_count": 1},
        value_count={"min": 1, "max": 1},
        string_domain={"name": "_route", "value": table.names},
    )
    uses: dict[str, dict[str, Field]] = {}
    for name in table.names:
        for field in table.fields(name).values():
            uses.setdefault(field.column, {})[name] = field
    for column, users in uses.items():
        everywhere = len(users) == len(table.routes)
        schema.feature.append(_describe(column, users, everywhere))
    return schema


def _describe(column: str, users: dict[str, Field], everywhere: bool) -> schema_pb2.Feature:
    """Describes a column by what holds for all its `users`, route → field."""
    fields = list(users.values())
    feature = schema_pb2.Feature(name=column, type=TYPES[fields[0].dtype], in_environment=users)
    feature.presence.min_count = 1
    if everywhere and all(field.required for field in fields):
        feature.presence.min_fraction = 1.0
    sizes = [field.num_values for field in fields]
    feature.value_count.min = min(size or 0 for size in sizes)
    if None not in sizes:
        feature.value_count.max = max(size or 0 for size in sizes)
    if all(isinstance(field.written, Image) for field in fields):
        feature.image_domain.SetInParent()  # TFDV then does not count its values
    codes = [field.num_codes for field in fields]
    if None not in codes:
        feature.int_domain.min, feature.int_domain.max = 0, max(n or 0 for n in codes) - 1
    if all(field.classes for field in fields):
        names = dict.fromkeys(name for field in fields for name in field.stored)
        feature.string_domain.name = column
        feature.string_domain.value.extend(names)
    return feature
