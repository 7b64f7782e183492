"""Parses a batch of which some entries may be no tf.Example, for a model that is asked anything.

The operations that decode protocol buffers fail the whole batch, and the one way to go on after an
error within a graph is a `tf.data` dataset that ignores its errors. So the batch is parsed in one,
which takes half a millisecond more; only if that fails is every entry tried by itself.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from branchline.components.routing.parse_batch import Entries, parse
from branchline.schemas import RoutingTable


class Parsed(NamedTuple):
    """A parsed batch.

    Attributes:
        entries: What `parse` gives; nothing of the rows that cannot be read.
        readable: bool [batch], whether a row is a tf.Example.
    """

    entries: Entries
    readable: tf.Tensor


def parse_any(serialized: tf.Tensor, table: RoutingTable) -> Parsed:
    """Takes a batch apart as `parse` does, but for the entries that are no tf.Example.

    Values under a key that nobody reads are not looked at, and no bytes at all are an Example
    without features.

    Args:
        serialized: string [batch], any bytes.
        table: Names the keys whose values are read.
    """
    num_rows = tf.size(serialized, tf.int64)
    structure: Any = None

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def parse_some(texts: tf.Tensor) -> Entries:
        return parse(texts, table)

    def all_of(texts: tf.Tensor, readable: tf.Tensor) -> tuple[tf.Tensor, ...]:
        nonlocal structure
        structure = Parsed(parse_some(texts), readable)
        return tuple(tf.nest.flatten(structure, expand_composites=True))

    def only(rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        readable = tf.scatter_nd(rows[:, None], tf.ones_like(rows), num_rows[None]) > 0
        return all_of(tf.where(readable, serialized, ""), readable)

    datasets = tf.data.Dataset
    whole = datasets.from_tensors(serialized)
    whole = whole.map(lambda texts: all_of(texts, tf.ones_like(texts, tf.bool)))
    good = datasets.range(num_rows).filter(lambda row: _is_read(parse_some(serialized[row][None])))
    none = datasets.from_tensors(tf.zeros([0], tf.int64))
    good = good.ignore_errors().batch(tf.maximum(num_rows, 1)).concatenate(none).take(1)
    either = whole.ignore_errors().concatenate(good.map(only)).take(1)
    flat = either.with_options(_options()).get_single_element()
    return tf.nest.pack_sequence_as(structure, flat, expand_composites=True)


def _is_read(entries: Entries) -> tf.Tensor:
    """Gives true, or the error of `parse`; depends on all it gives, or that would not be run."""
    parts = tf.nest.flatten(entries, expand_composites=True)
    return tf.add_n([tf.size(part) for part in parts]) >= 0


def _options() -> tf.data.Options:
    """To set nothing up for one element that is read once: it would take longer than reading."""
    options: Any = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
