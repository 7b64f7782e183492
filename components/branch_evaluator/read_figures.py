"""Reads TFMA's results of all routes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow_model_analysis as tfma

from branchline.components.branch_evaluator.confusion import CONFUSION, as_table
from branchline.components.branch_evaluator.evaluate import COUNT, MEAN_LABEL, MEAN_PREDICTION
from branchline.components.branch_evaluator.labels import BASELINE, MODEL, Label
from branchline.components.branch_evaluator.read_batch import ROUTE
from branchline.schemas import Route

ByOutput = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Figures:
    """What TFMA found for one label of a route and one model; `examples` have the label.

    Of a target whose classes have names `confusion` says how often which class (a row) was
    predicted as which (a column), over all entries; of the baseline nothing.
    """

    examples: int
    metrics: dict[str, float]
    mean_prediction: float
    mean_label: float
    confusion: list[list[int]] | None = None


@dataclass(frozen=True)
class Evaluation:
    """A route's figures by label; without the baseline's when there is none to compare with."""

    route: Route
    examples: int
    model: dict[str, Figures]
    baseline: dict[str, Figures] | None = None
    note: str | None = None


def read_evaluations(output_dir: str, labels: Sequence[Label]) -> dict[str, Evaluation]:
    """Reads the figures of each route that had rows; route → evaluation.

    Args:
        output_dir: Where `add_evaluation` wrote them.
        labels: What was evaluated.
    """
    by_route: dict[str, list[Label]] = {}
    for label in labels:
        by_route.setdefault(label.route.name, []).append(label)
    found = {MODEL: _read(output_dir, MODEL)}
    if any(BASELINE in label.outputs for label in labels):
        found[BASELINE] = _read(output_dir, BASELINE)
    return {
        name: Evaluation(
            route=of_route[0].route,
            examples=int(found[MODEL][name][""][COUNT]),
            model=_figures(of_route, found[MODEL][name]),
            baseline=_figures(of_route, found[BASELINE].get(name, {}))
            if BASELINE in of_route[0].outputs
            else None,
        )
        for name, of_route in by_route.items()
        if name in found[MODEL]
    }


def _read(output_dir: str, model: str) -> dict[str, ByOutput]:
    """Route → output's name → metric → value; of what is not one number CONFUSION alone."""
    result = tfma.load_eval_result(output_dir, model_name=model)
    return {
        str(dict(key)[ROUTE]): {
            output: {
                name: float(value["doubleValue"])
                if "doubleValue" in value
                else as_table(value["arrayValue"]["float64Values"])
                for name, value in by_sub_key.get("", {}).items()
                if "doubleValue" in value or name == CONFUSION
            }
            for output, by_sub_key in by_output.items()
        }
        for key, by_output in result.slicing_metrics
        if len(key) == 1
    }


def _figures(labels: Iterable[Label], found: ByOutput) -> dict[str, Figures]:
    return {label.key: _of_label(label, found.get(label.place[1], {})) for label in labels}


def _of_label(label: Label, found: Mapping[str, Any]) -> Figures:
    return Figures(
        examples=int(found.get(COUNT, 0)),
        metrics={name: found[name] for name in label.metrics if name in found},
        mean_prediction=found.get(MEAN_PREDICTION, float("nan")),
        mean_label=found.get(MEAN_LABEL, float("nan")),
        confusion=found.get(CONFUSION),
    )
