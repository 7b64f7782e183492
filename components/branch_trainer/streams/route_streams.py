"""Makes the streams that a route is trained and watched on of its rows."""

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.streams.read_files import serialized_rows
from branchline.components.branch_trainer.streams.read_rows import (
    BATCH,
    Rows,
    num_bytes,
    padded,
)

_BLOCK = 16  # batches gathered at a time where nothing has to be padded, if they are so small:
_BLOCK_BYTES = 16 << 20
_AHEAD = 4  # batches made before they are asked for
_WATCHED_BYTES = 64 << 20  # of rows that are validated at a time
_BUFFER = 256 << 20  # bytes of rows that are shuffled at a time where they do not fit in memory

# Or tf.data rewrites what is mapped, and leaves a file of it until the process ends.
_as_it_is = tf.autograph.experimental.do_not_convert
# Labels and weight, as `Rows` has them → (labels,) as the losses take them, or (labels, weights).
LabelsFn = Callable[[dict[str, Any]], tuple]


def shuffled_batches(
    rows: Rows, *, skip: int, batch_size: int, seed: int, labels_fn: LabelsFn, cache_file: str
) -> tf.data.Dataset:
    """Streams a route's rows without end, each epoch in another order, in full batches.

    Rows that are held in memory are gathered by their numbers: a row is never handled alone. Others
    are transformed in the first epoch, kept on disk, and shuffled within a buffer.

    Args:
        rows: The route's.
        skip: How many at the beginning to leave out.
        batch_size: Rows in a batch.
        seed: Of the orders.
        labels_fn: Makes of the labels what the losses take.
        cache_file: Where rows that do not fit in memory are kept.

    Returns:
        A dataset of (features, labels), or (features, labels, weights float32 [batch]).
    """
    if rows.features is None:
        return _from_disk(rows, skip, batch_size, seed, labels_fn, cache_file)
    columns = (rows.features, *labels_fn(rows.labels))
    flat = tf.nest.flatten(columns)
    ragged = any(isinstance(each, tf.RaggedTensor) for each in flat)
    fitting = _BLOCK_BYTES * rows.count // max(1, batch_size * num_bytes(columns))
    size = batch_size * (1 if ragged else max(1, min(_BLOCK, fitting)))
    held = [tf.constant(number, tf.int64) for number in (skip, rows.count - skip, seed)]
    specs: Any = tuple(_any_rows(i, column) for i, column in enumerate(flat))
    with tf.device("CPU:0"):
        batches = _stream_graph(size, batch_size, specs)(*held, *flat)
    shapes = [tf.TensorSpec([batch_size, *spec.shape[1:]], spec.dtype) for spec in specs]
    structure = tf.nest.pack_sequence_as(columns, shapes)
    options = tf.data.Options()
    # There is nothing to tune; to look for it takes as long as many steps, and a thread a stream.
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return tf.data.experimental.from_variant(batches, structure).with_options(options)


@functools.lru_cache(maxsize=64)
def _stream_graph(size: int, batch_size: int, specs: tuple[tf.TypeSpec, ...]) -> Any:
    """Traces what makes the stream of a route; one trace serves all whose columns are of a kind.

    As `map`, `rebatch` and `prefetch` do it, but those trace anew for every stream, and called one
    by one take ten times as long.

    Args:
        size: Rows that are gathered at a time.
        batch_size: Rows in a batch.
        specs: Of the columns.

    Returns:
        A concrete function of how many rows at the beginning are left out, how many there are after
        them, the seed, and the columns, that gives a dataset as a variant.
    """

    def gather(
        number: tf.Tensor, skip: tf.Tensor, count: tf.Tensor, seed: tf.Tensor, *columns: Any
    ) -> list[tf.Tensor]:
        place = number * size + tf.range(size, dtype=tf.int64)  # in all epochs one after the other
        epoch = place // count
        # `index_shuffle` pads more than one seed wrongly (TensorFlow 2.16 to 2.21).
        seeds = tf.stack([tf.zeros_like(epoch), tf.fill([size], seed), epoch], axis=1)
        chosen = skip + tf.raw_ops.RandomIndexShuffle(
            index=place % count, seed=seeds, max_index=count - 1
        )
        return [padded(tf.gather(column, chosen)) for column in columns]

    numbers = [tf.TensorSpec([], tf.int64, name=f"number_{i}") for i in range(4)]
    traced = tf.function(gather, input_signature=[*numbers, *specs], autograph=False)
    graph = traced.get_concrete_function()
    types, shapes = list(graph.output_dtypes), list(graph.output_shapes)

    def stream(*held: Any) -> tf.Tensor:
        made = tf.raw_ops.MapDataset(
            input_dataset=tf.data.experimental.to_variant(tf.data.Dataset.range(tf.int64.max)),
            other_arguments=tf.nest.flatten(held, expand_composites=True),
            f=graph,
            output_types=types,
            output_shapes=shapes,
            preserve_cardinality=True,
        )
        shapes_of_batch = [tf.TensorShape([batch_size, *shape[1:]]) for shape in shapes]
        if size > batch_size:
            made = tf.raw_ops.RebatchDatasetV2(
                input_dataset=made,
                batch_sizes=tf.constant([batch_size], tf.int64),
                drop_remainder=True,
                output_types=types,
                output_shapes=shapes_of_batch,
            )
        return tf.raw_ops.PrefetchDataset(
            input_dataset=made,
            buffer_size=tf.constant(_AHEAD, tf.int64),
            output_types=types,
            output_shapes=shapes_of_batch,
        )

    traced = tf.function(stream, input_signature=[*numbers[1:], *specs], autograph=False)
    return traced.get_concrete_function()


