"""Turns labels that are any number of names into an entry 0 or 1 for each class."""

from typing import NamedTuple

import tensorflow as tf

from branchline.components.routing.class_names import class_index
from branchline.components.routing.read_lists import Texts, names_alone, split_texts
from branchline.schemas import Target


class LabelSets(NamedTuple):
    """The labels of some rows.

    Attributes:
        entries: int8 [rows, num_classes], 1 where a row has the class; -1 throughout in a row that
            lacks the label.
        unknown: int64 [rows], how many texts of each are none of the names.
        odd: string [u], these texts.
    """

    entries: tf.Tensor
    unknown: tf.Tensor
    odd: tf.Tensor


def label_sets(texts: Texts, target: Target, num_rows: tf.Tensor) -> LabelSets:
    """Reads the labels that routed examples hold.

    A row without a text lacks the label; one that has none of the names holds NONE_OF_THEM, or
    texts of which nothing is left.

    Args:
        texts: Of the rows' column.
        target: With names of classes.
        num_rows: int64 [].
    """
    there = tf.math.unsorted_segment_sum(tf.ones_like(texts.rows), texts.rows, num_rows) > 0
    if target.separator:
        texts = split_texts(texts, tf.ones_like(texts.rows, tf.bool), target.separator)
    texts = names_alone(texts, tf.ones_like(texts.rows, tf.bool))
    names = target.names or ()
    number = class_index(texts.values, names)
    known, others = tf.where(number >= 0)[:, 0], tf.where(number < 0)[:, 0]
    cells = tf.stack([tf.gather(texts.rows, known), tf.gather(number, known)], axis=1)
    shape = tf.stack([num_rows, tf.constant(len(names), tf.int64)])
    counts = tf.scatter_nd(cells, tf.ones_like(known, tf.int32), shape)
    entries = tf.where(there[:, None], tf.cast(counts > 0, tf.int8), tf.constant(-1, tf.int8))
    rows = tf.gather(texts.rows, others)
    unknown = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, num_rows)
    return LabelSets(entries, unknown, tf.gather(texts.values, others))
