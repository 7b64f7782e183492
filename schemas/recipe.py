"""A recipe: all that makes one project."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from branchline.schemas.errors import check_int, check_name, check_number, check_share, reject
from branchline.schemas.metrics import Bound, bound
from branchline.schemas.missing_cells import MISSING_CELLS, read_missing_cells
from branchline.schemas.reasons import read_reason_limits
from branchline.schemas.resources import Resources, read_resources
from branchline.schemas.routes import RoutingTable
from branchline.schemas.scarce import read_scarce
from branchline.schemas.splits import EVAL, TRAIN, Splits, check_splits, split_names
from branchline.schemas.training import Training
from branchline.schemas.validation import Validation

_LONGEST_NAME = 63  # of a TFX pipeline, as of an Argo workflow


@dataclass(frozen=True)
class Recipe:
    """All that makes one project: routes, training, thresholds, and where records come from.

    Args:
        name: Names the pipeline, its output directory and the pushed model.
        routing: The routing table.
        training: How the model is trained.
        thresholds: Route → metric → a number (the least for a metric like `auc`, the greatest for
            one like `mean_absolute_error`) or a `Bound`. A model that misses one is not blessed.
            Metrics of a route with `targets=` are named `<key>/<metric>`.
        metrics: Route → names of further TFMA or Keras metrics to report.
        max_regression: How much worse than the last blessed model, as a share of its value, each
            metric with a threshold may be.
        quarantine_limit: Share of the records in [0, 1] that may be set aside; above it the run
            fails.
        reason_limits: Reason → the share that may be set aside for it, such as {"no_route": 0.0};
            see `schemas.reasons`.
        splits: Split → its parts of the records, by a stable hash; or SplitByTime(…) or
            SplitByField(…). There must be a "train" and an "eval". A "test" is looked at once, when
            the model is blessed, for its figures alone.
        least_rows: How many examples every route needs in each split but "test"; see `scarce`.
        scarce: Route, or "*" for all → what happens when it has fewer in some split: "fail", the
            default, ends the run in the Router; with "skip" it goes on, and the route is not
            trained if it has too few in "train", and is not blessed if it has too few in "eval".
        split_key: Records with equal values under this key get the same hash; None hashes the whole
            record.
        missing_cells: What stands in a cell of CSV, TSV or a folder's name where a number is
            absent; an empty cell is always absent.
        schema: Path of a TFDV schema (.pbtxt), relative to the recipe file; None infers one.
        validation: What RouteValidator compares, and which of its findings end the run.
        data: Where records come from when a run names no data: a path, or a function that writes
            them into the directory it is given.
        spans: Which spans are read of paths with {SPAN}, or {YYYY}, {MM} and {DD}: a number, for so
            many of the newest, or (first, last) for those there are from one to another. A span of
            a date is the number of days since 1970-01-01.
        data_inputs: Files, directories and patterns, relative to the recipe file, that such a
            function reads: it is asked again when one of them changes, or the recipe's code.
        materialize: Whether Transform also writes the transformed examples, with `_route` and the
            labels, for readers of yours; training does not need them.
        resources: Step, or "*" for all → what it gets where steps run in containers, on Kubeflow.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    name: str
    routing: RoutingTable
    training: Training = field(default_factory=Training)
    thresholds: Mapping[str, Mapping[str, float | Bound]] = field(default_factory=dict)
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_regression: float = 0.05
    quarantine_limit: float = 0.05
    reason_limits: Mapping[str, float] = field(default_factory=dict)
    splits: Splits = field(default_factory=lambda: {TRAIN: 4, EVAL: 1})
    least_rows: int = 1
    scarce: Mapping[str, str] = field(default_factory=dict)
    split_key: str | None = None
    missing_cells: Sequence[str] = MISSING_CELLS
    schema: str | None = None
    validation: Validation = field(default_factory=Validation)
    data: str | Path | Callable[[Path], Any] | None = None
    spans: int | tuple[int, int] = 1
    data_inputs: tuple[str, ...] = ()
    materialize: bool = False
    resources: Mapping[str, Resources] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("Recipe.name", self.name)
        if len(self.name) > _LONGEST_NAME:
            reject("Recipe.name", self.name, f"a name of at most {_LONGEST_NAME} characters")
        if not isinstance(self.routing, RoutingTable):
            reject("Recipe.routing", self.routing, "a RoutingTable")
        if not isinstance(self.training, Training):
            reject("Recipe.training", self.training, "Training(…)")
        for route in self.training.routes:
            self._check_route("Recipe.training.routes", route)
        for field_name in ("thresholds", "metrics"):
            if not isinstance(getattr(self, field_name), Mapping):
                reject(f"Recipe.{field_name}", getattr(self, field_name), "a dict by route")
        object.__setattr__(self, "thresholds", self._read_thresholds())
        object.__setattr__(self, "metrics", self._read_metrics())
        check_number("Recipe.max_regression", self.max_regression, least=0)
        check_share("Recipe.quarantine_limit", self.quarantine_limit)
        reason_limits = read_reason_limits("Recipe.reason_limits", self.reason_limits)
        object.__setattr__(self, "reason_limits", reason_limits)
        check_splits("Recipe.splits", self.splits, self.split_key)
        if not {TRAIN, EVAL} <= {*split_names(self.splits)}:
            expected = 'a "train" and an "eval" among them, as in {"train": 4, "eval": 1}'
            reject("Recipe.splits", self.splits, expected)
        check_int("Recipe.least_rows", self.least_rows)
        scarce = read_scarce("Recipe.scarce", self.scarce, self.routing.names)
        object.__setattr__(self, "scarce", scarce)
        cells = read_missing_cells("Recipe.missing_cells", self.missing_cells)
        object.__setattr__(self, "missing_cells", cells)
        if not isinstance(self.schema, str | None):
            reject("Recipe.schema", self.schema, "a str or None")
        if not isinstance(self.validation, Validation):
            reject("Recipe.validation", self.validation, "Validation(…)")
        if isinstance(self.data, Path):
            object.__setattr__(self, "data", str(self.data))
        if not (self.data is None or isinstance(self.data, str) or callable(self.data)):
            reject("Recipe.data", self.data, "a path, or a function of a directory")
        object.__setattr__(self, "spans", self._read_spans())
        object.__setattr__(self, "data_inputs", self._read_data_inputs())
        if not isinstance(self.materialize, bool):
            reject("Recipe.materialize", self.materialize, "True or False")
        object.__setattr__(self, "resources", read_resources("Recipe.resources", self.resources))

    def _check_route(self, where: str, route: str) -> None:
        if route not in self.routing.names:
            reject(where, route, f"one of the routes {', '.join(self.routing.names)}")

    def _read_spans(self) -> int | tuple[int, int]:
        if not isinstance(self.spans, list | tuple):
            check_int("Recipe.spans", self.spans)
            return self.spans
        for span in self.spans:
            check_int("Recipe.spans", span, least=0)
        if len(self.spans) != 2 or self.spans[0] > self.spans[1]:
            reject("Recipe.spans", self.spans, "a number of spans, or the first and the last")
        return (self.spans[0], self.spans[1])

    def _read_data_inputs(self) -> tuple[str, ...]:
        given = self.data_inputs
        if not isinstance(given, list | tuple) or not all(isinstance(p, str | Path) for p in given):
            reject("Recipe.data_inputs", given, "a list of paths")
        return tuple(str(path) for path in given)

    def _read_thresholds(self) -> dict[str, dict[str, Bound]]:
        read: dict[str, dict[str, Bound]] = {}
        for route, bounds in self.thresholds.items():
            where = f"Recipe.thresholds[{route!r}]"
            self._check_route("Recipe.thresholds", route)
            if not isinstance(bounds, Mapping):
                reject(where, bounds, "a dict of metric to number")
            read[route] = {m: bound(f"{where}[{m!r}]", m, v) for m, v in bounds.items()}
        return read

    def _read_metrics(self) -> dict[str, tuple[str, ...]]:
        read = {}
        for route, names in self.metrics.items():
            self._check_route("Recipe.metrics", route)
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                reject(f"Recipe.metrics[{route!r}]", names, "a list of metric names")
            read[route] = tuple(names)
        return read
