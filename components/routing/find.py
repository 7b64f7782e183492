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
    with tf.init_scope():  # now, not each time
        hashes = tf.strings.to_hash_bucket_fast(list(known), _HASHES).numpy()
    order = np.argsort(hashes)
    place = _search(hashes[order], tf.strings.to_hash_bucket_fast(values, _HASHES))
    candidate = tf.gather(tf.constant(order, tf.int64), place)
    found = tf.equal(tf.gather(tf.constant(list(known), tf.string), candidate), values)
    return tf.where(found, candidate, -1)


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
    place = _search(known[order], codes)
    found = tf.equal(tf.gather(tf.constant(known[order], tf.int64), place), codes)
    return tf.where(found, tf.gather(tf.constant(order, tf.int64), place), -1)


def _search(ordered: np.ndarray, wanted: tf.Tensor) -> tf.Tensor:
    """Where each of `wanted` [n] would be in `ordered` [m], at most m - 1: int32 [n].

    What `tf.searchsorted` does, without the dozen operations by which it allows for any shape.
    """
    sorted_inputs = tf.constant(ordered[None, :], tf.int64)
    place = tf.raw_ops.LowerBound(sorted_inputs=sorted_inputs, values=tf.expand_dims(wanted, 0))
    return tf.minimum(tf.squeeze(place, 0), len(ordered) - 1)
