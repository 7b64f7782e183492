"""Prepares the kinds of feature of which a record may hold any number of values."""

import tensorflow as tf

from branchline.components.transform.own_rows import OwnRows
from branchline.schemas import Sequence, Tags


def used_values(rows: OwnRows) -> OwnRows:
    """Gives the values that are used, and learnt from, numbered anew; of other kinds, all.

    Args:
        rows: Of any group, as they are in the columns.
    """
    if isinstance(rows.group.kind, Tags):
        return first_values(_tags(rows, rows.group.kind.separator))
    return _last(rows) if isinstance(rows.group.kind, Sequence) else rows


def _tags(rows: OwnRows, separator: str | None) -> OwnRows:
    if separator is not None:
        pieces = tf.strings.split(rows.values, separator)
        rows = rows.cut(pieces.with_flat_values(tf.strings.strip(pieces.flat_values)))
    return rows.at(tf.where(tf.not_equal(rows.values, ""))[:, 0]).numbered()


def first_values(rows: OwnRows) -> OwnRows:
    """Gives the values that a row has room for, from its first one on."""
    return rows.at(tf.where(rows.positions < rows.group.width)[:, 0])


def _last(rows: OwnRows) -> OwnRows:
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(rows.rows), rows.rows, rows.batch)
    to_end = tf.gather(sizes, rows.rows) - rows.positions
    return rows.at(tf.where(to_end <= rows.group.width)[:, 0]).numbered()


def each_with_one(numbers: tf.SparseTensor) -> tf.SparseTensor:
    """Puts a 1 behind every number, which tells it from what a shorter sequence is filled up with.

    Args:
        numbers: float32 [batch, width].

    Returns:
        float32 [batch, 2 * width].
    """
    rows, positions = tf.unstack(numbers.indices, axis=1)
    places = tf.stack([rows, 2 * positions, rows, 2 * positions + 1], axis=1)
    values = tf.stack([numbers.values, tf.ones_like(numbers.values)], axis=1)
    shape = numbers.dense_shape * tf.constant([1, 2], tf.int64)
    return tf.SparseTensor(tf.reshape(places, [-1, 2]), tf.reshape(values, [-1]), shape)


def buckets(values: tf.Tensor, num_buckets: int) -> tf.Tensor:
    """Hashes texts to int64 in [1, num_buckets]; 0 is left for no value."""
    return tf.strings.to_hash_bucket_fast(values, num_buckets) + 1


def to_length(vectors: OwnRows) -> tf.Tensor:
    """Scales each row's vector to a length of √dim; one of zeros stays as it is.

    Args:
        vectors: Of a group of kind `Embedding`, float32.

    Returns:
        float32 [values].
    """
    exact = tf.cast(vectors.values, tf.float64)  # squares of float32 need more than 32 bits
    squares = tf.math.unsorted_segment_sum(tf.square(exact), vectors.rows, vectors.batch)
    scales = tf.math.divide_no_nan(tf.sqrt(tf.cast(vectors.group.width, tf.float64)), squares**0.5)
    return tf.cast(exact * tf.gather(scales, vectors.rows), tf.float32)
