"""Scales the numbers and pictures of every route by what that route's own rows hold.

However many routes and features there are, there is one analysis: each has a place of its own in
one vector of statistics.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.transform.own_rows import OwnRows

_ROUNDING = 1e-12


def standardise(numbers: Sequence[OwnRows]) -> list[tf.Tensor]:
    """Scales every position of a route's feature to zero mean and unit variance.

    The positions of a sequence are scaled as one. What does not vary has its mean
    taken off only.

    Args:
        numbers: Values of groups, float64, as the mean of times in milliseconds leaves no digits of
            a float32 for what differs.

    Returns:
        The scaled values of each group, float32.
    """
    if not numbers:
        return []
    places, total = number_places(numbers)
    values = tf.concat([rows.values for rows in numbers], 0)
    means, deviations = _means_and_deviations(tf.concat(places, 0), values, total)
    return [
        tf.cast((rows.values - tf.gather(means, place)) / tf.gather(deviations, place), tf.float32)
        for rows, place in zip(numbers, places, strict=True)
    ]


def number_places(numbers: Sequence[OwnRows]) -> tuple[list[tf.Tensor], int]:
    """Gives every position of every route's feature a place in one vector.

    Returns:
        The place of each value of each group, int64 [values], and how many places there are.
    """
    places, total = [], 0
    for rows in numbers:
        num = rows.group.num_places
        places.append(rows.members * num + tf.math.floormod(rows.positions, num) + total)
        total += len(rows.group.members) * num
    return places, total


def _means_and_deviations(
    places: tf.Tensor, values: tf.Tensor, total: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean and the standard deviation at each of `total` places, over all batches, float64.

    `tft.mean` and `tft.var` would spread each batch to [batch, places], which is gigabytes where
    many routes hold long vectors.
    """
    counts = tf.math.unsorted_segment_sum(tf.ones_like(values), places, total)
    means = tf.math.divide_no_nan(tf.math.unsorted_segment_sum(values, places, total), counts)
    squares = tf.math.unsorted_segment_sum(
        tf.square(values - tf.gather(means, places)), places, total
    )
    means, deviations = tft.experimental.ptransform_analyzer(
        [counts, means, squares], _MergeMoments(total), [tf.float64] * 2, [[total]] * 2
    )
    return means, deviations


class Moments(NamedTuple):
    """What is known of the values at each place; float64 [places].

    Attributes:
        size: How many there are.
        mean: Their mean.
        squares: Sum of the squares of their distances from the mean.
    """

    size: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def merge(a: Moments, b: Moments) -> Moments:
    """Gives the moments of the values of both.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae …", eq. 2.1.
    """
    size = a.size + b.size
    share = np.divide(b.size, size, out=np.zeros_like(size), where=size > 0)
    apart = b.mean - a.mean
    squares = a.squares + b.squares + apart**2 * a.size * share
    return Moments(size, a.mean + apart * share, squares)


class _MergeMoments(beam.PTransform):
    """Merges the moments of all batches into means and deviations, 1 for what does not vary."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total = total

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        merged: Any = input_or_inputs | beam.CombineGlobally(_MomentsFn(self._total))
        means = merged | "Means" >> beam.Map(lambda moments: moments.mean)
        return means, merged | "Deviations" >> beam.Map(_deviations)


class _MomentsFn(beam.CombineFn):
    def __init__(self, total: int) -> None:
        self._total = total

    def create_accumulator(self) -> Moments:
        return Moments(*np.zeros([3, self._total]))

    def add_input(self, accumulator: Moments, batch: tuple[np.ndarray, ...]) -> Moments:
        return merge(accumulator, Moments(*batch))

    def merge_accumulators(self, accumulators) -> Moments:
        merged = self.create_accumulator()
        for each in accumulators:
            merged = merge(merged, each)
        return merged

    def extract_output(self, accumulator: Moments) -> Moments:
        return accumulator


def _deviations(moments: Moments) -> np.ndarray:
    deviations = np.sqrt(moments.squares / np.maximum(moments.size, 1))
    # Equal values may seem to vary by what sums of them are rounded by.
    return np.where(deviations > _ROUNDING * np.abs(moments.mean), deviations, 1.0)


def stretch(pictures: Sequence[OwnRows]) -> dict[str, tf.SparseTensor]:
    """Scales a route's pictures, each feature as a whole, to [0, 1].

    Where all its numbers are the same one, or there are none, a number's sigmoid is taken, as
    `tft.scale_to_0_1` does.

    Args:
        pictures: Values of the groups of kind `Image`, float32.

    Returns:
        Group's name → float32 [batch, width].
    """
    if not pictures:
        return {}
    places, total = [], 0
    for rows in pictures:
        places.append(rows.members + total)
        total += len(rows.group.members)
    place, values = tf.concat(places, 0), tf.concat([rows.values for rows in pictures], 0)
    highest = [tf.math.unsorted_segment_max(each, place, total) for each in (values, -values)]
    found = tft.max(tf.concat(highest, 0)[None], reduce_instance_dims=False)
    high, low = found[:total], -found[total:]
    return {
        rows.group.name: rows.spread(
            _between(rows.values, tf.gather(low, place), tf.gather(high, place))
        )
        for rows, place in zip(pictures, places, strict=True)
    }


def _between(values: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    return tf.where(low < high, (values - low) / (high - low), tf.sigmoid(values))
