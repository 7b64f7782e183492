"""What our own TFMA metrics share: the keys of their results, and the rows that they add up."""

from collections.abc import Iterator, Sequence

import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2


def metric_keys(
    name: str,
    model_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    example_weighted: bool,
) -> list[metric_types.MetricKey]:
    """Gives the key of a metric for each model and output; TFMA names none where there is one."""
    return [
        metric_types.MetricKey(
            name=name, model_name=model, output_name=output, example_weighted=example_weighted
        )
        for model in model_names or [""]
        for output in output_names or [""]
    ]


def rows_of(
    element: metric_types.StandardMetricInputs,
    key: metric_types.MetricKey,
    eval_config: config_pb2.EvalConfig | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Gives label, prediction and weight of each row; the weight is 1 unless the key is weighted.

    Args:
        element: A batch of rows.
        key: Whose model and output predict.
        eval_config: Of the evaluation.
    """
    for label, prediction, weight in metric_util.to_label_prediction_example_weight(
        element,
        eval_config=eval_config,
        model_name=key.model_name,
        output_name=key.output_name,
        example_weighted=bool(key.example_weighted),
        flatten=False,
        squeeze=False,
    ):
        yield label, prediction, float(weight.reshape(-1)[0])
