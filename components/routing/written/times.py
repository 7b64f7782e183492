"""Reads points in time: texts in ISO 8601, and numbers since 1970."""

import tensorflow as tf

from branchline.components.routing.written.calendar import days_in_month, days_of
from branchline.components.routing.written.texts import (
    Number,
    as_float,
    fraction,
    parts,
    read_number,
    whole,
)
from branchline.components.routing.written.zones import offset_of_local
from branchline.schemas import Timestamp
from branchline.schemas.features.timestamp import UNITS

SECOND = 1_000_000  # microseconds
_ISO = (
    r"\s*(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?: ?([Zz]|UTC|[+-]\d\d(?::?\d\d)?))?)?\s*"
)
_FURTHEST = 3 * 10**17  # microseconds; the years 1 to 9999 are nearer


def read_times(texts: tf.Tensor, kind: Timestamp) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads times.

    Args:
        texts: string [n].
        kind: Says what numbers count, in which zone texts are, and which times are allowed.

    Returns:
        Microseconds since 1970 UTC, int64 [n], and whether the text is such a time, bool [n]. What
        is less than a microsecond is cut off, of a number with an exponent rounded.
    """
    is_iso = tf.strings.regex_full_match(texts, _ISO)
    iso, exists = _read_iso(texts, is_iso, kind)
    number = read_number(texts)
    counted, is_near = _read_count(number, UNITS[kind.unit])
    time = tf.where(is_iso, iso, counted)
    first, last = (tf.constant(bound, tf.int64) for bound in kind.bounds)
    read = tf.where(is_iso, exists, number.matches & is_near)
    return time, read & (time >= first) & (time <= last)


def _read_iso(texts: tf.Tensor, matches: tf.Tensor, kind: Timestamp) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads texts in ISO 8601: microseconds, and whether there is such a time."""
    *numbers, digits, zone = parts(texts, matches, _ISO)
    year, month, day, hour, minute, second = map(whole, numbers)
    ahead = tf.strings.join([tf.strings.regex_replace(zone, "[:zZ]|UTC", ""), "00000"])
    minutes, zone_minute = (whole(tf.strings.substr(ahead, at, 2)) for at in (1, 3))
    minutes = minutes * 60 + zone_minute
    minus = tf.equal(tf.strings.substr(zone, 0, 1), "-")
    exists = (year > 0) & (day > 0) & (day <= days_in_month(year, month))
    exists &= (hour < 24) & (minute < 60) & (second < 60)
    exists &= (minutes < 24 * 60) & (zone_minute < 60)
    wall = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    offset = tf.where(minus, -minutes, minutes) * 60
    offset = tf.where(tf.equal(zone, ""), offset_of_local(kind.tzinfo, wall), offset)
    return (wall - offset) * SECOND + fraction(digits, 6), exists


def _read_count(number: Number, power: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads how many 10 ** `power` microseconds have passed since 1970.

    Returns:
        Microseconds, int64 [n]: exactly, and with an exponent to the 16 digits of a float64; and
        whether they are so few that an int64 holds them, bool [n].
    """
    up, down = 10 ** max(power, 0), 10 ** max(-power, 0)
    plain_near = number.whole // down <= _FURTHEST // up
    plain = tf.where(plain_near, number.whole // down, 0) * up
    plain += fraction(number.behind, max(power, 0))
    plain = tf.where(number.minus, -plain, plain)
    scaled = tf.round(as_float(number, power))
    scaled_near = tf.abs(scaled) <= _FURTHEST
    scaled = tf.cast(tf.where(scaled_near, scaled, 0.0), tf.int64)
    is_near = tf.where(number.is_plain, plain_near, scaled_near)
    return tf.where(number.is_plain, plain, scaled), is_near
