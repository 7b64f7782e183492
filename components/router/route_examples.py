"""The Beam transform: tags every example with its route, and writes each route's files."""

import json
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from branchline.components import quarantine
from branchline.components.mixed_example_gen.raw_records import AsItCame, ReadFiles
from branchline.components.router.read_examples import ReadExamples, Source
from branchline.components.router.route_batch import batch_router, describe_record
from branchline.components.router.write_routes import RoutedExamples, WriteRoutes
from branchline.schemas import RoutingTable, to_json


class RouteBatches(beam.DoFn):
    """Routes batches of serialized examples of one split.

    The main output is (route, some of its examples); tags: LINES, with the example, and COUNTS.
    """

    def __init__(self, table: RoutingTable, split: str, *, label: bool) -> None:
        super().__init__()
        self._table_json, self._split, self._label = to_json(table), split, label

    def setup(self) -> None:
        """Traces the routing function, once a worker."""
        self._router = batch_router(self._table_json, label=self._label)

    def process(self, element: list[bytes]) -> Iterator[RoutedExamples | TaggedOutput]:
        """Yields every example of a batch once."""
        routed = self._router(element)
        yield TaggedOutput(quarantine.COUNTS, quarantine.count("in", number=len(element)))
        for route, examples in routed.examples.items():
            yield route, examples
            out = quarantine.count("out", self._split, route, number=len(examples))
            yield TaggedOutput(quarantine.COUNTS, out)
        for row, problem in routed.aside:
            record, source, offset = describe_record(element[row])
            text = json.dumps(record, sort_keys=True).encode()
            line = {"record": text, "source": source, "offset": offset, "byte": None}
            line |= problem._asdict()
            yield TaggedOutput(quarantine.LINES, (line, element[row]))
            yield TaggedOutput(quarantine.COUNTS, quarantine.count("quarantined", problem.reason))


def route_examples(
    pipeline: beam.Pipeline,
    table: RoutingTable,
    sources: Mapping[str, Sequence[Source]],
    output_uri: str,
    quarantine_uri: str,
    *,
    label: bool,
    read_files: list[ReadFiles] | None = None,
) -> None:
    """Adds to `pipeline` all that it takes to route the examples of every split.

    Args:
        pipeline: A Beam pipeline.
        table: The routes.
        sources: Split → where its files are.
        output_uri: Where the splits are written; `write_routes.finish` completes them.
        quarantine_uri: Where what no route takes is written.
        label: Whether an example has to have its route's labels.
        read_files: Those that the examples come from, where they are known: what is set aside is
            then written as it came.
    """
    none = [quarantine.count("in", number=0)]
    none += [
        quarantine.count("out", split, route, number=0)
        for split in sources
        for route in table.names
    ]
    lines, files, counts = [], [], [pipeline | "NoneYet" >> beam.Create(none)]
    for split, where in sources.items():
        routed = (
            pipeline
            | f"Read[{split}]" >> ReadExamples(where)
            | f"Route[{split}]"
            >> beam.ParDo(RouteBatches(table, split, label=label)).with_outputs(
                quarantine.LINES, quarantine.COUNTS, main="routed"
            )
        )
        files.append(
            routed["routed"]
            | f"Write[{split}]" >> WriteRoutes(output_uri, split)
            | f"Written[{split}]" >> beam.Map(lambda path, split=split: (split, path))
        )
        aside = routed[quarantine.LINES]
        lines.append(aside | f"Raw[{split}]" >> AsItCame(read_files or []))
        counts.append(routed[quarantine.COUNTS])
    _ = {
        "lines": lines | "AllLines" >> beam.Flatten(),
        "counts": counts | "AllCounts" >> beam.Flatten(),
        "files": files | "AllFiles" >> beam.Flatten(),
    } | "Quarantine" >> quarantine.WriteQuarantine(quarantine_uri, "Router")
