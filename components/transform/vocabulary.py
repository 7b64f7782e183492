"""Learns the vocabularies of all routes in one pass and looks values up in them.

One text file holds them all. After a first line, which only keeps it from being empty, the lines

    <vocabulary>.<value in web-safe base64><TAB><index>
    <vocabulary><TAB><index of all other values>

say of each vocabulary, in any order, which index a value has. So a value may hold any bytes, tabs
and line breaks too. A vocabulary is known by the number of the feature that it is of; indices
count from 1, the most frequent value's.
"""

import base64
import collections
import contextlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.transforms.window import GlobalWindows

from branchline.components.transform.groups import Group, Member, groups_of
from branchline.components.transform.own_rows import OwnRows
from branchline.schemas import RoutingTable

FILE = "vocabularies"
_FIRST_LINE = b"-\t0"  # TensorFlow reads no table from an empty file
_MOST_COUNTED = 100_000  # distinct values that a worker counts before it hands them on


def vocabulary_sizes(
    transform: str | tft.TFTransformOutput, table: RoutingTable
) -> dict[tuple[str, str], int]:
    """Counts the values that each vocabulary knows.

    Args:
        transform: What Transform has written, or where.
        table: The routes.

    Returns:
        (route, key) of every feature with a vocabulary → the number of values that have an index of
        their own, 1 to that number; one more is the index of all others, and 0 stands for no value.
    """
    names = table.names
    owners = [(names[member.route], member.key) for _, member in _numbered(table)]
    sizes = dict.fromkeys(owners, 0)
    if owners:
        output = tft.TFTransformOutput(transform) if isinstance(transform, str) else transform
        with tf.io.gfile.GFile(output.vocabulary_file_by_name(FILE), "rb") as file:
            for line in file:
                key, _, index = line.partition(b"\t")
                if key.isdigit():
                    sizes[owners[int(key)]] = int(index) - 1
    return sizes


def _numbered(table: RoutingTable) -> list[tuple[Group, Member]]:
    """Whose each vocabulary is, in the order of their numbers."""
    groups = [g for g in groups_of(table) if g.kind.vocabulary]
    return [(group, member) for group in groups for member in group.members]


class Vocabularies:
    """The vocabularies of all routes, in the graph of a preprocessing function.

    Args:
        table: The routes.
        words: What they are learnt from, per group: all its values, or the words of its texts.
    """

    def __init__(self, table: RoutingTable, words: Sequence[OwnRows]) -> None:
        numbered = _numbered(table)
        self._numbers: dict[str, list[str]] = {}
        for number, (group, _) in enumerate(numbered):
            self._numbers.setdefault(group.name, []).append(str(number))
        tagged = [tf.strings.join([self._number(rows), rows.values], ".") for rows in words]
        values, _, counts = tf.unique_with_counts(tf.concat(tagged, 0), tf.int64)
        (self._file,) = tft.experimental.ptransform_analyzer(
            [values, counts],
            _MostFrequent([group.kind.vocabulary or 0 for group, _ in numbered]),
            [tf.string],
            [[]],
            output_asset_default_values=[_FIRST_LINE],
        )
        tft.annotate_asset(FILE, FILE)
        self._table: tf.lookup.StaticHashTable | None = None

    def index(self, words: OwnRows) -> tf.Tensor:
        """Looks words up in the vocabularies of their own routes.

        Returns:
            int64 [values]: from 1 on by frequency, and one more than the last for the unknown.
        """
        number = self._number(words)

        def look_up(keys: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            table = self._open(path)
            found, other = table.lookup(keys), table.lookup(number)
            other = tf.maximum(other, 1)  # 0 where there was no value to learn from
            return tf.where(found > 0, found, other), table.size()

        keys = tf.strings.join([number, tf.io.encode_base64(words.values)], ".")
        return tft.apply_vocabulary(keys, self._file, lookup_fn=look_up)

    def _number(self, rows: OwnRows) -> tf.Tensor:
        """The number of each value's vocabulary, as text: string [values]."""
        return tf.gather(tf.constant(self._numbers[rows.group.name]), rows.members)

    def _open(self, path: tf.Tensor) -> tf.lookup.StaticHashTable:
        if self._table is None:
            # A table that is made within the function is filled again with every batch.
            outside = not tf.is_symbolic_tensor(path)
            with tf.init_scope() if outside else contextlib.nullcontext():
                lines = tf.lookup.TextFileInitializer(path, tf.string, 0, tf.int64, 1)
                self._table = tf.lookup.StaticHashTable(lines, default_value=0)
        return self._table


class _MostFrequent(tft_beam.experimental.PTransformAnalyzer):
    """Keeps each vocabulary's most frequent values; of equally frequent ones the greater first.

    Args:
        limits: How many values a vocabulary may hold.
    """

    def __init__(self, limits: list[int]) -> None:
        super().__init__()
        self._limits = limits

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        return (
            input_or_inputs
            | "CountInBundle" >> beam.ParDo(_CountFn())
            | "Count" >> beam.CombinePerKey(sum)  # pyright: ignore[reportArgumentType]
            | "ByVocabulary" >> beam.MapTuple(_by_vocabulary)
            | "Vocabularies" >> beam.GroupByKey()
            | "Lines" >> beam.FlatMapTuple(self._lines)
            | "Write"
            >> beam.io.WriteToText(
                f"{self.base_temp_dir}/{FILE}",
                num_shards=1,
                shard_name_template="",
                header=_FIRST_LINE,
                coder=beam.coders.BytesCoder(),
            )
        )

    def _lines(self, number: int, counted: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        kept = heapq.nlargest(self._limits[number], counted)
        for index, (_, value) in enumerate(kept, start=1):
            yield b"%d.%s\t%d" % (number, base64.urlsafe_b64encode(value).rstrip(b"="), index)
        yield b"%d\t%d" % (number, len(kept) + 1)


class _CountFn(beam.DoFn):
    """Adds up the counts of many batches, so that Beam has little to sort."""

    def start_bundle(self) -> None:
        self._counts: collections.Counter[bytes] = collections.Counter()

    def process(self, batch: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[bytes, int]]:
        for value, count in zip(*(each.tolist() for each in batch), strict=True):
            self._counts[value] += count
        if len(self._counts) > _MOST_COUNTED:
            yield from self._counts.items()
            self._counts.clear()

    def finish_bundle(self) -> Any:
        for counted in self._counts.items():
            yield GlobalWindows.windowed_value(counted)


def _by_vocabulary(tagged: bytes, count: int) -> tuple[int, tuple[int, bytes]]:
    number, _, value = tagged.partition(b".")
    return int(number), (count, value)
