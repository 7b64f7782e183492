"""Makes of the times of all routes what a model can learn from."""

import math

import tensorflow as tf

from branchline.components.routing.written.calendar import days_of, year_of
from branchline.components.routing.written.times import SECOND
from branchline.components.routing.written.zones import offset_at
from branchline.components.transform.own_rows import OwnRows
from branchline.schemas import Timestamp

_DAY = 86_400  # seconds
_THURSDAY = 3  # 1970-01-01, counted from Monday


def spread_times(times: OwnRows, trends: tf.Tensor) -> tf.SparseTensor:
    """Puts the features of times into their rows: `trends`, then the places in day, week and year.

    Args:
        times: Microseconds since 1970 of a group of kind `Timestamp`, int64; one a row.
        trends: float32 [values].

    Returns:
        float32 [batch, 7].
    """
    return times.spread_vectors(tf.stack([trends, *_cycles(times)], axis=1))


def _cycles(times: OwnRows) -> list[tf.Tensor]:
    """Sine and cosine of each time's place in its day, its week and its year: float32 [values]."""
    kind = times.group.kind
    assert isinstance(kind, Timestamp)
    seconds = tf.math.floordiv(times.values, SECOND)
    below = tf.cast(tf.math.floormod(times.values, SECOND), tf.float64) / SECOND
    local = seconds + offset_at(kind.tzinfo, seconds)
    days = tf.math.floordiv(local, _DAY)
    of_day = (tf.cast(local - days * _DAY, tf.float64) + below) / _DAY
    of_week = (tf.cast(tf.math.floormod(days + _THURSDAY, 7), tf.float64) + of_day) / 7
    year, first = year_of(days), tf.ones_like(days)
    begins, ends = days_of(year, first, first), days_of(year + 1, first, first)
    of_year = (tf.cast(days - begins, tf.float64) + of_day) / tf.cast(ends - begins, tf.float64)
    turns = [2 * math.pi * place for place in (of_day, of_week, of_year)]
    return [tf.cast(wave(turn), tf.float32) for turn in turns for wave in (tf.sin, tf.cos)]
