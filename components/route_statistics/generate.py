"""Makes the statistics of one split's routed examples, a slice a route, of its columns only."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow_data_validation as tfdv

from branchline.components.route_statistics.stats_options import route_stats_options
from branchline.schemas import RoutingTable

_by_route = tfdv.experimental_get_feature_value_slicer({"_route": None})


class GenerateRouteStatistics(beam.PTransform):
    """Record batches → one DatasetFeatureStatisticsList, with a slice per route and one of all.

    Slices as TFDV makes them hold every column of the schema, most of them empty: 12 000 rows of
    100 routes with 7 columns each took it 138 s and 4.7 GB, without the empty ones 11 s and 1 GB.
    """

    def __init__(self, table: RoutingTable) -> None:
        super().__init__()
        self._options = route_stats_options(table)
        self._options.slicing_config = None
        self._options.experimental_slice_functions = [slice_by_route]

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        """Adds TFDV's transform to the pipeline."""
        return (
            input_or_inputs
            | "DropEmptyColumns" >> beam.Map(drop_empty_columns)
            | "Statistics" >> tfdv.GenerateStatistics(self._options)
        )


def slice_by_route(batch: pa.RecordBatch) -> Iterator[tuple[str | None, pa.RecordBatch]]:
    """Yields the rows of each route under the name of its slice, without empty columns."""
    for name, rows in _by_route(batch):
        yield name, drop_empty_columns(rows)


def drop_empty_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leaves out the columns that no row has; TFDV counts the rows without them all the same."""
    columns = zip(batch.schema.names, batch.columns, strict=True)
    held = {name: column for name, column in columns if column.null_count < batch.num_rows}
    return pa.RecordBatch.from_arrays(list(held.values()), list(held))
