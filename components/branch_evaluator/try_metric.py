"""Computes one TFMA metric on a few made-up rows, in memory, to see whether it can be."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_specs, metric_types
from tensorflow_model_analysis.proto import config_pb2

from branchline.schemas.targets import Target


def try_metric(config: config_pb2.MetricConfig, target: Target, *, weighted: bool = False) -> float:
    """Computes the metric as TFMA's evaluator does, less Beam; takes milliseconds.

    Args:
        config: The metric.
        target: What the labels are.
        weighted: Whether an example of weight 2 has to be as good as two.

    Raises:
        Exception: What TFMA or Keras raises when the metric lacks an argument or takes other
            labels, or a ValueError when its result is not one number, the same for any batches and,
        with a shape, the same as over the entries one by one.
    """
    entries = list(_entries(target))
    rows = _shaped(entries, target) if target.label_shape else entries
    whole = _compute(config, [rows])
    # Keras's R2Score, for one, holds state that TFMA cannot add up, and fails on the second batch.
    parts = _compute(config, [rows[:3], rows[3:]])
    if not np.isclose(whole, parts, equal_nan=True):
        raise ValueError("TFMA cannot add it up over batches")
    if weighted:
        twice = [rows[0] | {tfma.EXAMPLE_WEIGHTS_KEY: np.array([2.0])}, *rows[1:]]
        if not np.isclose(
            _compute(config, [twice], weighted=True),
            _compute(config, [[rows[0], *rows]]),
            equal_nan=True,
        ):
            raise ValueError("it does not weigh examples, and the route has a weight")
    if target.label_shape and not np.isclose(whole, _compute(config, [entries]), equal_nan=True):
        raise ValueError("it is another over the examples than over their entries")
    return whole


def can_compute(spec: config_pb2.MetricsSpec, target: Target) -> bool:
    """Whether the metrics and plots of `spec` can be computed for such a label, in any form.

    Of TFMA's and Keras's, which have no module, quantiles and items have the number of examples
    alone: others would compare the label with each of them, and give one figure of all.
    """
    theirs = {metric.class_name for metric in spec.metrics if not metric.module}
    if (target.quantiles or target.top_k) and theirs - {"ExampleCount"}:
        return False
    rows = list(_entries(target))
    try:
        return bool(_results(spec, [_shaped(rows, target) if target.label_shape else rows]))
    except Exception:  # whatever a metric's own code raises
        return False


def _compute(
    config: config_pb2.MetricConfig, batches: list[list[dict]], weighted: bool = False
) -> float:
    options = config_pb2.ExampleWeightOptions(weighted=weighted, unweighted=not weighted)
    spec = config_pb2.MetricsSpec(metrics=[config], example_weights=options)
    results = _results(spec, batches)
    values = [value for key, value in results.items() if not key.name.startswith("_")]
    if len(values) != 1 or not isinstance(values[0], int | float | np.number | np.ndarray):
        raise ValueError("its result is not one number")
    return float(np.asarray(values[0]).item())


def _results(spec: config_pb2.MetricsSpec, batches: list[list[dict]]) -> dict[Any, Any]:
    eval_config = config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec()], metrics_specs=[spec])
    computations = metric_specs.to_computations([spec], eval_config)
    results: dict[Any, Any] = {}
    for computation in computations:
        if isinstance(computation, metric_types.MetricComputation):
            results |= _combine(computation, batches)
    for computation in computations:
        if isinstance(computation, metric_types.DerivedMetricComputation):
            results |= computation.result(results)
    return results


def _combine(
    computation: metric_types.MetricComputation, batches: list[list[dict]]
) -> dict[Any, Any]:
    combiner = computation.combiner
    combiner.setup()
    accumulators = []
    for rows in batches:
        for preprocessor in computation.preprocessors or ():
            rows = [out for row in rows for out in preprocessor.process(row)]
        accumulator = combiner.create_accumulator()
        for row in rows:
            accumulator = combiner.add_input(accumulator, metric_types.StandardMetricInputs(row))
        accumulators.append(combiner.compact(accumulator))
    return combiner.extract_output(combiner.merge_accumulators(accumulators))


def _entries(target: Target) -> Iterator[dict[str, Any]]:
    """Labels of both signs or of every class, predictions near them, each at another distance."""
    classes = 2 if target.is_set else target.num_classes or 2
    size = max(classes, 4)
    for i in range(size):
        if target.is_multiclass:
            certain = 0.4 + 0.4 * i / size
            label, prediction = i % classes, np.full(classes, (1 - certain) / classes)
            prediction[label] += certain
        elif target.top_k:
            label = i % classes
            prediction = (np.arange(target.top_k) + label - i // 2) % classes
        elif not target.is_number:
            label, prediction = i % 2, np.array([(0.9, 0.8, 0.3, 0.6)[i]])
        else:
            spread = np.arange(len(target.quantiles or (0.5,)))
            label, prediction = i - 1.5, i * 1.25 - 1.25 + spread
        yield _row(np.array([label]), prediction)


def _shaped(entries: list[dict[str, Any]], target: Target) -> list[dict[str, Any]]:
    """Rows of up to three entries, in which each of the entries is equally often."""
    width, rows = min(target.num_values, 3), []
    for first in range(len(entries)):
        some = [entries[(first + i) % len(entries)] for i in range(width)]
        label = np.concatenate([entry[tfma.LABELS_KEY] for entry in some])
        predictions = [entry[tfma.PREDICTIONS_KEY] for entry in some]
        join = np.stack if target.entry_shape else np.concatenate
        rows.append(_row(label, join(predictions)))
    return rows


def _row(label: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
    return {
        tfma.LABELS_KEY: label,
        tfma.PREDICTIONS_KEY: np.asarray(prediction, np.float32),
        tfma.EXAMPLE_WEIGHTS_KEY: np.array([1.0]),
        tfma.FEATURES_KEY: {},
    }
