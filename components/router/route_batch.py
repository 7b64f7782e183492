"""Routes a batch of serialized examples: which go where, rewritten, and which are set aside."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.router.rewrite import Read, Rewriter, tensors_of
from branchline.components.routing.number_fields import Problem, number_fields, problems_of
from branchline.components.routing.parse_batch import parse
from branchline.components.routing.read_cells import read_cells
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import RoutingTable, from_json
from branchline.schemas.errors import OFFSET, SOURCE


class Routed(NamedTuple):
    """What became of a batch.

    Attributes:
        examples: Route → its examples, rewritten, in the order of the batch; only routes that have
            some.
        aside: (position in the batch, why) of every example that no route could use.
    """

    examples: dict[str, list[bytes]]
    aside: list[tuple[int, Problem]]


class BatchRouter:
    """Routes batches by a table; traces its TensorFlow function once.

    Args:
        table: The routes.
        label: Whether an example has to have its route's labels; without, they pass as any field
            that nobody declared.
    """

    def __init__(self, table: RoutingTable, *, label: bool = True) -> None:
        self._table = table
        self._numbered = number_fields(table, label=label)
        self._problems = problems_of(table, self._numbered)
        self._no_route = Problem(
            "no_route", f"no route takes it; the routes are {', '.join(table.names)}"
        )
        self._rewriter = Rewriter(table, self._numbered)
        self._fn = tf.function(
            self._read, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def __call__(self, serialized: list[bytes]) -> Routed:
        """Routes the examples; every one of them is in the result exactly once."""
        read = Read(*(each.numpy() for each in self._fn(tf.constant(serialized, tf.string))))
        texts = np.array(self._rewriter(read), object)
        route = np.where(read.problem < 0, read.route, -1)
        return Routed(
            {
                self._table.names[each]: texts[route == each].tolist()
                for each in np.unique(route[route >= 0]).tolist()
            },
            [(row, self._why(read.problem[row])) for row in np.flatnonzero(route < 0).tolist()],
        )

    def _why(self, problem: int) -> Problem:
        return self._no_route if problem < 0 else self._problems[problem]

    def _read(self, serialized: tf.Tensor) -> list[tf.Tensor]:
        entries = parse(serialized, self._table)
        index = route_index(self._table, entries)
        cells = read_cells(self._table, self._numbered, entries, index)
        return tensors_of(entries, index, cells)


@functools.lru_cache(maxsize=4)
def batch_router(table_json: str, *, label: bool = True) -> BatchRouter:
    """Gives the process's one router of a table, whose tracing takes a second or so."""
    return BatchRouter(from_json(table_json), label=label)


def describe_record(serialized: bytes) -> tuple[dict, str | None, int | None]:
    """Reads back a record that was set aside, and the file and line it came from, if known."""
    features = tf.train.Example.FromString(serialized).features.feature
    record = {}
    for key, feature in features.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if kind == "bytes_list":
            values = [value.decode(errors="backslashreplace") for value in values]
        record[key] = values[0] if len(values) == 1 else values
    source, offset = (record.pop(key, None) for key in (SOURCE, OFFSET))
    source = source if isinstance(source, str) else None  # others may use the keys as they like
    return record, source, offset if isinstance(offset, int) else None
