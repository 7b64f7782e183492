"""Evaluates all routes of a model, and of the baseline, in one Beam pipeline."""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx.types.artifact import Artifact

from branchline.components.branch_evaluator.evaluate import add_evaluation
from branchline.components.branch_evaluator.further_metrics import columns, slice_columns
from branchline.components.branch_evaluator.labels import BASELINE, MODEL, Label, list_labels
from branchline.components.branch_evaluator.model_outputs import (
    find_outputs,
    read_signatures,
    require_outputs,
)
from branchline.components.branch_evaluator.read_batch import words_of
from branchline.components.branch_evaluator.read_figures import Evaluation, read_evaluations
from branchline.components.router.read_examples import check_format, find_sources
from branchline.schemas import BranchlineError, RoutingTable

# Beam's workers send an exception as the text of its traceback.
_OURS = re.compile(r"BranchlineError: (.+?)(?: \[while running|\n|\Z)")


def evaluate_routes(
    make_pipeline: Callable[[], Any],
    routing: RoutingTable,
    *,
    examples: Sequence[Artifact],
    split: str,
    metrics: Mapping[str, Mapping[str, Sequence[str]]],
    model_dir: str,
    baseline_dir: str | None = None,
    skip: Iterable[str] = (),
    untrained: Collection[str] = (),
    further: config_pb2.EvalConfig,
    output_dir: str,
) -> dict[str, Evaluation]:
    """Evaluates every route; route → what was found, in the table's order.

    Args:
        make_pipeline: Makes the Beam pipeline, a context manager.
        routing: The routing table.
        examples: Examples artifacts; those that have the split are read.
        split: Whose rows are evaluated.
        metrics: Route → label → names of what to compute.
        model_dir: A SavedModel that predicts every label, see `require_outputs`.
        baseline_dir: One to compare with; a route that it cannot predict is not compared.
        skip: Routes that may have no rows.
        untrained: Routes for which the model predicts nothing: they are not evaluated.
        further: Metrics and slices to compute too, see `check_eval_config`.
        output_dir: Where TFMA's results go.

    Raises:
        BranchlineError: A route has no rows or an unusable label, or the model does not predict it.
    """
    outputs = {MODEL: require_outputs(routing, model_dir)}
    model_dirs = {MODEL: model_dir}
    if baseline_dir:
        outputs[BASELINE] = find_outputs(routing, read_signatures(baseline_dir))
        model_dirs[BASELINE] = baseline_dir
    labels = list_labels(routing, metrics, outputs)
    dtypes = columns(routing)
    read = {label.column for label in labels} | set(slice_columns(further))
    read |= {label.weight for label in labels if label.weight}
    for each in examples:
        check_format(each)
    sources = find_sources(examples).get(split, [])
    found: dict[str, Evaluation] = {}
    if sources:
        try:
            with make_pipeline() as pipeline:
                add_evaluation(
                    pipeline,
                    sources,
                    {name: dtypes[name] for name in sorted(read)},
                    labels,
                    model_dirs=model_dirs,
                    further=further,
                    output_dir=output_dir,
                )
        except Exception as error:  # Beam wraps whatever the rows or the model raised
            raise _explained(error, split, labels) from error
        found = read_evaluations(output_dir, labels)
    for name in routing.names:
        if name not in found and name not in skip:
            raise BranchlineError(
                f"route {name!r} cannot be evaluated: split {split!r} has no examples of it; give "
                "it more records, or hold back a larger share of them for eval"
            )
    lacks = f"not compared: the baseline in {baseline_dir} lacks "
    missing = dict.fromkeys(routing.names, f"no examples in split {split!r}")
    missing |= dict.fromkeys(untrained, "the model is not trained for it")
    return {
        route.name: _noted(found[route.name], lacks if baseline_dir else "")
        if route.name in found and route.name not in untrained
        else Evaluation(route, 0, {}, note=f"not evaluated: {missing[route.name]}")
        for route in routing.routes
    }


def _noted(evaluation: Evaluation, lacks: str) -> Evaluation:
    """Says that a route was not compared, where there is a baseline to compare with."""
    if not lacks or evaluation.baseline is not None:
        return evaluation
    what = "this route or one of its targets" if evaluation.route.targets else "this route"
    return dataclasses.replace(evaluation, note=lacks + what)


def _explained(error: Exception, split: str, labels: Sequence[Label]) -> BranchlineError:
    """Words what stopped the pipeline: a route's rows, a model, or a file."""
    text = str(error)
    ours = _OURS.findall(text)
    if isinstance(error, BranchlineError) or ours:
        told = ours[-1] if ours else text.partition(" [while running")[0]
        return BranchlineError(f"split {split!r}: {told}")
    # The decoder of whole batches tells the column alone.
    typed = [label for label in labels if re.search(rf"\b{re.escape(label.column)}\b", text)]
    wanted = "; ".join(f"route {each.route.name!r} needs {words_of(each)}" for each in typed[:3])
    return BranchlineError(
        f"split {split!r} could not be evaluated"
        + (f": each row of {wanted}" if wanted else "")
        + f"; it failed with {' '.join(text.split())[:500]}"
    )
