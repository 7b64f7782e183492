"""Reads the texts of a kind whose values are written as texts, without ever failing a batch."""

from typing import NamedTuple

import tensorflow as tf

from branchline.components.routing.pictures import can_be_decoded
from branchline.components.routing.written.durations import read_durations
from branchline.components.routing.written.times import read_times
from branchline.schemas import Bool, Duration, Image, Timestamp
from branchline.schemas.features import Written


class Values(NamedTuple):
    """What texts mean.

    Attributes:
        values: [n]; of a `Bool` 1 or -1, float64; of a `Timestamp` microseconds since 1970, int64;
            of a `Duration` seconds, float64; of an `Image` empty texts. 0 where
            the text cannot be read.
        readable: bool [n].
    """

    values: tf.Tensor
    readable: tf.Tensor


def read_written(kind: Written | Image, texts: tf.Tensor) -> Values:
    """Reads texts as a kind says.

    Args:
        kind: A `Bool`, `Timestamp`, `Duration`, or an `Image` of files.
        texts: string [n], any bytes.
    """
    match kind:
        case Timestamp():
            values, readable = read_times(texts, kind)
        case Duration():
            values, readable = read_durations(texts)
        case Bool():
            values, readable = _read_bools(texts)
        case Image():
            values, readable = tf.zeros_like(texts), can_be_decoded(texts)
        case _:
            raise TypeError(f"got {kind!r}, expected a Bool, Timestamp or Duration")
    return Values(tf.where(readable, values, tf.zeros_like(values)), readable)


def _read_bools(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    yes = tf.strings.regex_full_match(texts, r"\s*(?i:true|t|yes|y|1(?:\.0*)?)\s*")
    no = tf.strings.regex_full_match(texts, r"\s*(?i:false|f|no|n|0(?:\.0*)?)\s*")
    return tf.cast(yes, tf.float64) - tf.cast(no, tf.float64), yes | no
