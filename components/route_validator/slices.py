"""Takes the statistics of a split apart into those of each route's rows."""

from tensorflow_metadata.proto.v0 import statistics_pb2

from branchline.schemas import BranchlineError, RoutingTable

_PREFIX = "_route_"  # as TFDV names slices by the values of `_route`
_ALL = "All Examples"


def slices(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, table: RoutingTable, split: str
) -> tuple[dict[str, statistics_pb2.DatasetFeatureStatisticsList], int]:
    """Finds the slice of every route.

    Columns that none of a slice's rows has a value in are left out, as they are there for the rows
    of others (CsvExampleGen writes an empty cell as an empty list), and so is `_route`, which is
    the slice.

    Args:
        statistics: Of a split of routed examples, from RouteStatistics, or from StatisticsGen with
            `route_stats_options`.
        table: The routes.
        split: Names the split in errors.

    Returns:
        Route → a list of one, its statistics, as TFDV takes them, without a name; of zero examples
        where a route has no rows. And how many examples take no route of the table.

    Raises:
        BranchlineError: There are examples, several routes and no slices by route.
    """
    by_name = {dataset.name: dataset for dataset in statistics.datasets}
    sliced = [name for name in by_name if name.startswith(_PREFIX)]
    total = sum(dataset.num_examples for name, dataset in by_name.items() if name in ("", _ALL))
    if not sliced and total:
        if len(table.routes) > 1:
            raise BranchlineError(
                f"statistics of the split {split!r} have no slices by route, only "
                f"{', '.join(map(repr, by_name))}; take them from RouteStatistics, "
                "or give StatisticsGen stats_options=route_stats_options(table)"
            )
        [whole] = [dataset for name, dataset in by_name.items() if name in ("", _ALL)]
        return {table.names[0]: _with_rows(whole)}, 0
    none = statistics_pb2.DatasetFeatureStatistics()
    found = {name: _with_rows(by_name.get(_PREFIX + name, none)) for name in table.names}
    of_routes = sum(each.datasets[0].num_examples for each in found.values())
    return found, max(0, int(total - of_routes))


def drop_histograms(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> None:
    """Takes out of the routes' slices how numbers are spread, which only `compare_split` reads.

    They are four fifths of all bytes, which every validation would copy and write twice.

    Args:
        statistics: Of a split; are changed.
    """
    for dataset in statistics.datasets:
        for feature in dataset.features if dataset.name.startswith(_PREFIX) else ():
            kind = feature.WhichOneof("stats")
            if kind:
                getattr(feature, kind).common_stats.ClearField("num_values_histogram")
            if kind == "num_stats":
                for histogram in feature.num_stats.histograms:
                    histogram.ClearField("buckets")  # its counts of NaN are validated


def column(feature: statistics_pb2.FeatureNameStatistics) -> str:
    """The name of the column, whichever way TFDV wrote it down."""
    return feature.path.step[0] if feature.path.step else feature.name


def _with_rows(
    dataset: statistics_pb2.DatasetFeatureStatistics,
) -> statistics_pb2.DatasetFeatureStatisticsList:
    listed = statistics_pb2.DatasetFeatureStatisticsList()
    listed.datasets.add(
        num_examples=dataset.num_examples, weighted_num_examples=dataset.weighted_num_examples
    ).features.extend(  # copied once: there are histograms in them
        feature
        for feature in dataset.features
        if _most_values(feature) and column(feature) != "_route"
    )
    return listed


def _most_values(feature: statistics_pb2.FeatureNameStatistics) -> int:
    kind = feature.WhichOneof("stats")
    return getattr(feature, kind).common_stats.max_num_values if kind else 0
