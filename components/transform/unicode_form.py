"""Brings texts to Unicode's form NFC, so that texts that look alike are equal.

"é" may come as one character or as "e" and a mark, and marks in several orders. TensorFlow's own
operations have no such form, and those of tensorflow-text would have to be there where the model is
served. What is known of characters is that of Python's `unicodedata` where the graph is made.

Source: Unicode's annex 15; The Unicode Standard, 3.11 "Normalization Forms" and 3.12 on Hangul.
"""

import functools
import itertools
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.routing.find import find_code

_LAST = 0x30000  # no character from here on has another form
_HANGUL = range(0xAC00, 0xD7A4)
_MOST_PARTS = 4
_BITS = 21  # of a character's number


class _Tables(NamedTuple):
    """What has to be known of characters.

    Attributes:
        whole: int64 [n], those that are to be taken apart.
        parts: int64 [n, _MOST_PARTS], of each, 0 for none.
        marks: int64 [m], those that are put in order.
        ranks: int64 [m], by what.
        pairs: int64 [p], first and second of two that are put together.
        made: int64 [p], to what.
        pattern: Matches texts that may be in another form.
    """

    whole: np.ndarray
    parts: np.ndarray
    marks: np.ndarray
    ranks: np.ndarray
    pairs: np.ndarray
    made: np.ndarray
    pattern: str


@functools.cache
def _tables() -> _Tables:
    whole, parts, pairs = [], [], {}
    marks = [code for code in range(_LAST) if unicodedata.combining(chr(code))]
    for code in range(_LAST):
        told = unicodedata.decomposition(chr(code))
        if not told or told.startswith("<"):
            continue
        apart = [ord(each) for each in unicodedata.normalize("NFD", chr(code))]
        whole.append(code)
        parts.append(apart + [0] * (_MOST_PARTS - len(apart)))
        if unicodedata.is_normalized("NFC", chr(code)):
            first, second = (int(each, 16) for each in told.split())
            pairs[first << _BITS | second] = code
    for code in _HANGUL:
        first, second, *third = (ord(each) for each in unicodedata.normalize("NFD", chr(code)))
        if third:  # is put together with what the first two make
            first, second = ord(unicodedata.normalize("NFC", chr(first) + chr(second))), third[0]
        pairs[first << _BITS | second] = code
    firsts, seconds = ({pair >> _BITS for pair in pairs}, {pair % (1 << _BITS) for pair in pairs})
    other = [code for code in whole if not unicodedata.is_normalized("NFC", chr(code))]
    neighbours = ((marks, marks), (whole, marks), (firsts, seconds))
    pattern = "|".join([_any_of(other), *(_any_of(a) + _any_of(b) for a, b in neighbours)])
    return _Tables(
        whole=np.array(whole, np.int64),
        parts=np.array(parts, np.int64),
        marks=np.array(marks, np.int64),
        ranks=np.array([unicodedata.combining(chr(code)) for code in marks], np.int64),
        pairs=np.array([*pairs], np.int64),
        made=np.array([*pairs.values()], np.int64),
        pattern=f"(?s).*(?:{pattern}).*",
    )


def _any_of(codes: Iterable[int]) -> str:
    """Writes a regular expression for one of the characters with these numbers."""
    runs = itertools.groupby(enumerate(sorted(codes)), lambda each: each[1] - each[0])
    ends = ([code for _, code in run] for _, run in runs)
    written = [rf"\x{{{run[0]:X}}}-\x{{{run[-1]:X}}}" for run in ends]
    return f"[{''.join(written)}]"


def nfc(texts: tf.Tensor) -> tf.Tensor:
    """Gives texts in the form NFC: string [n] to string [n]."""
    other = tf.strings.regex_full_match(texts, _tables().pattern)
    # Mostly there is none, and hundreds of operations need milliseconds for nothing too.
    return tf.cond(tf.reduce_any(other), lambda: _formed(texts, tf.where(other)), lambda: texts)


