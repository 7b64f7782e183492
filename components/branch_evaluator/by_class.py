"""TFMA metrics of labels that are any number of classes: of each class, and over all of them.

Everything comes from one count: of each class, how many entries with and without it have which
score. TFMA runs it once, whatever is asked for.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.auc import area, summed
from branchline.components.branch_evaluator.metric_rows import metric_keys, rows_of

BY_CLASS = "by_class"  # the name of the table in TFMA's results
COLUMNS = ("positives", "auc", "precision", "recall")
FIGURES = COLUMNS[1:]
_BUCKETS = 100_000  # scores in [0, 1] count as equal when they share one
_OF_CLASS = re.compile(rf"({'|'.join(FIGURES)})\[(.+)\]", re.DOTALL)
_WIDTH = _BUCKETS + 2  # what is outside of [0, 1] falls into the buckets at the ends
_HALF = 1 + _BUCKETS // 2  # the first bucket of those that count as predicted: 0.5 and more
_ROWS_KEPT = 1024  # an accumulator counts its rows when there are as many
# float64 [used cells, 3]: class * _WIDTH + bucket, entries with the class, entries without it.
Counts = np.ndarray


def of_class(metric: str) -> tuple[str, str] | None:
    """Returns the figure and the class that a metric's name tells, if it tells a class.

    >>> of_class("auc[sports]"), of_class("auc")
    (('auc', 'sports'), None)
    """
    found = _OF_CLASS.fullmatch(metric)
    return (found[1], found[2]) if found else None


def count(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """Counts entries by class and score; a NaN is below every score.

    Args:
        labels: [rows, num_classes], 0 or 1.
        scores: [rows, num_classes].
        weights: [rows], how much each counts; None for 1.
    """
    each = np.ones((len(labels), 1)) if weights is None else weights[:, None]
    bucket = 1 + np.floor(np.clip(np.nan_to_num(scores, nan=-1.0), -1e-6, 1) * float(_BUCKETS))
    cells = np.arange(labels.shape[1]) * _WIDTH + np.clip(bucket, 0, _WIDTH - 1)
    parts = [cells, each * (labels > 0), each * (labels <= 0)]
    return summed(np.stack([part.reshape(-1) for part in parts], axis=1))


def table(counts: Counts, num_classes: int) -> np.ndarray:
    """Returns float64 [num_classes, COLUMNS]; NaN for what there is nothing to divide by.

    >>> labels = np.array([[1, 0], [0, 1], [1, 1]])
    >>> table(count(labels, np.array([[0.9, 0], [0.2, 0.5], [0, 1]])), 2).tolist()
    [[2.0, 0.5, 1.0, 0.5], [2.0, 1.0, 1.0, 1.0]]
    """
    ends = np.searchsorted(counts[:, 0], np.arange(num_classes + 1) * _WIDTH)
    return np.array(
        [_figures(counts[i:j]) for i, j in zip(ends[:-1], ends[1:], strict=True)], np.float64
    ).reshape(num_classes, len(COLUMNS))


def _figures(counts: Counts) -> list[float]:
    positives = counts[:, 1].sum()
    return [positives, area(counts), *_precision_recall(counts)]


def _precision_recall(counts: Counts) -> list[float]:
    predicted = counts[counts[:, 0] % _WIDTH >= _HALF]
    right = predicted[:, 1].sum()
    return [
        float(right / whole) if whole else float("nan")
        for whole in (predicted[:, 1:].sum(), counts[:, 1].sum())
    ]


def over_all(counts: Counts, num_classes: int) -> dict[str, float]:
    """Returns the mean of the classes' AUC, and precision and recall of all entries together.

    Classes that all rows have, or none, have no AUC and no part in the mean.
    """
    auc = table(counts, num_classes)[:, COLUMNS.index("auc")]
    there = auc[~np.isnan(auc)]
    precision, recall = _precision_recall(counts)
    mean = float(there.mean()) if len(there) else float("nan")
    return {"auc": mean, "precision": precision, "recall": recall}


class ByClass(metric_types.Metric):
    """A figure over all classes, or of each.

    Args:
        name: The metric's name in TFMA's results.
        figure: One of FIGURES, or BY_CLASS for the table, flat, row by row.
    """

    def __init__(self, name: str, figure: str) -> None:
        super().__init__(_computations, name=name, figure=figure)


def _computations(
    name: str,
    figure: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
    output_names: list[str] | None = None,
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    found: metric_types.MetricComputations = []
    pairs = (
        metric_keys(each, model_names, output_names, example_weighted)
        for each in ("_counts_by_class", name)
    )
    for counts, key in zip(*pairs, strict=True):
        found += [
            metric_types.MetricComputation([counts], None, _Count(counts, eval_config)),
            metric_types.DerivedMetricComputation([key], _Read(key, counts, figure)),
        ]
    return found


class _Read:
    """Takes a figure out of the counts."""

    def __init__(
        self, key: metric_types.MetricKey, counts: metric_types.MetricKey, figure: str
    ) -> None:
        self._key, self._counts, self._figure = key, counts, figure

    def __call__(self, results: Mapping[metric_types.MetricKey, Any]) -> dict[Any, Any]:
        counts, num_classes = results[self._counts]
        if self._figure == BY_CLASS:
            return {self._key: table(counts, num_classes).reshape(-1)}
        return {self._key: over_all(counts, num_classes)[self._figure]}


class _Count(beam.CombineFn):
    """Accumulates counts, and the labels, scores and weights of the last rows."""

    def __init__(
        self, key: metric_types.MetricKey, eval_config: config_pb2.EvalConfig | None
    ) -> None:
        self._key, self._eval_config = key, eval_config

    def create_accumulator(self) -> list[Any]:
        return [(np.zeros((0, 3)), 0)]

    def add_input(
        self, mutable_accumulator: list[Any], element: metric_types.StandardMetricInputs
    ) -> list[Any]:
        for label, prediction, weight in rows_of(element, self._key, self._eval_config):
            row = label.reshape(-1), prediction.reshape(-1), weight
            mutable_accumulator.append(row)
        full = len(mutable_accumulator) > _ROWS_KEPT
        return self.compact(mutable_accumulator) if full else mutable_accumulator

    def compact(self, accumulator: list[Any]) -> list[Any]:
        (counts, _), *rows = accumulator
        if not rows:
            return accumulator
        labels, scores, weights = (np.stack(parts) for parts in zip(*rows, strict=True))
        counted = np.concatenate([counts, count(labels, scores, weights)])
        return [(summed(counted), labels.shape[1])]

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        parts: Sequence[Any] = [self.compact(each)[0] for each in accumulators]
        counts = np.concatenate([counts for counts, _ in parts])
        return [(summed(counts), max(number for _, number in parts))]

    def extract_output(self, accumulator: list[Any]) -> dict[metric_types.MetricKey, Any]:
        return {self._key: self.compact(accumulator)[0]}
