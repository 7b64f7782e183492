"""The offsets from UTC that a zone has had and will have, as constants of a graph."""

import functools
from datetime import datetime, timedelta, timezone, tzinfo

import numpy as np
import tensorflow as tf

_FIRST, _LAST = datetime(1850, 1, 1, tzinfo=timezone.utc), datetime(2101, 1, 1, tzinfo=timezone.utc)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def offset_at(zone: tzinfo, seconds: tf.Tensor) -> tf.Tensor:
    """The offset at a time.

    Args:
        zone: The zone.
        seconds: int64 [n], since 1970 UTC.

    Returns:
        int64 [n], seconds that local time is ahead of UTC.
    """
    changes, offsets = _offsets(zone)
    return _find(changes, offsets, seconds)


def offset_of_local(zone: tzinfo, seconds: tf.Tensor) -> tf.Tensor:
    """The offset at a local time; of one that a change skips or has twice, that before the change.

    Args:
        zone: The zone.
        seconds: int64 [n], from 1970 to that time by the clock on the wall.
    """
    changes, offsets = _offsets(zone)
    return _find(changes + np.maximum(offsets[:-1], offsets[1:]), offsets, seconds)


def _find(changes: np.ndarray, offsets: np.ndarray, seconds: tf.Tensor) -> tf.Tensor:
    if not len(changes):
        return tf.fill(tf.shape(seconds), tf.constant(offsets[0], tf.int64))
    place = tf.searchsorted(tf.constant(changes, tf.int64), seconds, side="right")
    return tf.gather(tf.constant(offsets, tf.int64), place)


@functools.lru_cache(maxsize=32)
def _offsets(zone: tzinfo) -> tuple[np.ndarray, np.ndarray]:
    """When offsets change, int64 [t], and the offsets before, between and behind, int64 [t + 1].

    Python tells the offset of a time but no changes, so they are searched for: between noons that
    differ, by halves.
    """
    if isinstance(zone, timezone):
        return np.zeros([0], np.int64), np.array([_offset(zone, 0)])
    first, last = (int((end - _EPOCH).total_seconds()) for end in (_FIRST, _LAST))
    noons = range(first + 43_200, last, 86_400)
    found = np.array([_offset(zone, noon) for noon in noons])
    changes = []
    for number in np.flatnonzero(np.diff(found)):
        before, behind = noons[number], noons[number + 1]
        while behind - before > 1:
            middle = (before + behind) // 2
            same = _offset(zone, middle) == found[number]
            before, behind = (middle, behind) if same else (before, middle)
        changes.append(behind)
    offsets = [found[0], *(_offset(zone, change) for change in changes)]
    return np.array(changes, np.int64), np.array(offsets, np.int64)


def _offset(zone: tzinfo, seconds: int) -> int:
    time = _EPOCH + timedelta(seconds=seconds)
    offset = time.astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())
