"""Places numbers among those of their own route's rows, for all routes and features at once."""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl import sketches

_HALF = 64
_NUM = 2 * _HALF + 1  # quantiles of a feature, the least and the greatest among them
_ERROR, _MOST_VALUES = 0.002, 2**32  # of a quantile's rank; what a sketch has to be ready for


def ranks(places: tf.Tensor, values: tf.Tensor, total: int) -> tf.Tensor:
    """Gives the place of each number among all with the same place in the vector of statistics.

    Between two quantiles it is interpolated; of a number that is several quantiles, as many rows
    have it, it is the middle of them.

    Args:
        places: int64 [n], in [0, total).
        values: float64 [n].
        total: How many features and positions there are.

    Returns:
        float64 [n] in [-1, 1], 0 for the median.
    """
    (quantiles,) = tft.experimental.ptransform_analyzer(
        [places, values], _Quantiles(total), [tf.float64], [[total, _NUM]]
    )
    flat, first = tf.reshape(quantiles, [-1]), places * _NUM
    up_to, below = _count(flat, first, values, True), _count(flat, first, values, False)
    last = tf.constant(_NUM - 1, tf.int64)
    left = tf.gather(flat, first + tf.clip_by_value(below - 1, 0, last))
    right = tf.gather(flat, first + tf.clip_by_value(below, 0, last))
    share = tf.math.divide_no_nan(values - left, right - left)
    between = tf.cast(below, tf.float64) - 1 + share
    middle = tf.cast(below + up_to - 1, tf.float64) / 2
    place = tf.where(up_to > below, middle, between)
    half = tf.constant(_HALF, tf.float64)
    return tf.clip_by_value(place, 0, 2 * half) / half - 1


def _count(quantiles: tf.Tensor, first: tf.Tensor, values: tf.Tensor, equal: bool) -> tf.Tensor:
    """Counts the quantiles that are below a value, or `equal` to it: int64 [n], by halving."""
    count = tf.zeros_like(first)
    for step in (128, 64, 32, 16, 8, 4, 2, 1):
        there = count + step <= _NUM
        one = tf.gather(quantiles, first + tf.minimum(count + step, _NUM) - 1)
        is_below = one <= values if equal else one < values
        count += step * tf.cast(there & is_below, tf.int64)
    return count


class _Quantiles(beam.PTransform):
    """Finds the quantiles of each place; of one without values they are 0."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total = total

    def expand(self, input_or_inputs: beam.PCollection) -> Any:
        found: Any = input_or_inputs | beam.CombineGlobally(_QuantilesFn(self._total))
        return (found,)


Sketches = dict[int, Any]


def _sketch(accumulator: Sketches, place: int) -> Any:
    if place not in accumulator:
        accumulator[place] = sketches.QuantilesSketch(_ERROR, _MOST_VALUES, 1)
    return accumulator[place]


class _QuantilesFn(beam.CombineFn):
    def __init__(self, total: int) -> None:
        self._total = total

    def create_accumulator(self) -> Sketches:
        return {}

    def add_input(self, accumulator: Sketches, batch: tuple[np.ndarray, np.ndarray]) -> Sketches:
        places, values = batch
        order = np.argsort(places, kind="stable")
        which, begins = np.unique(places[order], return_index=True)
        for place, some in zip(which.tolist(), np.split(values[order], begins[1:]), strict=False):
            _sketch(accumulator, place).AddValues(pa.array(some))
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Sketches]) -> Sketches:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            for place, sketch in accumulator.items():
                _sketch(merged, place).Merge(sketch)
        return merged

    def compact(self, accumulator: Sketches) -> Sketches:
        for sketch in accumulator.values():
            sketch.Compact()
        return accumulator

    def extract_output(self, accumulator: Sketches) -> np.ndarray:
        found = np.zeros([self._total, _NUM])
        for place, sketch in accumulator.items():
            found[place] = sketch.GetQuantiles(_NUM - 1).to_pylist()[0]  # it gives one more
        return found
