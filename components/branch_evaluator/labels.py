"""What is evaluated: a label of a route. Labels of one kind share a TFMA evaluation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from branchline.components.branch_evaluator.model_outputs import Output
from branchline.schemas.route import Route
from branchline.schemas.routes import RoutingTable
from branchline.schemas.targets import Target

MODEL, BASELINE = "model", "baseline"
_BATCH_BYTES, _MOST_ROWS, _FEWEST_ROWS = 2**26, 1024, 16


@dataclass(frozen=True)
class Kind:
    """What labels must have in common to share an evaluation; there are a dozen kinds at most.

    Metrics of a task take vectors of any length alike, but for those that take none: `single`.
    Those of quantiles need to know them.
    """

    task: str
    single: bool
    models: tuple[str, ...]
    weighted: bool = False
    quantiles: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Names its steps and its output among the pipeline's.

        >>> Kind("binary", False, ("model", "baseline")).name
        'binary_vectors_compared'
        """
        name = "_".join([self.task, *map(str, self.quantiles)])
        name += "_vectors" * (not self.single) + "_compared" * (len(self.models) > 1)
        return name + "_weighted" * self.weighted


@dataclass(frozen=True)
class Label:
    """One label of a route, and where it and its predictions are.

    Attributes:
        route: The route.
        key: Of the record's field.
        column: The feature of the examples that holds it.
        metrics: The names of what is computed, in order.
        outputs: Model → what of it predicts the label.
        weight: The feature that holds how much an example counts; None where all count 1.
    """

    route: Route
    key: str
    column: str
    metrics: tuple[str, ...]
    outputs: Mapping[str, Output]
    weight: str | None = None

    @property
    def target(self) -> Target:
        """What the label is."""
        return self.route.labels[self.key]

    @property
    def place(self) -> tuple[str, str]:
        """Where its figures are in TFMA's results: the slice by route, and the `output_name`.

        That is its key, or "" of a route with one label.
        """
        return self.route.name, self.key if self.route.targets else ""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that predict it: perhaps not the baseline."""
        return tuple(self.outputs)

    @property
    def kind(self) -> Kind:
        """See `Kind`."""
        target, weighted = self.target, self.weight is not None
        single = target.num_values == 1
        return Kind(target.task, single, self.models, weighted, target.quantiles or ())


def list_labels(
    routing: RoutingTable,
    metrics: Mapping[str, Mapping[str, Sequence[str]]],
    outputs: Mapping[str, Mapping[str, Mapping[str, Output]]],
) -> list[Label]:
    """Lists what is to be evaluated.

    Args:
        routing: The routing table.
        metrics: Route → label → names of what to compute.
        outputs: Model → route → label → what predicts it; a model that lacks the route does not
            predict any of its labels.
    """
    return [
        Label(
            route=route,
            key=key,
            column=routing.column(route.name, key),
            metrics=tuple(metrics[route.name][key]),
            outputs={
                model: found[route.name][key]
                for model, found in outputs.items()
                if route.name in found
            },
            weight=routing.column(route.name, route.weight) if route.weight else None,
        )
        for route in routing.routes
        for key in route.labels
    ]


def by_kind(labels: Iterable[Label]) -> dict[Kind, list[Label]]:
    """Groups labels."""
    kinds: dict[Kind, list[Label]] = {}
    for label in labels:
        kinds.setdefault(label.kind, []).append(label)
    return kinds


def batch_size(labels: Iterable[Label]) -> int:
    """How many rows are predicted at once: their predictions, of every output, take 64 MiB at most.

    >>> from branchline.schemas import Numeric, when
    >>> mask = {"mask": Target("binary", shape=(512, 512))}
    >>> route = Route("r", when.present("x"), features={"x": Numeric()}, targets=mask)
    >>> batch_size([Label(route, "mask", "mask", (), {})])
    64
    """
    row = 4 * sum(math.prod(label.target.prediction_shape) for label in labels)
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _BATCH_BYTES // row))
