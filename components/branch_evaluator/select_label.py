"""Takes one label out of the extracts of a route: labels and predictions of the rows that have it.

An example stays one row, however many entries its label has: TFMA's and Keras's metrics take
vectors, and are then as fast as NumPy where they can be.
"""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

from branchline.components.routing.has_label import has_label
from branchline.schemas.targets import Target


def label_extractor(
    column: str, output: str, target: Target, models: list[str]
) -> tfma.extractors.Extractor:
    """Makes the extractor of one label, for batches that hold features and predictions.

    Args:
        column: The feature that holds the label.
        output: The model's output that predicts it; a lone output may have any name.
        target: What the label is.
        models: The models' names.
    """
    select = beam.FlatMap(select_label, column, output, target, models)
    return tfma.extractors.Extractor(stage_name="SelectLabel", ptransform=select)


def select_label(
    extracts: dict[str, Any], column: str, output: str, target: Target, models: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields a batch of the rows that have the label, if there are any.

    Labels are [rows, n], predictions [rows], [rows, n], [rows, num_classes] or
    [rows, n, num_classes].

    Raises:
        ValueError: A prediction is not of the target's shape.
    """
    labels = np.reshape(extracts[tfma.FEATURES_KEY][column], [-1, target.num_values])
    kept = has_label(labels, target)
    if not kept.any():
        return
    shape = [len(labels), target.num_values] if target.shape else [len(labels)]
    shape += [target.num_classes] if target.num_classes else []

    def pick(predictions: Any) -> np.ndarray:
        found = predictions[output] if isinstance(predictions, dict) else predictions
        return np.reshape(found, shape)[kept]

    predictions: Any = extracts[tfma.PREDICTIONS_KEY]
    yield {
        tfma.FEATURES_KEY: {},
        tfma.LABELS_KEY: labels[kept],
        tfma.PREDICTIONS_KEY: {name: pick(predictions[name]) for name in models}
        if len(models) > 1
        else pick(predictions),
    }


def count_rows(extracts: dict[str, Any]) -> int:
    """Counts the examples of a batch."""
    return len(next(iter(extracts[tfma.FEATURES_KEY].values())))
