"""Cuts texts of any script into words, or into the characters of words."""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.transform.own_rows import OwnRows
from branchline.components.transform.unicode_form import nfc
from branchline.schemas import Text

# All that is no letter, no mark on one and no digit. The last two tell letters beside them to
# join or not to (Persian, Hindi), and like marks belong to their word: Unicode's annex 29.
_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}\x{200C}\x{200D}]+"


def words_of(texts: Sequence[OwnRows]) -> list[OwnRows]:
    """Cuts texts into words or characters, and runs of up to `ngrams` of them, in their order.

    Args:
        texts: Of each group of kind `Text`, string, one a row.

    Returns:
        Of each group, string, any number a row, in lower case and Unicode's form NFC; of what
        begins with one word or character the shorter first.
    """
    if not texts:
        return []
    sizes = [tf.size(rows.values) for rows in texts]
    lower = tf.strings.lower(tf.concat([rows.values for rows in texts], 0), encoding="utf-8")
    parts = tf.split(nfc(lower), tf.stack(sizes), num=len(texts))
    return [_cut(rows._replace(values=part)) for rows, part in zip(texts, parts, strict=True)]


def _cut(texts: OwnRows) -> OwnRows:
    kind = texts.group.kind
    assert isinstance(kind, Text)
    spaced = tf.strings.regex_replace(texts.values, _BETWEEN_WORDS, " ")
    words = texts.cut(tf.strings.split(spaced))
    if kind.tokens == "words":
        return _runs(words, words.rows, kind.ngrams, " ")
    characters = tf.strings.unicode_split(words.values, "UTF-8")
    return _runs(words.cut(characters), characters.value_rowids(), kind.ngrams, "")


def _runs(tokens: OwnRows, within: tf.Tensor, longest: int, separator: str) -> OwnRows:
    """Adds runs of up to `longest` neighbours of which `within` int64 [values] is the same."""
    if longest == 1:
        return tokens
    number = tf.range(tf.size(within, tf.int64))
    last = tf.reduce_max(tf.concat([within, [-1]], 0)) + 1
    shape = tf.stack([last, tf.size(within, tf.int64)])
    sparse = tf.SparseTensor(tf.stack([within, number], 1), tokens.values, shape)
    runs = tft.ngrams(sparse, (1, longest), separator)
    first = tf.math.unsorted_segment_min(number, within, last)  # of each, its first token
    at = tokens.at(tf.gather(first, runs.indices[:, 0]))
    return at._replace(values=runs.values).numbered()
