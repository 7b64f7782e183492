"""Reads lengths of time."""

import tensorflow as tf

from branchline.components.routing.written.texts import (
    as_float,
    below_one,
    parts,
    read_number,
    whole,
)

_COUNT, _SECONDS = r"(\d{1,15})", r"(\d{1,15})(?:[.](\d*))?"
_ISO = (
    rf"\s*([+-]?)[Pp](?:{_COUNT}[Ww])?(?:{_COUNT}[Dd])?"
    rf"(?:[Tt](?:{_COUNT}[Hh])?(?:{_COUNT}[Mm])?(?:{_SECONDS}[Ss])?)?\s*"
)
_ENDS_IN_UNIT = r"(?s:.*)[WwDdHhMmSs]\s*"  # "P" and "P1DT" are no durations
_CLOCK = rf"\s*([+-]?){_COUNT}:([0-5]\d)(?::([0-5]\d)(?:[.](\d*))?)?\s*"
_LONGEST = 3.2e16  # seconds, a billion years


def read_durations(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads lengths of time.

    Args:
        texts: string [n].

    Returns:
        Seconds, float64 [n], and whether the text is a duration, bool [n].
    """
    is_iso = tf.strings.regex_full_match(texts, _ISO)
    is_iso &= tf.strings.regex_full_match(texts, _ENDS_IN_UNIT)
    is_clock = tf.strings.regex_full_match(texts, _CLOCK)
    number = read_number(texts)
    iso = _add_up(parts(texts, is_iso, _ISO), [7 * 86_400, 86_400, 3600, 60, 1])
    clock = _add_up(parts(texts, is_clock, _CLOCK), [3600, 60, 1])
    seconds = as_float(number) + iso + clock  # at most one of them is not 0
    return seconds, (is_iso | is_clock | number.matches) & (tf.abs(seconds) < _LONGEST)


def _add_up(found: list[tf.Tensor], sizes: list[int]) -> tf.Tensor:
    """Adds up a sign, counts of so many seconds each, and digits behind the last one's point."""
    sign, *counts, behind = found
    seconds = [
        tf.cast(whole(count), tf.float64) * size for count, size in zip(counts, sizes, strict=True)
    ]
    value = tf.add_n(seconds) + below_one(behind)
    return tf.where(tf.equal(sign, "-"), -value, value)
