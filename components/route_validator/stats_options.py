"""Says how StatisticsGen looks at routed examples: once, every route's rows apart."""

import tensorflow_data_validation as tfdv
from tfx_bsl.public.proto import slicing_spec_pb2

from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import RoutingTable


def route_stats_options(table: RoutingTable) -> tfdv.StatsOptions:
    """Options for TFX's StatisticsGen, which takes them apart to JSON.

    Its statistics of a split then hold a slice "All Examples" and a slice `_route_<name>` for every
    route with rows. Values are counted by sketches, so that memory does not grow with the rows.
    Columns that no route declares may be of any type, and are not read.
    """
    by_route = slicing_spec_pb2.SlicingConfig()  # pyright: ignore[reportAttributeAccessIssue]
    by_route.slicing_specs.add(feature_keys=["_route"])
    return tfdv.StatsOptions(
        schema=declared_schema(table),
        experimental_filter_read_paths=True,
        slicing_config=by_route,
        use_sketch_based_topk_uniques=True,
    )
