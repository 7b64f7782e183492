"""The Beam transform: tags every example with its route and splits the streams."""

import json
from collections.abc import Iterator, Mapping

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from branchline.components import quarantine
from branchline.components.router.route_batch import batch_router, describe_record
from branchline.schemas import RoutingTable, split_name, to_json


class RouteBatches(beam.DoFn):
    """Routes batches of serialized examples of one split; tags: routes, LINES and COUNTS."""

    def __init__(self, table: RoutingTable, split: str) -> None:
        super().__init__()
        self._table_json, self._split = to_json(table), split

    def setup(self) -> None:
        """Traces the routing function, once a worker."""
        self._router = batch_router(self._table_json)

    def process(self, element: list[bytes]) -> Iterator[TaggedOutput]:
        """Yields every example of a batch under one tag."""
        routed = self._router(element)
        yield TaggedOutput(quarantine.COUNTS, quarantine.count("in", number=len(element)))
        for route, examples in routed.examples.items():
            for example in examples:
                yield TaggedOutput(route, example)
            name = split_name(self._split, route)
            yield TaggedOutput(quarantine.COUNTS, quarantine.count("out", name, len(examples)))
        for row, problem in routed.aside:
            record, source, offset = describe_record(element[row])
            text = json.dumps(record, sort_keys=True)
            line = {"record": text, "source": source, "offset": offset} | problem._asdict()
            yield TaggedOutput(quarantine.LINES, line)
            yield TaggedOutput(quarantine.COUNTS, quarantine.count("quarantined", problem.reason))


def route_examples(
    pipeline: beam.Pipeline,
    table: RoutingTable,
    split_patterns: Mapping[str, str],
    output_uri: str,
    quarantine_uri: str,
) -> None:
    """Adds to `pipeline` all that it takes to route the examples of every split.

    Args:
        pipeline: A Beam pipeline.
        table: The routes.
        split_patterns: Split → pattern of its TFRecord files.
        output_uri: Each split and route is written to `<output_uri>/Split-<split>-<route>/`.
        quarantine_uri: Where what no route takes is written.
    """
    lines, counts = [], []
    for split, pattern in split_patterns.items():
        routed = (
            pipeline
            | f"Read[{split}]" >> beam.io.ReadFromTFRecord(pattern)
            | f"Batch[{split}]" >> beam.BatchElements(min_batch_size=512, max_batch_size=2048)
            | f"Route[{split}]"
            >> beam.ParDo(RouteBatches(table, split)).with_outputs(
                *table.names, quarantine.LINES, quarantine.COUNTS
            )
        )
        for route in table.names:
            name = split_name(split, route)
            _ = routed[route] | f"Write[{name}]" >> beam.io.WriteToTFRecord(
                f"{output_uri}/Split-{name}/data_tfrecord", file_name_suffix=".gz"
            )
        lines.append(routed[quarantine.LINES])
        counts.append(routed[quarantine.COUNTS])
    _ = {
        "lines": lines | "AllLines" >> beam.Flatten(),
        "counts": counts | "AllCounts" >> beam.Flatten(),
    } | "Quarantine" >> quarantine.WriteQuarantine(quarantine_uri)
