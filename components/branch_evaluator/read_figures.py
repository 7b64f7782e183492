"""Reads TFMA's results of all routes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow_model_analysis as tfma

from branchline.components.branch_evaluator.by_class import BY_CLASS, COLUMNS, of_class
from branchline.components.branch_evaluator.confusion import CONFUSION, as_table
from branchline.components.branch_evaluator.evaluate import COUNT, MEAN_LABEL, MEAN_PREDICTION
from branchline.components.branch_evaluator.labels import BASELINE, MODEL, Label
from branchline.components.branch_evaluator.predict_rows import UNLEARNT
from branchline.components.branch_evaluator.read_batch import ROUTE
from branchline.schemas import Route

ByOutput = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Figures:
    """What TFMA found for one label of a route and one model; `examples` have the label.

    Of a target whose classes have names `confusion` says how often which class (a row) was
    predicted as which (a column), over all entries; of the baseline nothing. Of one that is any
    number of classes `by_class` says for each what `by_class.COLUMNS` name. `unlearnt` is how many
    examples have a name that the model has not learnt; where a label is one name these are none of
    the `examples`.
    """

    examples: int
    metrics: dict[str, float]
    mean_prediction: float
    mean_label: float
    confusion: list[list[int]] | None = None
    by_class: list[list[float]] | None = None
    unlearnt: int = 0


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
            examples=_num_examples(of_route[0], found[MODEL][name][""]),
            model=_figures(of_route, found[MODEL][name]),
            baseline=_figures(of_route, found[BASELINE].get(name, {}))
            if BASELINE in of_route[0].outputs
            else None,
        )
        for name, of_route in by_route.items()
        if name in found[MODEL]
    }


def _read(output_dir: str, model: str) -> dict[str, ByOutput]:
    """Route → output's name → metric → value; of what is not one number the tables alone."""
    result = tfma.load_eval_result(output_dir, model_name=model)
    return {
        str(dict(key)[ROUTE]): {
            output: {
                name: float(value["doubleValue"])
                if "doubleValue" in value
                else _TABLES[name](value["arrayValue"]["float64Values"])
                for name, value in by_sub_key.get("", {}).items()
                if "doubleValue" in value or name in _TABLES
            }
            for output, by_sub_key in by_output.items()
        }
        for key, by_output in result.slicing_metrics
        if len(key) == 1
    }


def _num_examples(label: Label, found: Mapping[str, Any]) -> int:
    """Of a route, whose first label it is."""
    left_out = 0 if label.route.targets or label.target.is_set else found.get(UNLEARNT, 0)
    return int(found.get(COUNT, 0) + left_out)


def _figures(labels: Iterable[Label], found: ByOutput) -> dict[str, Figures]:
    return {label.key: _of_label(label, found.get(label.place[1], {})) for label in labels}


def _of_label(label: Label, found: Mapping[str, Any]) -> Figures:
    found = {**found, **_of_classes(label, found.get(BY_CLASS))}
    return Figures(
        examples=int(found.get(COUNT, 0)),
        metrics={name: found[name] for name in label.metrics if name in found},
        mean_prediction=found.get(MEAN_PREDICTION, float("nan")),
        mean_label=found.get(MEAN_LABEL, float("nan")),
        confusion=found.get(CONFUSION),
        by_class=found.get(BY_CLASS),
        unlearnt=int(found.get(UNLEARNT, 0)),
    )


def _of_classes(label: Label, table: list[list[float]] | None) -> dict[str, float]:
    """The metrics of single classes, such as `auc[sports]`."""
    rows = dict(zip(label.target.names or (), table or (), strict=False))
    asked = {name: of_class(name) for name in label.metrics}
    return {
        name: rows[of[1]][COLUMNS.index(of[0])]
        for name, of in asked.items()
        if of and of[1] in rows
    }


def _of_each_class(figures: Sequence[Any]) -> list[list[float]]:
    rows = iter(map(float, figures))  # a NaN is a text
    return [list(row) for row in zip(*[rows] * len(COLUMNS), strict=True)]


_TABLES = {CONFUSION: as_table, BY_CLASS: _of_each_class}
