"""Takes texts apart, all of a batch at once, and reads the numbers in them.

`tf.strings.to_number` fails the whole batch at a text that is no number, in TensorFlow 2.16 also at
one of 32 characters or more; so it gets nothing but digits, and not too many of them.
"""

from typing import NamedTuple

import tensorflow as tf

# At most 19 digits of a whole number, and those that an int64 surely holds.
_NUMBER = r"\s*([+-]?)0*([1-8]?\d{0,18})(?:\.(\d*))?(?:[eE]([+-]?)(\d{1,3}))?\s*"
_HAS_DIGIT = r"\s*[+-]?\.?\d(?s:.*)"
_FLOAT_DIGITS = 17


class Number(NamedTuple):
    """The parts of texts that are decimal numbers, perhaps with an exponent.

    Attributes:
        matches: bool [n], whether a text is one, of less than 9e18 without its exponent.
        minus: bool [n].
        whole: int64 [n], what stands before the point.
        behind: string [n], the digits behind it.
        is_plain: bool [n], whether there is no exponent.
        exponent: int64 [n].
    """

    matches: tf.Tensor
    minus: tf.Tensor
    whole: tf.Tensor
    behind: tf.Tensor
    is_plain: tf.Tensor
    exponent: tf.Tensor


def read_number(texts: tf.Tensor) -> Number:
    """Reads texts [n] as decimal numbers."""
    matches = tf.strings.regex_full_match(texts, _NUMBER)
    matches &= tf.strings.regex_full_match(texts, _HAS_DIGIT)
    sign, before, behind, exponent_sign, exponent = parts(texts, matches, _NUMBER)
    power = whole(exponent)
    return Number(
        matches,
        tf.equal(sign, "-"),
        whole(before),
        behind,
        tf.equal(exponent, ""),
        tf.where(tf.equal(exponent_sign, "-"), -power, power),
    )


def as_float(number: Number, power: int = 0) -> tf.Tensor:
    """Gives numbers times 10 ** `power`: float64 [n], to 16 digits, inf for too large ones."""
    digits = tf.cast(number.whole, tf.float64) + below_one(number.behind)
    exponent = tf.cast(number.exponent + power, tf.float64)
    value = digits * tf.pow(tf.constant(10.0, tf.float64), exponent)
    value = tf.where(tf.equal(digits, 0), digits, value)  # 0e999 is 0
    return tf.where(number.minus, -value, value)


def parts(texts: tf.Tensor, matches: tf.Tensor, pattern: str) -> list[tf.Tensor]:
    """Gives what stands in the groups of a pattern.

    Args:
        texts: string [n].
        matches: bool [n], whether the pattern matches the whole text.
        pattern: With one to nine groups, of which none can match a comma.

    Returns:
        For each group string [n], empty where it, or the whole pattern, matches nothing.
    """
    number = pattern.count("(") - pattern.count("(?")
    rewritten = ",".join(f"\\{group}" for group in range(1, number + 1))
    found = tf.strings.regex_replace(texts, f"^(?:{pattern})$", rewritten)
    found = tf.where(matches, found, "," * (number - 1))
    split = tf.strings.split(found, ",").flat_values
    return tf.unstack(tf.reshape(split, [-1, number]), num=number, axis=1)


def whole(digits: tf.Tensor) -> tf.Tensor:
    """Reads texts of digits that an int64 holds, or of none, which are 0: int64."""
    return tf.strings.to_number(tf.where(tf.equal(digits, ""), "0", digits), tf.int64)


def fraction(digits: tf.Tensor, number: int) -> tf.Tensor:
    """Reads what stands behind a decimal point as so many digits, cutting off the rest: int64."""
    if not number:
        return tf.zeros_like(digits, tf.int64)
    padded = tf.strings.join([digits, "0" * number])
    return tf.strings.to_number(tf.strings.substr(padded, 0, number), tf.int64)


def below_one(digits: tf.Tensor) -> tf.Tensor:
    """Reads what stands behind a decimal point: float64 in [0, 1)."""
    first = tf.strings.join(["0.", tf.strings.substr(digits, 0, _FLOAT_DIGITS)])
    return tf.strings.to_number(first, tf.float64)