def _any_rows(number: int, column: tf.Tensor | tf.RaggedTensor) -> tf.TypeSpec:
    """Gives the spec of the column of this number, whatever the number of its rows."""
    if isinstance(column, tf.RaggedTensor):
        spec: Any = tf.type_spec_from_value(column)
        shape = [None, *spec.shape[1:]]
        return tf.RaggedTensorSpec(shape, spec.dtype, spec.ragged_rank, spec.row_splits_dtype)
    return tf.TensorSpec([None, *column.shape[1:]], column.dtype, name=f"column_{number}")


def _from_disk(
    rows: Rows, skip: int, batch_size: int, seed: int, labels_fn: LabelsFn, cache_file: str
) -> tf.data.Dataset:
    @_as_it_is
    def parse(serialized: tf.Tensor) -> tuple:
        features, labels = rows.parse_fn(serialized)
        return features, *labels_fn(labels)

    one = _measured_row_bytes(rows)
    buffer = max(4 * batch_size, _BUFFER // one)
    kept = serialized_rows(rows.files).skip(skip).batch(min(BATCH, buffer)).map(parse)
    shuffled = kept.cache(cache_file).unbatch().shuffle(buffer, seed=seed).repeat()
    batches = shuffled.batch(batch_size, drop_remainder=True)
    padded_batches = batches.map(
        _as_it_is(lambda *of_batch: tf.nest.map_structure(padded, of_batch))
    )
    return padded_batches.prefetch(_AHEAD)


def _measured_row_bytes(rows: Rows) -> int:
    """Estimates what a row takes in memory: of all that are there, or the first on disk."""
    if rows.features is not None:
        return max(1, num_bytes(rows.features) // max(1, rows.count))
    features, labels = rows.parse_fn(next(iter(serialized_rows(rows.files).batch(64))))
    return max(1, math.ceil(num_bytes(features) / len(next(iter(labels.values())))))


def first_batches(
    rows: Rows, *, take: int, batch_size: int, labels_fn: LabelsFn, cache_file: str = ""
) -> tf.data.Dataset:
    """Streams a route's first rows once, in order, as a dataset like that of `shuffled_batches`.

    Args:
        rows: The route's.
        take: How many.
        batch_size: Rows in a batch; of large rows fewer.
        labels_fn: Makes of the labels what the losses take.
        cache_file: Where rows that do not fit in memory are kept once read; "": in memory.
    """
    batch_size = max(1, min(batch_size, _WATCHED_BYTES // _measured_row_bytes(rows)))
    if rows.features is not None:
        columns = tf.nest.map_structure(lambda column: column[:take], rows.features)
        slices: Any = (columns, {key: column[:take] for key, column in rows.labels.items()})
        batches = tf.data.Dataset.from_tensor_slices(slices).batch(batch_size)
    else:
        batches = (
            serialized_rows(rows.files).take(take).batch(batch_size).map(_as_it_is(rows.parse_fn))
        )

    @_as_it_is
    def finish(features: Any, labels: Any) -> tuple:
        return tf.nest.map_structure(padded, features), *labels_fn(labels)

    return batches.map(finish).cache("" if rows.features is not None else cache_file)
