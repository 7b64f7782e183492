"""Streams what is in files of routed examples, as it is there."""

import tensorflow as tf


def serialized_rows(files: list[str]) -> tf.data.Dataset:
    """Streams the records of TFRecord files, gzip, in order."""
    return tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.string),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([], tf.int64),
    ],
    autograph=False,
)
def batches_of(files: tf.Tensor, size: tf.Tensor, most: tf.Tensor) -> tf.data.Dataset:
    """Streams what is in files, `size` records at a time; one trace serves all routes.

    Of each file its first `most` records are read, of -1 all.

    Returns:
        A dataset of the records, string [batch], and the number of each one's file, int64 [batch].
    """

    def read(number: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(files[number], compression_type="GZIP")
        records = records.take(most).batch(size)
        return records.map(lambda some: (some, tf.fill([tf.size(some)], number)))

    numbers = tf.data.Dataset.range(tf.size(files, tf.int64))
    return numbers.flat_map(read).rebatch(size)
