"""Lets TFX's own Evaluator judge a model of several routes in one evaluation.

For its `module_path`. TFMA computes every metric of every output on every row, but a row has the
label and the prediction of its own route alone: TFMA's AUC fails on the first row of another.
Here such a row counts nothing, by a weight of 0.
"""

from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

from branchline.components.branch_evaluator.read_batch import ROUTE
from branchline.schemas import BranchlineError

Extracts = dict[str, Any]
_WEIGHED = (tfma.LABELS_KEY, tfma.PREDICTIONS_KEY, tfma.EXAMPLE_WEIGHTS_KEY)


def custom_extractors(
    eval_shared_model: Any, eval_config: tfma.EvalConfig, tensor_adapter_config: Any = None
) -> list[tfma.extractors.Extractor]:
    """Makes TFMA's extractors, and one that weighs each output's rows.

    Args:
        eval_shared_model: As TFX's Evaluator loads it.
        eval_config: Its `label_keys` say the label of every output.
        tensor_adapter_config: From the schema, if there is one.

    Raises:
        BranchlineError: The configuration would count rows of other routes.
    """
    for spec in eval_config.metrics_specs:
        if not spec.output_names or not spec.example_weights.weighted:
            raise BranchlineError(
                f"eval_config.metrics_specs: got one of {_names(spec)} with output_names="
                f"{list(spec.output_names)} and example_weights.weighted="
                f"{spec.example_weights.weighted}, expected the outputs of one route and "
                "example_weights=tfma.ExampleWeightOptions(weighted=True), because rows of other "
                "routes have to count nothing"
            )
    extractors = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
    )
    weigh = tfma.extractors.Extractor("WeighOutputs", "WeighOutputs" >> beam.Map(weigh_outputs))
    # TFMA evaluates what the last extractor, that of the slices, gives, whatever comes after it.
    return [*extractors[:-1], weigh, extractors[-1]]


def weigh_outputs(extracts: Extracts) -> Extracts:
    """Gives a row the weight 0 for what it has no label of, or belongs to another route.

    Args:
        extracts: Of one row; labels and predictions by output, an output named `<route>` or
            `<route>/<key>`; with a baseline by model and output.
    """
    route = np.asarray(extracts[tfma.FEATURES_KEY][ROUTE]).flatten()[0].decode()
    parts: list[Any] = [extracts.get(key) for key in _WEIGHED]
    if all(isinstance(of_model, dict) for of_model in parts[0].values()):
        by_model = {
            model: _weigh(route, *(part and part[model] for part in parts)) for model in parts[0]
        }
        weighed = [{model: each[i] for model, each in by_model.items()} for i in range(3)]
    else:
        weighed = _weigh(route, *parts)
    return extracts | dict(zip(_WEIGHED, weighed, strict=True))


def _weigh(route: str, labels: Extracts, predictions: Extracts, given: Any) -> tuple[Extracts, ...]:
    labels, predictions, weights = dict(labels), dict(predictions), {}
    for output, label in labels.items():
        if output.partition("/")[0] == route and np.size(label):
            weight = given.get(output) if isinstance(given, dict) else given
            weights[output] = np.array([1.0]) if weight is None else weight
        else:
            weights[output] = np.array([0.0])
            labels[output] = np.array([0])
            predictions[output] = np.zeros_like(predictions[output])
    return labels, predictions, weights


def _names(spec: tfma.MetricsSpec) -> str:
    return ", ".join(metric.class_name for metric in spec.metrics)
