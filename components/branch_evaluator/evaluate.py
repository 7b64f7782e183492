"""Evaluates a model's branches with TFMA, each on its own rows, in one Beam pipeline."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.public import tfxio

from branchline.components.branch_evaluator.metric_configs import (
    metric_config,
    result_name,
    row_mean,
)
from branchline.components.branch_evaluator.select_label import count_rows, label_extractor
from branchline.schemas.routes import Route

MODEL, BASELINE = "model", "baseline"
# Beside what is asked for: how many rows there were, whether one prediction is NaN and whether all
# labels are equal, both of which TFMA's AUC and accuracy do not show.
_COUNT, _PREDICTION, _LABEL = "example_count", "mean_prediction", "mean_label"


@dataclass(frozen=True)
class Figures:
    """What TFMA found for one label of a route and one model; `examples` have the label."""

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
    columns: Mapping[str, str],
    metrics: Mapping[str, Iterable[str]],
    models: Sequence[tfma.EvalSharedModel],
    output_dir: str,
) -> None:
    """Adds one route's evaluation to `pipeline`; results are in `output_dir` when it has run.

    The model predicts once; every label is then evaluated by itself.

    Args:
        pipeline: The pipeline, which may hold other routes' evaluations.
        route: The route; each model has a signature of its name.
        files: File patterns of its rows: TFRecords of serialized tf.train.Examples.
        columns: Label → the feature that holds it.
        metrics: Label → names of what to compute.
        models: The model, and perhaps the baseline, from `shared_model`.
        output_dir: Where TFMA writes its results, see `results_dir`.
    """
    names = [model.model_name for model in models]
    source = tfxio.TFExampleRecord(
        file_pattern=list(files),
        schema=label_schema(route, columns),
        raw_record_column_name=tfma.ARROW_INPUT_COLUMN,
        telemetry_descriptors=["BranchEvaluator"],
    )
    representations = source.TensorRepresentations()
    config = config_pb2.EvalConfig(model_specs=_model_specs(route, names))
    predicted = pipeline | f"Read[{route.name}]" >> source.BeamSource()
    predicted |= f"Extracts[{route.name}]" >> tfma.BatchedInputsToExtracts()
    for extractor in (
        tfma.extractors.FeaturesExtractor(config, tensor_representations=representations),
        tfma.extractors.PredictionsExtractor(config, list(models)),
    ):
        predicted |= f"Evaluate[{route.name}]{extractor.stage_name}" >> extractor.ptransform
    _ = (
        predicted
        | f"Rows[{route.name}]" >> beam.Map(count_rows)
        | f"Count[{route.name}]" >> beam.CombineGlobally(sum)
        | f"WriteCount[{route.name}]" >> beam.Map(_write_count, output_dir)
    )
    for key, target in route.labels.items():
        config = eval_config(route, key, metrics[key], names)
        folder = results_dir(output_dir, route, key)
        results = tfma.ExtractEvaluateAndWriteResults(
            eval_shared_model=list(models),
            eval_config=config,
            extractors=[
                label_extractor(columns[key], route.output(key), target, names),
                tfma.extractors.UnbatchExtractor(),
                tfma.extractors.SliceKeyExtractor(eval_config=config),
            ],
            writers=_writers(config, models, folder),
        )
        _ = predicted | f"Evaluate[{route.name}] {key}" >> results


def results_dir(output_dir: str, route: Route, key: str) -> str:
    """Where TFMA's results of a label are: those of a target in a folder by its position."""
    if route.label is not None:
        return output_dir
    return os.path.join(output_dir, str(list(route.targets).index(key)))


def read_count(output_dir: str) -> int:
    """Reads how many rows of the route there were."""
    with tf.io.gfile.GFile(os.path.join(output_dir, "num_examples")) as file:
        return int(file.read())


def _write_count(count: int, output_dir: str) -> None:
    tf.io.gfile.makedirs(output_dir)
    with tf.io.gfile.GFile(os.path.join(output_dir, "num_examples"), "w") as file:
        file.write(f"{count}\n")


def read_figures(
    output_dir: str, route: Route, key: str, metrics: Iterable[str], model: str | None = None
) -> Figures:
    """Reads what `add_evaluation` wrote of one label; `model` is given when there was a baseline.

    Metrics that TFMA has no number for are left out.
    """
    result = tfma.load_eval_result(results_dir(output_dir, route, key), model_name=model)
    found = {}
    for _, by_output in result.slicing_metrics:
        for by_sub_key in by_output.values():
            for name, value in by_sub_key.get("", {}).items():
                if "doubleValue" in value:
                    found[name] = float(value["doubleValue"])
    keys = {name: result_name(metric_config(name, route, key)) for name in metrics}
    return Figures(
        examples=int(found.get(_COUNT, 0)),
        metrics={name: found[key] for name, key in keys.items() if key in found},
        mean_prediction=found.get(_PREDICTION, float("nan")),
        mean_label=found.get(_LABEL, float("nan")),
    )


def eval_config(
    route: Route, key: str, metrics: Iterable[str], models: Iterable[str]
) -> config_pb2.EvalConfig:
    """Configures TFMA for one label of a route: no slices, and each metric once."""
    asked = [metric_config(_COUNT, route, key), row_mean(_PREDICTION), row_mean(_LABEL)]
    asked += [metric_config(name, route, key) for name in metrics]
    return config_pb2.EvalConfig(
        model_specs=_model_specs(route, models),
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(metrics={result_name(one): one for one in asked}.values())
        ],
    )


def _model_specs(route: Route, models: Iterable[str]) -> list[config_pb2.ModelSpec]:
    return [
        config_pb2.ModelSpec(
            name=name,
            signature_name=route.name,
            is_baseline=name == BASELINE,
            model_type=tfma.TF_GENERIC,
        )
        for name in models
    ]


def label_schema(route: Route, columns: Mapping[str, str]) -> schema_pb2.Schema:
    """Describes the labels alone: no other feature of the rows is decoded.

    A label that may be missing is filled with what stands for that.
    """
    schema = schema_pb2.Schema()
    representations = schema.tensor_representation_group[""].tensor_representation
    for key, target in route.labels.items():
        name = columns[key]
        is_float = target.dtype == "float"
        schema.feature.add(name=name, type=schema_pb2.FLOAT if is_float else schema_pb2.INT)
        dense = representations[name].dense_tensor
        dense.column_name = name
        dense.shape.dim.add(size=target.num_values)
        if target.missing is not None:
            missing = {"float_value": target.missing} if is_float else {"int_value": -1}
            dense.default_value.CopyFrom(
                schema_pb2.TensorRepresentation.DefaultValue(**missing)  # pyright: ignore
            )
    return schema


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
