"""Computes one TFMA metric on a few made-up rows, in memory, to see whether it can be."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2


def try_metric(config: config_pb2.MetricConfig, task: str, num_classes: int | None = None) -> float:
    """Computes the metric as TFMA's evaluator does, less Beam; takes milliseconds.

    Raises:
        Exception: What TFMA or Keras raises when the metric lacks an argument or takes other
            labels, or a ValueError when its result is not one number.
    """
    rows = list(_rows(task, num_classes))
    specs = [config_pb2.MetricsSpec(metrics=[config])]
    eval_config = config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec()], metrics_specs=specs)
    computations = metric_specs.to_computations(specs, eval_config)
    results: dict[Any, Any] = {}
    for computation in computations:
        if isinstance(computation, metric_types.MetricComputation):
            results |= _compute(computation, rows)
    for computation in computations:
        if isinstance(computation, metric_types.DerivedMetricComputation):
            results |= computation.result(results)
    values = [value for key, value in results.items() if not key.name.startswith("_")]
    if len(values) != 1 or not isinstance(values[0], int | float | np.number | np.ndarray):
        raise ValueError("its result is not one number")
    return float(np.asarray(values[0]).item())


def _compute(computation: metric_types.MetricComputation, rows: list[dict]) -> dict[Any, Any]:
    for preprocessor in computation.preprocessors or ():
        rows = [out for row in rows for out in preprocessor.process(row)]
    combiner = computation.combiner
    combiner.setup()
    accumulator = combiner.create_accumulator()
    for row in rows:
        accumulator = combiner.add_input(accumulator, metric_types.StandardMetricInputs(row))
    return combiner.extract_output(combiner.merge_accumulators([accumulator]))


def _rows(task: str, num_classes: int | None) -> Iterator[dict[str, Any]]:
    """Labels of both signs or of every class, predictions near them."""
    size = max(num_classes or 2, 4)
    for i in range(size):
        if task == "multiclass":
            label, prediction = i % num_classes, np.full(num_classes, 0.5 / num_classes)
            prediction[i % num_classes] += 0.5
        elif task == "binary":
            label, prediction = i % 2, np.array([0.9, 0.8, 0.3, 0.6][i % 4 :][:1])
        else:
            label, prediction = i - 1.5, np.array([i - 1.25])
        yield {
            tfma.LABELS_KEY: np.array([label]),
            tfma.PREDICTIONS_KEY: np.asarray(prediction, np.float32),
            tfma.EXAMPLE_WEIGHTS_KEY: None,
            tfma.FEATURES_KEY: {},
        }
