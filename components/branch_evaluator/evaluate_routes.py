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
    read_count,
    read_figures,
    shared_model,
)
from branchline.schemas import BranchlineError, Route, RoutingTable, split_name


@dataclass(frozen=True)
class Evaluation:
    """A route's figures by label; without the baseline's when there is none to compare with."""

    route: Route
    examples: int
    model: dict[str, Figures]
    baseline: dict[str, Figures] | None = None
    note: str | None = None


def evaluate_routes(
    make_pipeline: Callable[[], Any],
    routing: RoutingTable,
    *,
    files: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Mapping[str, Sequence[str]]],
    model_dir: str,
    baseline_dir: str | None = None,
    output_dir: str,
) -> dict[str, Evaluation]:
    """Evaluates every route; TFMA's results of a route are in `output_dir`/<route>.

    Args:
        make_pipeline: Makes the Beam pipeline, a context manager.
        routing: The routing table.
        files: Route → its eval rows, files of serialized tf.train.Examples.
        metrics: Route → label → names of what to compute.
        model_dir: A SavedModel with a signature per route.
        baseline_dir: One to compare with; a route that it cannot predict is not compared.
        output_dir: Where results go; those of a target in a folder by its position.

    Raises:
        BranchlineError: A route has no rows or no labels, or the model has no signature for it, or
            no output for one of its targets.
    """
    _require_outputs(routing, model_dir)
    found = signatures(baseline_dir) if baseline_dir else {}
    compared = {
        route.name
        for route in routing.routes
        if route.name in found and not missing_outputs(route, found[route.name])
    }
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
                    columns=routing.columns(route.name),
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


def signatures(model_dir: str) -> dict[str, set[str]]:
    """Names the signatures of the SavedModel in `model_dir` and their outputs, without loading it.

    Raises:
        BranchlineError: There is no SavedModel.
    """
    path = os.path.join(model_dir, tf.saved_model.SAVED_MODEL_FILENAME_PB)
    if not tf.io.gfile.exists(path):
        raise BranchlineError(f"no SavedModel in {model_dir}")
    with tf.io.gfile.GFile(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    return {
        name: set(signature.outputs)
        for graph in saved_model.meta_graphs
        for name, signature in graph.signature_def.items()
    }


def missing_outputs(route: Route, outputs: set[str]) -> list[str]:
    """Names what a signature with these outputs lacks; of one label the name does not matter."""
    wanted = [route.output(key) for key in route.labels]
    return [] if len(wanted) == len(outputs) == 1 else [w for w in wanted if w not in outputs]


def _require_outputs(routing: RoutingTable, model_dir: str) -> None:
    found = signatures(model_dir)
    missing = set(routing.names) - set(found)
    if missing:
        raise BranchlineError(
            f"the model in {model_dir} has no signature for route {', '.join(sorted(missing))}"
        )
    for route in routing.routes:
        outputs = found[route.name]
        if missing_outputs(route, outputs):
            raise BranchlineError(
                f"the signature {route.name!r} of the model in {model_dir} has the outputs "
                f"{', '.join(sorted(outputs))}; expected "
                f"{', '.join(missing_outputs(route, outputs))} too"
            )


def _read(
    output_dir: str,
    route: Route,
    metrics: Mapping[str, Sequence[str]],
    baseline_dir: str | None,
    compared: bool,
) -> Evaluation:
    def figures(model: str | None) -> dict[str, Figures]:
        return {
            key: read_figures(output_dir, route, key, metrics[key], model) for key in route.labels
        }

    examples = read_count(output_dir)
    if compared:
        return Evaluation(route, examples, figures(MODEL), figures(BASELINE))
    note = None
    if baseline_dir:
        what = "this route or one of its targets" if route.targets else "this route"
        note = f"not compared: the baseline in {baseline_dir} lacks {what}"
    return Evaluation(route, examples, figures(None), note=note)


def _explain(error: Exception, routing: RoutingTable) -> None:
    """Raises the error again with the route it came from, if Beam's step names tell."""
    for route in routing.routes:
        if f"Read[{route.name}]" in str(error) or f"Evaluate[{route.name}]" in str(error):
            raise BranchlineError(
                f"route {route.name!r} could not be evaluated: each row of split "
                f"{split_name('eval', route.name)!r} needs {_wanted(routing, route)}, "
                f"and the model's signature {route.name!r} has to take the rows; it failed with "
                f"{' '.join(str(error).split())[:500]}"
            ) from error


def _wanted(routing: RoutingTable, route: Route) -> str:
    """Words the labels that a row needs.

    >>> from branchline.schemas import Numeric, Target, when
    >>> targets = {"y": Target("binary", shape=(5,)), "z": Target("regression", optional=True)}
    >>> route = Route("r", when.present("x"), features={"x": Numeric()}, targets=targets)
    >>> _wanted(RoutingTable(route), route)
    "5 ints in 'y', one float or none in 'z'"
    """
    return ", ".join(
        (f"{target.num_values} {target.dtype}s" if target.shape else f"one {target.dtype}")
        + " or none" * target.optional
        + f" in {routing.column(route.name, key)!r}"
        for key, target in route.labels.items()
    )


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
