"""Reads the texts of labels that are any number of names: one text each, in whatever way it came.

A text with a separator is several, spaces around a name do not count, and empty ones are left out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from branchline.schemas.class_names import NONE_OF_THEM
from branchline.schemas.fields import Field


class Texts(NamedTuple):
    """Texts of rows, in the order of the rows.

    Attributes:
        rows: int64 [n], whose each is.
        values: string [n].
    """

    rows: tf.Tensor
    values: tf.Tensor


def split_texts(texts: Texts, chosen: tf.Tensor, separator: str) -> Texts:
    """Splits those of the texts that are chosen.

    Args:
        texts: Any.
        chosen: bool [n].
        separator: What stands between two.
    """
    mine, others = tf.where(chosen)[:, 0], tf.where(tf.logical_not(chosen))[:, 0]
    pieces: Any = tf.strings.split(tf.gather(texts.values, mine), separator)
    of = tf.gather(mine, pieces.to_sparse().indices[:, 0])
    return _in_order(texts, (of, pieces.flat_values), (others, tf.gather(texts.values, others)))


def names_alone(texts: Texts, is_list: tf.Tensor) -> Texts:
    """Strips the texts of lists, and leaves out those of which nothing is left.

    Args:
        texts: Any.
        is_list: bool [n]; other texts stay as they are.
    """
    stripped = tf.where(is_list, tf.strings.strip(texts.values), texts.values)
    kept = tf.where(tf.logical_not(is_list & tf.equal(stripped, "")))[:, 0]
    return Texts(tf.gather(texts.rows, kept), tf.gather(stripped, kept))


def read_lists(texts: Any, field: tf.Tensor, fields: Sequence[Field]) -> Any:
    """Gives each list its names, or NONE_OF_THEM where there are none.

    Args:
        texts: RaggedTensor of strings [cells, None].
        field: int64 [cells], the number of each cell's field; cells of others stay as they are.
        fields: All of them.

    Returns:
        RaggedTensor of strings [cells, None].
    """
    if not any(each.is_set for each in fields):
        return texts
    num = tf.size(field, tf.int64)
    found = Texts(texts.to_sparse().indices[:, 0], texts.flat_values)
    for separator in sorted({each.separator for each in fields if each.separator}):
        divided = tf.constant([each.separator == separator for each in fields])
        found = split_texts(found, tf.gather(divided, tf.gather(field, found.rows)), separator)
    is_set = tf.gather(tf.constant([each.is_set for each in fields]), field)
    found = names_alone(found, tf.gather(is_set, found.rows))
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(found.rows), found.rows, num)
    empty = tf.where(is_set & tf.equal(sizes, 0))[:, 0]
    rows = tf.concat([found.rows, empty], 0)
    values = tf.concat([found.values, tf.fill(tf.shape(empty), NONE_OF_THEM)], 0)
    values = tf.gather(values, tf.argsort(rows, stable=True))
    sizes += tf.cast(is_set & tf.equal(sizes, 0), tf.int64)
    ragged: Any = tf.RaggedTensor
    return ragged.from_row_lengths(values, sizes, validate=False)


def have_blanks(texts: Any) -> tf.Tensor:
    """Tells which rows have a text of spaces alone: bool [rows].

    Args:
        texts: RaggedTensor of strings [rows, None].
    """
    blank = texts.with_flat_values(tf.equal(tf.strings.strip(texts.flat_values), ""))
    return tf.reduce_any(blank, axis=1)


def _in_order(texts: Texts, *parts: tuple[tf.Tensor, tf.Tensor]) -> Texts:
    """Brings parts of texts, (which of the texts, values), back into their order."""
    of, values = (tf.concat(each, 0) for each in zip(*parts, strict=True))
    order = tf.argsort(of, stable=True)
    return Texts(tf.gather(texts.rows, tf.gather(of, order)), tf.gather(values, order))
