"""The Gregorian calendar, in whole numbers.

Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"; his years begin in March, so
that a leap day is a year's last.
"""

import tensorflow as tf

_ERA = 146_097  # days of 400 years
_TO_1970 = 719_468  # days from 0000-03-01


def days_of(year: tf.Tensor, month: tf.Tensor, day: tf.Tensor) -> tf.Tensor:
    """The days since 1970-01-01 of a date, int64 like all that is given."""
    year = tf.where(month <= 2, year - 1, year)
    era = tf.math.floordiv(year, 400)
    of_era = year - era * 400
    of_year = (153 * tf.math.floormod(month + 9, 12) + 2) // 5 + day - 1
    return era * _ERA + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _TO_1970


def year_of(days: tf.Tensor) -> tf.Tensor:
    """The year that a day is in, given the days since 1970-01-01; int64."""
    days = days + _TO_1970
    era = tf.math.floordiv(days, _ERA)
    of_era = days - era * _ERA
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    return year + era * 400 + tf.cast(of_year >= 306, tf.int64)  # from January on


def days_in_month(year: tf.Tensor, month: tf.Tensor) -> tf.Tensor:
    """How many days a month has, 0 if it is none of 1 to 12; int64."""
    lengths = tf.constant([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 0], tf.int64)
    by_4, by_100, by_400 = (tf.equal(tf.math.floormod(year, each), 0) for each in (4, 100, 400))
    leap = by_4 & (tf.logical_not(by_100) | by_400)
    length = tf.gather(lengths, tf.clip_by_value(month, 0, 13))
    return length + tf.cast(leap & tf.equal(month, 2), tf.int64)
