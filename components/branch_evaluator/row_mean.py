"""TFMA metrics that are a mean over examples, by weight, of one number each, however large a label.

Keras's own of these names cost seconds before the first row, while AutoGraph rewrites their code.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.item_rows import OF_ITEMS
from branchline.components.branch_evaluator.metric_rows import metric_keys, rows_of
from branchline.components.branch_evaluator.quantile_rows import OF_QUANTILES, middle

Rows = tuple[float, float]  # the weighted sum, and the sum of weights
RowFn = Callable[[np.ndarray, np.ndarray], float]  # of a label and its prediction


def accuracy(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns the share of the entries that are right.

    Args:
        label: [n], 0 or 1, or classes.
        prediction: probabilities [n], right on their side of 0.5, or of classes [n, num_classes].
    """
    return float(_right(label, prediction).mean())


def exact_match(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns 1 if all entries are right, else 0.

    Args:
        label: [n], 0 or 1, or classes.
        prediction: probabilities [n], right on their side of 0.5, or of classes [n, num_classes].
    """
    return float(_right(label, prediction).all())


def _right(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    rows = prediction.reshape(label.size, -1)
    guess = rows.argmax(axis=1) if rows.shape[1] > 1 else rows[:, 0] > 0.5
    return (guess == label.reshape(-1)) & np.isfinite(rows).all(axis=1)


def dice(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns 2 |label ∩ guess| / (|label| + |guess|), 1 where both are empty.

    Args:
        label: [n], 0 or 1.
        prediction: probabilities [n]; those above 0.5 are the guess.
    """
    guess, label = prediction.reshape(-1) > 0.5, label.reshape(-1) > 0
    size = guess.sum() + label.sum()
    return float(2 * (guess & label).sum() / size) if size else 1.0


def absolute_error(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns the mean over the entries of |prediction − label|."""
    return float(np.abs(_error(label, prediction)).mean())


def squared_error(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns the mean over the entries of (prediction − label)²."""
    return float(np.square(_error(label, prediction)).mean())


def absolute_percentage_error(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns the mean over the entries of 100 |prediction − label| / |label|."""
    size = np.maximum(np.abs(label.reshape(-1)), 1e-7)  # as Keras does
    return float(100 * (np.abs(_error(label, prediction)) / size).mean())


def squared_logarithmic_error(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns the mean over the entries of (log(1 + prediction) − log(1 + label))²; of numbers
    below 0 as of 0.
    """  # noqa: D205
    logs = (np.log1p(np.maximum(each, 0)) for each in (label, prediction))
    return squared_error(*logs)


def class_distance(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns by how many classes the most probable one is off, NaN if one is not finite.

    Args:
        label: [1], a class.
        prediction: probabilities of classes [num_classes].
    """
    finite = np.isfinite(prediction).all()
    return abs(float(prediction.argmax()) - label.item()) if finite else math.nan


def _error(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return prediction.reshape(-1).astype(np.float64) - label.reshape(-1)


OF_ROW: dict[str, RowFn] = {
    fn.__name__: fn
    for fn in (
        accuracy,
        exact_match,
        dice,
        absolute_error,
        squared_error,
        absolute_percentage_error,
        squared_logarithmic_error,
        class_distance,
        *OF_ITEMS.values(),
    )
}


class RowMean(metric_types.Metric):
    """The mean over examples of one of the functions above, each times the example's weight.

    Args:
        of: The function's name.
        name: The metric's name in TFMA's results.
        root: Whether the square root of the mean is taken.
        quantiles: Those that are predicted, if so: `of` is then a function of `quantile_rows`, or
            one above, which takes the quantile nearest to the median.
    """

    def __init__(
        self, of: str, name: str, root: bool = False, quantiles: tuple[float, ...] = ()
    ) -> None:
        super().__init__(_computations, of=of, name=name, root=root, quantiles=tuple(quantiles))


def _computations(
    of: str,
    name: str,
    root: bool = False,
    quantiles: tuple[float, ...] = (),
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
    output_names: list[str] | None = None,
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    keys = metric_keys(name, model_names, output_names, example_weighted)
    return [
        metric_types.MetricComputation(
            keys=[key],
            preprocessors=None,
            combiner=_Mean(_function(of, quantiles), root, key, eval_config),
        )
        for key in keys
    ]


def _function(of: str, quantiles: tuple[float, ...]) -> RowFn:
    if not quantiles:
        return OF_ROW[of]
    if of in OF_QUANTILES:
        return partial(OF_QUANTILES[of], quantiles=quantiles)
    return partial(_of_one, fn=OF_ROW[of], number=middle(quantiles))


def _of_one(label: np.ndarray, prediction: np.ndarray, *, fn: RowFn, number: int) -> float:
    return fn(label, prediction[..., number])


class _Mean(beam.CombineFn):
    def __init__(
        self,
        of: RowFn,
        root: bool,
        key: metric_types.MetricKey,
        eval_config: config_pb2.EvalConfig | None,
    ) -> None:
        self._of, self._root, self._key, self._eval_config = of, root, key, eval_config

    def create_accumulator(self) -> Rows:
        return 0.0, 0.0

    def add_input(
        self, mutable_accumulator: Rows, element: metric_types.StandardMetricInputs
    ) -> Rows:
        total, count = mutable_accumulator
        for label, prediction, weight in rows_of(element, self._key, self._eval_config):
            total += weight * self._of(label, prediction)
            count += weight
        return total, count

    def merge_accumulators(self, accumulators: Iterable[Rows]) -> Rows:
        totals, counts = zip(*accumulators, strict=True)
        return sum(totals), sum(counts)

    def extract_output(self, accumulator: Rows) -> dict[metric_types.MetricKey, Any]:
        total, count = accumulator
        mean = total / count if count else float("nan")
        return {self._key: math.sqrt(mean) if self._root else mean}
