"""The Beam transform: tags every example with its route, and writes each route's files."""

import json
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from branchline.components import quarantine
from branchline.components.files.routed import NO_ROUTE, routed_name, split_dir
from branchline.components.files.write_files import WriteFiles, finish, make_folders
from branchline.components.mixed_example_gen.raw_records import AsItCame, ReadFiles
from branchline.components.router.read_examples import ReadExamples, Source
from branchline.components.router.route_batch import batch_router, describe_record
from branchline.components.write_quarantine import WriteQuarantine
from branchline.schemas import RoutingTable, to_json


class RouteBatches(beam.DoFn):
    """Routes batches of serialized examples, each with its split.

    The main output is ((split, route), some examples); tags: LINES, with the example, and COUNTS.
    """

    def __init__(self, table: RoutingTable, *, label: bool) -> None:
        super().__init__()
        self._table_json, self._label = to_json(table), label

    def setup(self) -> None:
        """Traces the routing function, once a worker."""
        self._router = batch_router(self._table_json, label=self._label)

    def process(
        self, element: tuple[str, list[bytes]]
    ) -> Iterator[tuple[tuple[str, str], list[bytes]] | TaggedOutput]:
        """Yields every example of a batch once."""
        split, batch = element
        routed = self._router(batch)
        yield TaggedOutput(quarantine.COUNTS, quarantine.count("in", number=len(batch)))
        for route, examples in routed.examples.items():
            yield (split, route), examples
            out = quarantine.count("out", split, route, number=len(examples))
            yield TaggedOutput(quarantine.COUNTS, out)
        for row, problem in routed.aside:
            record, source, offset = describe_record(batch[row])
            text = json.dumps(record, sort_keys=True).encode()
            line = {"record": text, "source": source, "offset": offset, "byte": None}
            line |= problem._asdict()
            yield TaggedOutput(quarantine.LINES, (line, batch[row]))
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
        output_uri: Where the splits are written; `complete` has to follow.
        quarantine_uri: Where what no route takes is written.
        label: Whether an example has to have its route's labels.
        read_files: Those that the examples come from, where they are known: what is set aside is
            then written as it came.
    """
    make_folders(split_dir(output_uri, split) for split in sources)
    none = [quarantine.count("in", number=0)]
    none += [
        quarantine.count("out", split, route, number=0)
        for split in sources
        for route in table.names
    ]
    routed = (
        pipeline
        | "Read" >> ReadExamples(sources)
        | "Route"
        >> beam.ParDo(RouteBatches(table, label=label)).with_outputs(
            quarantine.LINES, quarantine.COUNTS, main="routed"
        )
    )
    files = (
        routed["routed"]
        | "Write" >> WriteFiles(output_uri, routed_name)
        | "OfSplit" >> beam.MapTuple(lambda key, path: (key[0], path))
    )
    none = pipeline | "NoneYet" >> beam.Create(none, reshuffle=False)
    _ = {
        "lines": routed[quarantine.LINES] | "Raw" >> AsItCame(read_files or []),
        "counts": (none, routed[quarantine.COUNTS]) | "Counts" >> beam.Flatten(),
        "files": files,
    } | "Quarantine" >> WriteQuarantine(quarantine_uri, "Router")


def complete(uri: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Completes what the pipeline wrote, after it has run.

    A split without an example gets an empty file, because TFX's components fail on a folder
    without any.

    Args:
        uri: Of the artifact.
        counts: Split → route → how many examples were written.
    """
    empty = [split for split, routes in counts.items() if not any(routes.values())]
    finish(uri, [routed_name((split, NO_ROUTE), 0, 1) for split in empty])
