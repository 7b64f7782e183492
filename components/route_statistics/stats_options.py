"""Says how TFDV looks at routed examples: once a split, every route's rows apart."""

import tensorflow_data_validation as tfdv
from tfx_bsl.public.proto import slicing_spec_pb2

from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import RoutingTable

_BUCKETS = 10  # TFDV's default
_MOST_BUCKETS = 500  # of all fields; a bucket stands for 100 quantiles, 0.4 ms of Python each time


def route_stats_options(table: RoutingTable) -> tfdv.StatsOptions:
    """Options for TFX's StatisticsGen, which takes them apart to JSON, and for `RouteStatistics`.

    The statistics of a split then hold a slice "All Examples" and a slice `_route_<name>` for every
    route with rows. Values are counted by sketches, so that memory does not grow with the rows. The
    more fields there are, the fewer quantiles are written down of each; histograms of equal widths
    keep their ten buckets. Columns that no route declares may be of any type, and are not read.

    StatisticsGen describes every column in every slice, also where a slice has no value of it: for
    routes that share their columns that costs nothing, for others it grows with the square of
    their number. `RouteStatistics` leaves those out.
    """
    by_route = slicing_spec_pb2.SlicingConfig()  # pyright: ignore[reportAttributeAccessIssue]
    by_route.slicing_specs.add(feature_keys=["_route"])
    num_fields = sum(len(table.fields(name)) for name in table.names)
    return tfdv.StatsOptions(
        schema=declared_schema(table),
        experimental_filter_read_paths=True,
        slicing_config=by_route,
        use_sketch_based_topk_uniques=True,
        num_quantiles_histogram_buckets=max(2, min(_BUCKETS, _MOST_BUCKETS // num_fields)),
    )
