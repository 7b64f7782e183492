"""Looks values up in a list that is known when the graph is made, without a loop over the list."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_HASHES = 2**63 - 1


def find(values: tf.Tensor, known: Sequence[str | bytes]) -> tf.Tensor:
    """Finds texts among the known ones.

    A search in the sorted hashes, then a comparison with the one candidate. It needs no table
    resource, which a SavedModel would have to track. Two of n known texts have the same hash, and
    one of them is then not found, with a probability of n² / 2⁶⁴: 10⁻¹³ for a thousand.

    Args:
        values: string [n].
        known: All different.

    Returns:
        int64 [n], the index into `known`, -1 where a value is none of them.
    """
    if not known:
        return tf.fill(tf.shape(values), tf.constant(-1, tf.int64))
    texts = tf.constant(list(known), tf.string)
    hashes = tf.strings.to_hash_bucket_fast(texts, _HASHES)
    order = tf.argsort(hashes)
    wanted = tf.strings.to_hash_bucket_fast(values, _HASHES)
    place = tf.minimum(tf.searchsorted(tf.gather(hashes, order), wanted), len(known) - 1)
    candidate = tf.gather(order, place)
    found = tf.equal(tf.gather(texts, candidate), values)
    return tf.cast(tf.where(found, candidate, -1), tf.int64)


def find_code(codes: tf.Tensor, known: np.ndarray) -> tf.Tensor:
    """Finds whole numbers among the known ones.

    Args:
        codes: int64 [n].
        known: int64 [m], all different.

    Returns:
        int64 [n], the index into `known`, -1 where a code is none of them.
    """
    if not len(known):
        return tf.fill(tf.shape(codes), tf.constant(-1, tf.int64))
    order = np.argsort(known)
    ordered = tf.constant(known[order], tf.int64)
    place = tf.minimum(tf.searchsorted(ordered, codes), len(known) - 1)
    found = tf.equal(tf.gather(ordered, place), codes)
    return tf.where(found, tf.gather(tf.constant(order, tf.int64), place), -1)
