"""The area under the ROC curve as a TFMA metric, at a cost that does not grow with the slices.

TFMA's own builds 10 000 confusion matrices in Python for each slice: 60 ms, 6 s for 100 routes.
"""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.metric_rows import metric_keys, rows_of

# Scores in [0, 1] count as equal when they share one; the area is then right to 1e-5.
_BUCKETS = 100_000
_ROWS_KEPT = 1024  # an accumulator counts its rows when there are as many
# float64 [used buckets, 3]: number, positives, negatives, by weight; sorted by number
Counts = np.ndarray


class Auc(metric_types.Metric):
    """The share of (positive, negative) pairs of entries whose positive has the higher score.

    A pair counts as much as the weights of its two entries multiplied.

    Equal scores count half; NaN where there are no positives or no negatives. Of class
    probabilities each (entry, class) pair is an entry, positive where the class is the label.

    Args:
        name: The metric's name in TFMA's results.
    """

    def __init__(self, name: str = "auc") -> None:
        super().__init__(_computations, name=name)


def area(counts: Counts) -> float:
    """Returns the area.

    >>> area(np.array([[10.0, 0, 1], [20, 1, 1], [30, 1, 0]]))
    0.875
    """
    positives, negatives = counts[:, 1], counts[:, 2]
    above = positives.sum() - positives.cumsum()
    pairs = positives.sum() * negatives.sum()
    return float((negatives * (above + positives / 2)).sum() / pairs) if pairs else float("nan")


def count(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Counts:
    """Counts positive and negative entries by bucket.

    Args:
        labels: [entries], 0 or 1.
        scores: [entries]; what is outside of [0, 1] falls into the buckets at the ends.
        weights: [entries], how much each counts.
    """
    numbers = np.floor(np.clip(scores.astype(np.float64) * _BUCKETS, -1, _BUCKETS))
    return summed(np.stack([numbers, weights * (labels > 0), weights * (labels <= 0)], axis=1))


def summed(counts: Counts) -> Counts:
    """Adds up the counts of equal numbers; sorted by number."""
    numbers, inverse = np.unique(counts[:, 0], return_inverse=True)
    sums = [np.bincount(inverse, counts[:, column], len(numbers)) for column in (1, 2)]
    return np.stack([numbers, *sums], axis=1)


def _entries(label: np.ndarray, prediction: np.ndarray, weight: float) -> list[np.ndarray]:
    """Returns labels, 0 or 1, scores, and the row's weight, [entries]."""
    if prediction.size != label.size:
        label = label.reshape(-1, 1) == np.arange(prediction.shape[-1])
    weights = np.full(prediction.size, weight, np.float64)
    return [label.reshape(-1), prediction.reshape(-1), weights]


def _computations(
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
    output_names: list[str] | None = None,
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    keys = metric_keys(name, model_names, output_names, example_weighted)
    return [
        metric_types.MetricComputation(
            keys=[key], preprocessors=None, combiner=_Count(key, eval_config)
        )
        for key in keys
    ]


class _Count(beam.CombineFn):
    """Accumulates counts, and the labels, scores and weights of the last rows."""

    def __init__(
        self, key: metric_types.MetricKey, eval_config: config_pb2.EvalConfig | None
    ) -> None:
        self._key, self._eval_config = key, eval_config

    def create_accumulator(self) -> list[Any]:
        return [np.zeros((0, 3))]

    def add_input(
        self, mutable_accumulator: list[Any], element: metric_types.StandardMetricInputs
    ) -> list[Any]:
        for row in rows_of(element, self._key, self._eval_config):
            mutable_accumulator.append(_entries(*row))
        full = len(mutable_accumulator) > _ROWS_KEPT
        return self.compact(mutable_accumulator) if full else mutable_accumulator

    def compact(self, accumulator: list[Any]) -> list[Any]:
        counts, *rows = accumulator
        if not rows:
            return accumulator
        labels, scores, weights = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        return [summed(np.concatenate([counts, count(labels, scores, weights)]))]

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return [summed(np.concatenate([self.compact(each)[0] for each in accumulators]))]

    def extract_output(self, accumulator: list[Any]) -> dict[metric_types.MetricKey, Any]:
        return {self._key: area(self.compact(accumulator)[0])}