def _formed(texts: tf.Tensor, mine: tf.Tensor) -> tf.Tensor:
    """Gives texts with those brought to the form whose numbers are `mine` [m, 1]."""
    decoded = tf.strings.unicode_decode(tf.gather(texts, mine[:, 0]), "UTF-8")
    row, code = decoded.value_rowids(), tf.cast(decoded.flat_values, tf.int64)
    row, code, _ = tf.while_loop(
        lambda *_: True,
        _together,
        _in_order(*_apart(row, code)),
        shape_invariants=(tf.TensorShape([None]),) * 3,
        maximum_iterations=_MOST_PARTS - 1,
    )
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(row), row, decoded.nrows())
    ragged_class: Any = tf.RaggedTensor
    ragged = ragged_class.from_row_lengths(tf.cast(code, tf.int32), lengths)
    formed = tf.strings.unicode_encode(ragged, "UTF-8")
    return tf.tensor_scatter_nd_update(texts, mine, formed)


def _apart(row: tf.Tensor, code: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes characters apart: the row and the number of each, int64 [n], to int64 [m]."""
    tables = _tables()
    found = find_code(code, tables.whole) + 1
    alone = tf.pad(code[:, None], [[0, 0], [0, _MOST_PARTS - 1]])
    parts = tf.gather(tf.pad(tf.constant(tables.parts), [[1, 0], [0, 0]]), found)
    parts = tf.where((found > 0)[:, None], parts, alone)
    # The first counts even if it is the character 0.
    there = (parts > 0) | tf.constant([True] + [False] * (_MOST_PARTS - 1))
    where = tf.where(there)
    return tf.gather(row, where[:, 0]), tf.gather_nd(parts, where)


def _in_order(row: tf.Tensor, code: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Puts the marks behind each character in order, and gives the rank of each, 0 for no mark."""
    tables = _tables()
    rank = tf.gather(tf.constant([0, *tables.ranks], tf.int64), find_code(code, tables.marks) + 1)
    order = tf.argsort(_runs(row, rank) * 256 + rank, stable=True)
    return row, tf.gather(code, order), tf.gather(rank, order)


def _runs(row: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """Numbers what is no mark, with the marks behind it, from 0 on: int64 [n]."""
    new_row = tf.not_equal(row, tf.concat([[-1], row[:-1]], 0))
    return tf.cumsum(tf.cast(tf.equal(rank, 0) | new_row, tf.int64)) - 1


def _together(
    row: tf.Tensor, code: tf.Tensor, rank: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Puts to every character that is no mark the first of those behind it that can be."""
    tables, size = _tables(), tf.size(code, tf.int64)
    number, run = tf.range(size), _runs(row, rank)
    previous = tf.maximum(number - 1, 0)
    is_mark = rank > 0
    first = tf.gather(tf.math.unsorted_segment_min(number, run, size), run)
    base = tf.where(is_mark, first, previous)
    fits = tf.equal(tf.gather(rank, base), 0) & tf.equal(tf.gather(row, base), row)
    # A mark of the same rank in between keeps this one away.
    fits &= tf.equal(base, previous) | tf.not_equal(tf.gather(rank, previous), rank)
    pair = tf.bitwise.left_shift(tf.gather(code, base), np.int64(_BITS)) + code
    found = find_code(pair, tables.pairs)
    fits &= (found >= 0) & (number > 0)
    fits &= tf.logical_not(tf.gather(fits, base))  # is put to another one itself
    nearest = tf.math.unsorted_segment_min(tf.where(fits, number, size), base, size)
    fits &= tf.equal(tf.gather(nearest, base), number)
    taken, left = tf.where(fits), tf.where(tf.logical_not(fits))[:, 0]
    made = tf.gather(tf.constant(tables.made), tf.gather_nd(found, taken))
    code = tf.tensor_scatter_nd_update(code, tf.gather(base, taken), made)
    return tf.gather(row, left), tf.gather(code, left), tf.gather(rank, left)
