"""Evaluates every label of every route with TFMA in one pipeline, and writes one result."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics.metric_types import MetricKey
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.public import tfxio

from branchline.components.branch_evaluator.confusion import CONFUSION
from branchline.components.branch_evaluator.further_metrics import (
    further_specs,
    slice_columns,
    slices_within,
)
from branchline.components.branch_evaluator.labels import (
    BASELINE,
    MODEL,
    Label,
    batch_size,
    by_kind,
)
from branchline.components.branch_evaluator.metric_configs import metric_config
from branchline.components.branch_evaluator.model_outputs import MIXED
from branchline.components.branch_evaluator.predict_rows import TARGET, PredictRows, SliceKey
from branchline.components.branch_evaluator.read_batch import ROUTE, batch_schema
from branchline.components.router.read_examples import ReadExamples, Source

Place = tuple[str, str]  # of a label, see there
Sliced = tuple[SliceKey, dict[MetricKey, Any]]
# Beside what is asked for: how many rows have the label, whether one prediction is not finite and
# whether all labels are equal, both of which TFMA's AUC and accuracy do not show.
COUNT, MEAN_LABEL, MEAN_PREDICTION = "example_count", "mean_label", "mean_prediction"
_RAW = "_serialized_example"


def add_evaluation(
    pipeline: beam.Pipeline,
    sources: Sequence[Source],
    dtypes: Mapping[str, str],
    labels: Sequence[Label],
    *,
    model_dirs: Mapping[str, str],
    further: config_pb2.EvalConfig,
    output_dir: str,
) -> None:
    """Adds the evaluation to `pipeline`; `tfma.load_eval_result(output_dir)` reads what it writes.

    A slice there is a route, an `output_name` a target of a route with several, a model's name
    MODEL or BASELINE.

    Args:
        pipeline: The pipeline.
        sources: Files of mixed examples.
        dtypes: Column of them that is read → "float", "int" or "string".
        labels: What is evaluated.
        model_dirs: Model → the SavedModel.
        further: Metrics and slices, see `check_eval_config`.
        output_dir: Where TFMA writes its results.
    """
    kinds = by_kind(labels)
    loaders = {
        name: tfma.default_eval_shared_model(path, model_name=name, tags=["serve"]).model_loader
        for name, path in model_dirs.items()
    }
    decode = tfxio.TFExampleBeamRecord(
        physical_format="tfrecord_gzip",
        telemetry_descriptors=["BranchEvaluator"],
        schema=batch_schema(dtypes),
        raw_record_column_name=_RAW,
    )
    predicted = (
        pipeline
        # Beam's own source holds what 16 MiB of a compressed file come to.
        | "Read" >> ReadExamples({"": sources})
        | "Rows" >> beam.FlatMap(lambda batch: batch[1])
        | "Decode" >> decode.BeamSource(batch_size=batch_size(labels))
        | "Predict"
        >> beam.ParDo(PredictRows(labels, loaders, _RAW, slice_columns(further))).with_outputs(
            *(kind.name for kind in kinds), main="sums"
        )
    )
    models = {label.place: label.models for label in labels}
    results = [
        predicted.sums
        | "Sum" >> beam.CombinePerKey(sum)  # pyright: ignore[reportArgumentType]
        | "Means" >> beam.Map(_means, models)
    ]
    plots = []
    for kind, of_kind in kinds.items():
        config = config_pb2.EvalConfig(
            model_specs=_model_specs(kind.models),
            slicing_specs=slices_within(further, [ROUTE, TARGET]),
            metrics_specs=_metrics_specs(of_kind, further),
        )
        evaluate = tfma.evaluators.MetricsPlotsAndValidationsEvaluator(config)
        rows = predicted[kind.name]
        if config.slicing_specs:
            rows |= (
                f"Slice[{kind.name}]"
                >> tfma.extractors.SliceKeyExtractor(
                    eval_config=config, materialize=False
                ).ptransform
            )
        found = rows | f"Evaluate[{kind.name}]" >> evaluate.ptransform
        by_route = beam.Map(_by_route, {label.place: label.metrics for label in of_kind})
        results.append(found[tfma.METRICS_KEY] | f"ByRoute[{kind.name}]" >> by_route)
        if further.metrics_specs:
            plots.append(found[tfma.PLOTS_KEY] | f"PlotsByRoute[{kind.name}]" >> by_route)
    evaluation = {tfma.METRICS_KEY: _merge("metrics", results)}
    if plots:
        evaluation[tfma.PLOTS_KEY] = _merge("plots", plots)
    config = config_pb2.EvalConfig(
        model_specs=_model_specs(model_dirs),
        slicing_specs=[
            config_pb2.SlicingSpec(feature_keys=[ROUTE]),
            *slices_within(further, [ROUTE]),
        ],
        metrics_specs=[
            spec for of_kind in kinds.values() for spec in _metrics_specs(of_kind, further)
        ],
    )
    writers = [
        tfma.writers.EvalConfigWriter(output_dir, config, model_locations=dict(model_dirs)),
        tfma.writers.MetricsPlotsAndValidationsWriter(
            output_paths={key: os.path.join(output_dir, key) for key in evaluation},
            eval_config=config,
            output_file_format="tfrecord",
        ),
    ]
    _ = evaluation | tfma.WriteResults(writers)


def _merge(what: str, parts: Sequence[Any]) -> Any:
    """Brings what several evaluations found of one slice together: TFMA reads the first alone."""
    flat = parts | f"Flatten[{what}]" >> beam.Flatten()
    return flat | f"Merge[{what}]" >> beam.CombinePerKey(_merged)  # pyright: ignore[reportArgumentType]


def _metrics_specs(
    labels: Sequence[Label], further: config_pb2.EvalConfig
) -> list[config_pb2.MetricsSpec]:
    """Configures each metric that is asked for of any of the labels, once, and further ones."""
    configs = {
        name: metric_config(name, label.route, label.key)
        for label in labels
        for name in label.metrics
    }
    specs = [
        config_pb2.MetricsSpec(metrics=configs.values()),
        *further_specs(further, (label.target for label in labels)),
    ]
    for spec in specs if labels[0].kind.weighted else ():
        spec.example_weights.weighted = True
    if len(labels[0].models) > 1:  # TFMA does not name the model of an evaluation of one
        for spec in specs:
            spec.model_names.extend(labels[0].models)
    return specs


def _model_specs(models: Iterable[str]) -> list[config_pb2.ModelSpec]:
    return [
        config_pb2.ModelSpec(
            name=name,
            signature_name=MIXED,
            is_baseline=name == BASELINE,
            model_type=tfma.TF_GENERIC,
        )
        for name in models
    ]


def _means(summed: tuple[Place, np.ndarray], models: Mapping[Place, tuple[str, ...]]) -> Sliced:
    """Makes figures of the sums of `PredictRows`."""
    place, (count, *totals) = summed
    route, output = place
    found: dict[MetricKey, Any] = {}
    own = models.get(place, (MODEL,))
    if len(totals) > 1 + len(own):
        found[MetricKey(CONFUSION, MODEL, output)] = np.array(totals[1 + len(own) :])
    for number, model in enumerate(own):
        found[MetricKey(COUNT, model, output)] = count
        if totals:
            found[MetricKey(MEAN_LABEL, model, output)] = totals[0] / count
            found[MetricKey(MEAN_PREDICTION, model, output)] = totals[1 + number] / count
    return ((ROUTE, route),), found


def _by_route(sliced: Sliced, asked: Mapping[Place, Sequence[str]]) -> Sliced:
    """Tells targets by TFMA's `output_name` instead of the slice, and always names the model.

    Leaves out what is asked for of other labels of the kind alone. What TFMA weighs and is named
    like a figure of ours, which is not weighted, is told apart.
    """
    key, metrics = sliced
    parts = dict(key)
    output = parts.pop(TARGET)
    others = {name for names in asked.values() for name in names}
    left_out = others.difference(asked[parts[ROUTE], output])
    ours = (COUNT, MEAN_LABEL, MEAN_PREDICTION)
    return tuple(parts.items()), {
        each._replace(
            name=f"weighted_{each.name}"
            if each.example_weighted and each.name in ours
            else each.name,
            model_name=each.model_name or MODEL,
            output_name=output,
        ): value
        for each, value in metrics.items()
        if each.name not in left_out
    }


def _merged(parts: Iterable[dict[MetricKey, Any]]) -> dict[MetricKey, Any]:
    return {key: value for part in parts for key, value in part.items()}
