"""Predicts batches of mixed examples, and gives each route's labels with their predictions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_model_analysis as tfma
from apache_beam.pvalue import TaggedOutput
from tensorflow_model_analysis.constants import SLICE_KEY_TYPES_KEY

from branchline.components.branch_evaluator.confusion import confused
from branchline.components.branch_evaluator.labels import MODEL, Label
from branchline.components.branch_evaluator.model_outputs import MIXED
from branchline.components.branch_evaluator.read_batch import (
    ROUTE,
    read_features,
    read_label,
    read_weight,
    rows_of_routes,
)
from branchline.schemas import BranchlineError

TARGET = "_target"  # beside `_route`, tells the labels of a route apart until results are written
SliceKey = tuple[tuple[str, str], ...]


class PredictRows(beam.DoFn):
    """Takes record batches; a batch is predicted once, however many routes and labels there are.

    The main output has sums, place of a label → [rows, label, prediction of each model], of the
    rows' means, and the counts of `confused`; of a route with several targets (route, "") → [rows]
    too. An output by the name of each kind of label has TFMA's extracts of one row and one label.

    Args:
        labels: What is evaluated.
        loaders: Model → how it is loaded, once per process.
        raw: The column of the serialized examples.
        features: Columns that the extracts hold, for slicing.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        loaders: Mapping[str, tfma.ModelLoader],
        raw: str,
        features: Sequence[str] = (),
    ) -> None:
        self._labels: dict[str, list[Label]] = {}
        for label in labels:
            self._labels.setdefault(label.route.name, []).append(label)
        self._loaders, self._raw, self._features = loaders, raw, features
        self._models: dict[str, Any] = {}

    def setup(self) -> None:
        """Loads the models."""
        self._models = {name: loader.load() for name, loader in self._loaders.items()}

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        """See the class.

        Raises:
            BranchlineError: A row has no route that is known, or no usable label, or a model
                cannot predict the batch or predicts another shape.
        """
        by_route = rows_of_routes(batch)
        unknown = set(by_route) - set(self._labels)
        if unknown:
            raise BranchlineError(
                f"an example has {min(unknown)!r} in {ROUTE!r}; the routes are "
                f"{', '.join(self._labels)}"
            )
        serialized = np.asarray(batch.column(self._raw).flatten())
        whole = np.arange(len(serialized))
        mixed = {
            model: self._predict(model, MIXED, serialized, whole, "mixed rows")
            for model in self._models
            if self._uses_mixed(model)
        }
        for route, rows in by_route.items():
            alone: dict[str, Any] = {}
            if self._labels[route][0].route.targets:
                yield (route, ""), np.array([len(rows)], np.float64)
            for label in self._labels[route]:
                labels, there = read_label(batch, label, rows)
                predictions = {}
                for model, output in label.outputs.items():
                    if output.signature == MIXED:
                        found = mixed[model][output.name][rows]
                    else:
                        if model not in alone:
                            alone[model] = self._predict(
                                model, route, serialized, rows, f"rows of route {route!r}"
                            )
                        found = alone[model][output.name]
                    predictions[model] = _shaped(found, label, model)[there]
                if len(labels):
                    features = read_features(batch, self._features, rows[there])
                    weights = read_weight(batch, label, rows[there]) if label.weight else None
                    yield from _extracts(label, labels, predictions, features, weights)

    def _uses_mixed(self, model: str) -> bool:
        return any(
            model in label.outputs and label.outputs[model].signature == MIXED
            for labels in self._labels.values()
            for label in labels
        )

    def _predict(
        self, model: str, signature: str, serialized: np.ndarray, rows: np.ndarray, what: str
    ) -> dict[str, np.ndarray]:
        try:
            outputs = self._models[model].signatures[signature](tf.constant(serialized[rows]))
        except Exception as error:  # whatever the model's own code raises
            raise BranchlineError(
                f"the {model}'s signature {signature!r} could not predict {what}: "
                f"{' '.join(str(error).split())[:500]}"
            ) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def _shaped(found: np.ndarray, label: Label, model: str) -> np.ndarray:
    """Returns predictions as [rows, num_values], of classes [rows, num_values, num_classes], or
    [rows, num_classes] where there is one value; of quantiles alike.
    """  # noqa: D205
    target = label.target
    shape = [] if target.num_values == 1 and target.entry_shape else [target.num_values]
    shape += target.entry_shape
    try:
        return np.reshape(found, [len(found), *shape])
    except ValueError:
        raise BranchlineError(
            f"route {label.route.name!r} could not be evaluated: the {model}'s output "
            f"{label.outputs[model].name!r} has the shape {list(np.shape(found)[1:])} a row, "
            f"expected {list(target.prediction_shape)}"
        ) from None


def _extracts(
    label: Label,
    labels: np.ndarray,
    predictions: dict[str, np.ndarray],
    features: Sequence[dict[str, np.ndarray]],
    weights: np.ndarray | None,
) -> Iterator[Any]:
    sums = [_sum_of_means(labels), *(_sum_of_means(each) for each in predictions.values())]
    counts = confused(label.target, labels, predictions[MODEL])
    yield label.place, np.concatenate([np.array([len(labels), *sums], np.float64), counts])
    slice_keys = np.empty(1, object)
    slice_keys[0] = tuple(zip((ROUTE, TARGET), label.place, strict=True))
    if not label.target.is_number:
        # TFMA's AUC fails on a NaN; elsewhere one is below every threshold, as this is everywhere.
        predictions = {name: _no_nan(found) for name, found in predictions.items()}
    alone = next(iter(predictions.values())) if len(predictions) == 1 else None
    kind = label.kind.name
    place = {ROUTE: np.array([label.place[0]]), TARGET: np.array([label.place[1]])}
    for row in range(len(labels)):
        extracts = {
            tfma.FEATURES_KEY: place | features[row] if features else place,
            tfma.LABELS_KEY: labels[row],
            tfma.PREDICTIONS_KEY: {name: found[row] for name, found in predictions.items()}
            if alone is None
            else alone[row],
            SLICE_KEY_TYPES_KEY: slice_keys,
        }
        if weights is not None:
            extracts[tfma.EXAMPLE_WEIGHTS_KEY] = weights[row : row + 1]
        yield TaggedOutput(kind, extracts)


def _sum_of_means(rows: np.ndarray) -> float:
    return rows.reshape(len(rows), -1).mean(axis=1, dtype=np.float64).sum()


def _no_nan(predictions: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(predictions), np.float32(-np.inf), predictions)
