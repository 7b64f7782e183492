"""Routes a batch of serialized examples: which go where, rewritten, and which are set aside."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.router.rewrite import rewrite
from branchline.components.routing.parse_batch import Column, parse
from branchline.components.routing.read_fields import Problem, read_fields
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import RoutingTable, from_json
from branchline.schemas.errors import RESERVED_KEYS


class Routed(NamedTuple):
    """What became of a batch.

    Attributes:
        examples: Route → its examples, rewritten.
        aside: (position in the batch, why) of every example that no route could use.
    """

    examples: dict[str, list[bytes]]
    aside: list[tuple[int, Problem]]


class BatchRouter:
    """Routes batches by a table; traces its TensorFlow function once.

    Args:
        table: The routes.
    """

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._problems: list[Problem] = [Problem("no_route", _no_route(table))]
        self._fn = tf.function(
            self._route, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def __call__(self, serialized: list[bytes]) -> Routed:
        """Routes the examples; every one of them is in the result exactly once."""
        if not serialized:
            return Routed({name: [] for name in self._table.names}, [])
        outputs, problem = self._fn(tf.constant(serialized, tf.string))
        examples = {name: rows.numpy().tolist() for name, rows in outputs.items()}
        problem = problem.numpy()
        aside = [(int(row), self._problems[problem[row]]) for row in np.flatnonzero(problem >= 0)]
        return Routed(examples, aside)

    def _route(self, serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        columns = parse(serialized, self._table.keys)
        index = route_index(self._table, columns)
        problem = tf.where(index < 0, 0, -1)
        outputs = {}
        for number, route in enumerate(self._table.routes):
            rows = tf.where(tf.equal(index, number))[:, 0]
            # The first row stands in after the route's own, because protocol buffers are decoded
            # and encoded one at least; what comes of it is dropped.
            some = tf.concat([rows, [0]], axis=0)
            fields = read_fields(
                route, {key: _take(columns[key], some) for key in route.dtypes}, label=True
            )
            here = tf.where(fields.problem < 0, -1, fields.problem + len(self._problems))[:-1]
            self._problems += fields.problems
            problem = tf.tensor_scatter_nd_update(problem, rows[:, None], here)
            good = tf.concat([tf.where(here < 0)[:, 0], tf.shape(rows, tf.int64)], axis=0)
            kept = {key: _take(column, good) for key, column in fields.columns.items()}
            texts = tf.gather(serialized, tf.gather(some, good))
            fields = fields._replace(columns=kept)
            outputs[route.name] = rewrite(self._table, route, texts, fields)[:-1]
        return outputs, problem


@functools.lru_cache(maxsize=4)
def batch_router(table_json: str) -> BatchRouter:
    """Gives the process's one router of a table, whose tracing takes a second or two."""
    return BatchRouter(from_json(table_json))


def _take(column: Column, rows: tf.Tensor) -> Column:
    return Column(*(tf.gather(part, rows) for part in column))


def _no_route(table: RoutingTable) -> str:
    return f"no route takes it; the routes are {', '.join(table.names)}"


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
    source, offset, _ = (record.pop(key, None) for key in RESERVED_KEYS)
    return record, source, offset
