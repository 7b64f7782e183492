"""Cohen's kappa with quadratic weights as a TFMA metric: agreement on classes in order."""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from branchline.components.branch_evaluator.metric_rows import metric_keys, rows_of


class QuadraticKappa(metric_types.Metric):
    """1 − (mean squared distance of label and prediction, in classes) / (what chance would give).

    1 where all are right, about 0 for a constant guess or one by chance; NaN where all labels and
    all predictions are one class. As `cohen_kappa_score(weights="quadratic")` of scikit-learn. The
    prediction is the most probable class. Examples count by their weights, if they have any.

    Args:
        name: The metric's name in TFMA's results.
    """

    def __init__(self, name: str) -> None:
        super().__init__(_computations, name=name)


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
            keys=[key], preprocessors=None, combiner=_Kappa(key, eval_config)
        )
        for key in keys
    ]


class _Kappa(beam.CombineFn):
    """Sums of 1, label, guess, label², guess² and (label − guess)², by weight; kappa follows."""

    def __init__(self, key: metric_types.MetricKey, eval_config: Any) -> None:
        self._key, self._eval_config = key, eval_config

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(6)

    def add_input(
        self, mutable_accumulator: np.ndarray, element: metric_types.StandardMetricInputs
    ) -> np.ndarray:
        for label, prediction, weight in rows_of(element, self._key, self._eval_config):
            y, guess = float(label.item()), float(prediction.argmax())
            guess = guess if np.isfinite(prediction).all() else np.nan
            row = np.array([1, y, guess, y * y, guess * guess, (y - guess) ** 2])
            mutable_accumulator = mutable_accumulator + weight * row
        return mutable_accumulator

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(accumulators), axis=0)

    def extract_output(self, accumulator: np.ndarray) -> dict[metric_types.MetricKey, Any]:
        count, label, guess, label2, guess2, distance = accumulator
        chance = label2 + guess2 - 2 * label * guess / count if count else 0.0
        return {self._key: 1 - distance / chance if chance else float("nan")}
