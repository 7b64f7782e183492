"""Evaluates a model's branches with TFMA, each on its own rows, in one Beam pipeline."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apache_beam as beam
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.public import tfxio

from branchline.components.branch_evaluator.metric_configs import metric_config, result_name
from branchline.schemas.routes import Route

MODEL, BASELINE = "model", "baseline"
# Beside what is asked for: how many rows there were, whether one prediction is NaN and whether all
# labels are equal, both of which TFMA's AUC and accuracy do not show.
_COUNT, _PREDICTION, _LABEL = "example_count", "mean_prediction", "mean_label"


@dataclass(frozen=True)
class Figures:
    """What TFMA found for one route and one model."""

    examples: int
    metrics: dict[str, float]
    mean_prediction: float
    mean_label: float


def shared_model(model_dir: str, name: str = MODEL) -> tfma.EvalSharedModel:
    """Names a SavedModel to TFMA; evaluations that share the result load the model once."""
    shared = tfma.default_eval_shared_model(model_dir, model_name=name, tags=["serve"])
    return shared._replace(model_type=tfma.TF_GENERIC, is_baseline=name == BASELINE)


def add_evaluation(
    pipeline: beam.Pipeline,
    route: Route,
    *,
    files: Sequence[str],
    label: str,
    metrics: Iterable[str],
    models: Sequence[tfma.EvalSharedModel],
    output_dir: str,
) -> None:
    """Adds one route's evaluation to `pipeline`; results are in `output_dir` when it has run.

    Args:
        pipeline: The pipeline, which may hold other routes' evaluations.
        route: The route; each model has a signature of its name.
        files: File patterns of its rows: TFRecords of serialized tf.train.Examples.
        label: The feature that holds the label.
        metrics: Names of what to compute.
        models: The model, and perhaps the baseline, from `shared_model`.
        output_dir: Where TFMA writes its results.
    """
    config = eval_config(route, label, metrics, [model.model_name for model in models])
    source = tfxio.TFExampleRecord(
        file_pattern=list(files),
        schema=label_schema(label, route.label_dtype),
        raw_record_column_name=tfma.ARROW_INPUT_COLUMN,
        telemetry_descriptors=["BranchEvaluator"],
    )
    results = tfma.ExtractEvaluateAndWriteResults(
        eval_shared_model=list(models),
        eval_config=config,
        extractors=_extractors(config, list(models), source.TensorRepresentations()),
        writers=_writers(config, models, output_dir),
    )
    rows = pipeline | f"Read[{route.name}]" >> source.BeamSource()
    _ = rows | f"Evaluate[{route.name}]" >> results


def read_figures(
    output_dir: str, route: Route, metrics: Iterable[str], model: str | None = None
) -> Figures:
    """Reads what `add_evaluation` wrote; `model` is given when there was a baseline too.

    Metrics that TFMA has no number for are left out.
    """
    result = tfma.load_eval_result(output_dir, model_name=model)
    found = {}
    for _, by_output in result.slicing_metrics:
        for by_sub_key in by_output.values():
            for name, value in by_sub_key.get("", {}).items():
                if "doubleValue" in value:
                    found[name] = float(value["doubleValue"])
    keys = {name: result_name(metric_config(name, route)) for name in metrics}
    return Figures(
        examples=int(found.get(_COUNT, 0)),
        metrics={name: found[key] for name, key in keys.items() if key in found},
        mean_prediction=found.get(_PREDICTION, float("nan")),
        mean_label=found.get(_LABEL, float("nan")),
    )


def eval_config(
    route: Route, label: str, metrics: Iterable[str], models: Iterable[str]
) -> config_pb2.EvalConfig:
    """Configures TFMA for one route: no slices, and each metric once."""
    asked = [metric_config(name, route) for name in (_COUNT, _PREDICTION, _LABEL, *metrics)]
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                signature_name=route.name,
                label_key=label,
                is_baseline=name == BASELINE,
                model_type=tfma.TF_GENERIC,
            )
            for name in models
        ],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(metrics={result_name(one): one for one in asked}.values())
        ],
    )


def label_schema(label: str, dtype: str) -> schema_pb2.Schema:
    """Describes the label alone, one value a row: no other feature of the rows is decoded."""
    schema = schema_pb2.Schema()
    feature = schema.feature.add(
        name=label, type=schema_pb2.FLOAT if dtype == "float" else schema_pb2.INT
    )
    feature.presence.min_fraction = 1
    feature.shape.dim.add(size=1)
    return schema


def _extractors(
    config: config_pb2.EvalConfig,
    models: list[tfma.EvalSharedModel],
    representations: dict[str, schema_pb2.TensorRepresentation],
) -> list[tfma.extractors.Extractor]:
    """Lists TFMA's default extractors less those that have nothing to do here: a third faster."""
    return [
        tfma.extractors.FeaturesExtractor(config, tensor_representations=representations),
        tfma.extractors.LabelsExtractor(config),
        tfma.extractors.ExampleWeightsExtractor(config),
        tfma.extractors.PredictionsExtractor(config, models),
        tfma.extractors.UnbatchExtractor(),
        tfma.extractors.SliceKeyExtractor(eval_config=config),
    ]


def _writers(
    config: config_pb2.EvalConfig, models: Sequence[tfma.EvalSharedModel], output_dir: str
) -> list[tfma.writers.Writer]:
    """Lists TFMA's default writers, for metrics only: there are no plots and no attributions."""
    places = {model.model_name: model.model_path for model in models}
    return [
        tfma.writers.EvalConfigWriter(output_dir, config, model_locations=places),
        tfma.writers.MetricsPlotsAndValidationsWriter(
            output_paths={tfma.METRICS_KEY: os.path.join(output_dir, tfma.METRICS_KEY)},
            eval_config=config,
            output_file_format="tfrecord",
        ),
    ]
