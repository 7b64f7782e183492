"""Evaluates all routes of a model, and of the baseline, in one Beam pipeline."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from branchline.components.branch_evaluator.evaluate import (
    BASELINE,
    MODEL,
    Figures,
    add_evaluation,
    read_figures,
    shared_model,
)
from branchline.schemas import BranchlineError, Route, RoutingTable, split_name


@dataclass(frozen=True)
class Evaluation:
    """A route's figures; without the baseline's when there is none to compare with."""

    model: Figures
    baseline: Figures | None = None
    note: str | None = None


def evaluate_routes(
    make_pipeline: Callable[[], Any],
    routing: RoutingTable,
    *,
    files: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Sequence[str]],
    model_dir: str,
    baseline_dir: str | None = None,
    output_dir: str,
) -> dict[str, Evaluation]:
    """Evaluates every route; TFMA's results of a route are in `output_dir`/<route>.

    Args:
        make_pipeline: Makes the Beam pipeline, a context manager.
        routing: The routing table.
        files: Route → its eval rows, files of serialized tf.train.Examples.
        metrics: Route → names of what to compute.
        model_dir: A SavedModel with a signature per route.
        baseline_dir: One to compare with; a route that it has no signature for is not compared.
        output_dir: Where results go.

    Raises:
        BranchlineError: A route has no rows or no labels, or the model has no signature for it.
    """
    missing = set(routing.names) - signatures(model_dir)
    if missing:
        raise BranchlineError(
            f"the model in {model_dir} has no signature for route {', '.join(sorted(missing))}"
        )
    compared = signatures(baseline_dir) if baseline_dir else set()
    model = shared_model(model_dir, MODEL)
    baseline = shared_model(baseline_dir, BASELINE) if baseline_dir else None
    for name in routing.names:
        _require_rows(name, files.get(name, ()))
    try:
        with make_pipeline() as pipeline:
            for route in routing.routes:
                models = [model, baseline] if baseline and route.name in compared else [model]
                add_evaluation(
                    pipeline,
                    route,
                    files=files[route.name],
                    label=routing.column(route.name, route.label),
                    metrics=metrics[route.name],
                    models=models,
                    output_dir=os.path.join(output_dir, route.name),
                )
    except Exception as error:  # Beam wraps whatever the rows or the model raised
        _explain(error, routing)
        raise
    return {
        route.name: _read(
            os.path.join(output_dir, route.name),
            route,
            metrics[route.name],
            baseline_dir,
            route.name in compared,
        )
        for route in routing.routes
    }


def signatures(model_dir: str) -> set[str]:
    """Names the signatures of the SavedModel in `model_dir`, without loading it.

    Raises:
        BranchlineError: There is no SavedModel.
    """
    path = os.path.join(model_dir, tf.saved_model.SAVED_MODEL_FILENAME_PB)
    if not tf.io.gfile.exists(path):
        raise BranchlineError(f"no SavedModel in {model_dir}")
    with tf.io.gfile.GFile(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    return {name for graph in saved_model.meta_graphs for name in graph.signature_def}


def _read(
    output_dir: str, route: Route, metrics: Sequence[str], baseline_dir: str | None, compared: bool
) -> Evaluation:
    if compared:
        return Evaluation(
            read_figures(output_dir, route, metrics, MODEL),
            read_figures(output_dir, route, metrics, BASELINE),
        )
    note = (
        f"not compared: the baseline in {baseline_dir} lacks this route" if baseline_dir else None
    )
    return Evaluation(read_figures(output_dir, route, metrics), note=note)


def _explain(error: Exception, routing: RoutingTable) -> None:
    """Raises the error again with the route it came from, if Beam's step names tell."""
    for route in routing.routes:
        if f"Read[{route.name}]" in str(error) or f"Evaluate[{route.name}]" in str(error):
            column = routing.column(route.name, route.label)
            raise BranchlineError(
                f"route {route.name!r} could not be evaluated: each row of split "
                f"{split_name('eval', route.name)!r} needs one {route.label_dtype} in {column!r}, "
                f"and the model's signature {route.name!r} has to take the rows; it failed with "
                f"{' '.join(str(error).split())[:500]}"
            ) from error


def _require_rows(route: str, files: Sequence[str]) -> None:
    for path in files:
        rows = tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "")
        if next(iter(rows.take(1)), None) is not None:
            return
    split = split_name("eval", route)
    raise BranchlineError(
        f"route {route!r} cannot be evaluated: split {split!r} has no examples; give it more "
        "records, or hold back a larger share of them for eval"
    )
