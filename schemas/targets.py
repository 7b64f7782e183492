"""What is to be predicted of a record: one label, its task, its shape and its loss."""

import math
from dataclasses import dataclass, field
from typing import Any

from branchline.schemas.class_names import read_class_names
from branchline.schemas.class_weights import read_class_weights
from branchline.schemas.errors import check_int, check_number, reject
from branchline.schemas.quantiles import read_quantiles

# By task; the first is the task's own.
LOSSES = {
    "binary": ("binary_crossentropy", "dice"),
    "multiclass": ("sparse_categorical_crossentropy",),
    "regression": ("mean_squared_error", "mean_absolute_error"),
    "count": ("poisson",),
    "ordinal": ("sparse_categorical_crossentropy",),
    "quantile": ("pinball",),
}
TASKS = tuple(LOSSES)
_OF_SEVERAL_CLASSES = ("multiclass", "ordinal")
_OF_ONE_VALUE = ("ordinal", "quantile")
_MOST_COUNTED = 2**53  # up to here every whole number is a float of 64 bits


def check_task(where: str, task: Any, num_classes: Any) -> None:
    """Rejects a task that there is not, and a number of classes that does not go with it."""
    if task not in TASKS:
        reject(f"{where}.task", task, f"one of {', '.join(TASKS)}")
    if task in _OF_SEVERAL_CLASSES:
        check_int(f"{where}.num_classes", num_classes, least=3 if task == "ordinal" else 2)
    elif num_classes is not None:
        reject(
            f"{where}.num_classes", num_classes, 'None unless task="multiclass" or task="ordinal"'
        )


@dataclass(frozen=True)
class Target:
    """One of the labels that a route's records carry, and how it is learnt.

    Args:
        task: "binary" (entries 0 or 1), "multiclass" (in [0, num_classes)), "regression",
            "count" (whole numbers from 0 on, of which the mean is predicted by Poisson regression),
            "ordinal" (as "multiclass", but the classes have an order), or "quantile" (a regression
            that predicts quantiles).
        num_classes: For "multiclass" and "ordinal" only; with `classes`, their number.
        classes: The names of the classes, which records then hold instead of numbers; of a
            "binary" target two, and the second is what is predicted. None where records hold
            numbers. Of an "ordinal" target they stand in order, from the lowest on.
        quantiles: For "quantile" only, which ones are predicted, in (0, 1) and increasing; None for
            (0.1, 0.5, 0.9).
        class_weight: Multiplies the losses of the examples of each class, as in Keras:
            "balanced" for weights by which all classes of the training rows count alike; class →
            weight, 1 for those left out; or all weights in order. For one value; metrics are not
            weighted.
        shape: Of a record's label: () for one value, (5,) for five bits, (16, 16) for a mask, row
            by row; nested lists are flattened in that order. Of "ordinal" and "quantile" it is ().
        loss: One of LOSSES of the task, None for the first: "binary_crossentropy" or, with a shape,
            "dice"; "sparse_categorical_crossentropy"; "mean_squared_error" or
            "mean_absolute_error"; "poisson"; "pinball". A loss of several entries is their mean. A
            model of the recipe's own brings its losses itself.
        loss_weight: Multiplies this target's loss in the sum over the route's targets.
        optional: Whether a record may lack the label as a whole; it then contributes nothing to
            this target's loss and metrics. A record that lacks one that is not optional is
            quarantined.
        whole: For "regression" and "quantile" only, whether labels are whole numbers of 64 bits,
            such as times in milliseconds, and predictions floats of 64 bits. Others have 32 bits,
            about seven digits: near now, milliseconds since 1970 have steps of 131 s there.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    task: str
    num_classes: int | None = field(default=None, kw_only=True)
    classes: tuple[str, ...] | None = field(default=None, kw_only=True)
    quantiles: tuple[float, ...] | None = field(default=None, kw_only=True)
    class_weight: Any = field(default=None, kw_only=True)
    shape: tuple[int, ...] = field(default=(), kw_only=True)
    loss: str | None = field(default=None, kw_only=True)
    loss_weight: float = field(default=1.0, kw_only=True)
    optional: bool = field(default=False, kw_only=True)
    whole: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        given = read_class_names("Target", self.task, self.num_classes, self.classes)
        check_task("Target", self.task, given[0])
        object.__setattr__(self, "num_classes", given[0])
        object.__setattr__(self, "classes", given[1])
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        if not isinstance(shape, tuple | list):
            reject("Target.shape", self.shape, "a tuple of ints, such as () or (5,)")
        for size in shape:
            check_int("Target.shape", size)
        object.__setattr__(self, "shape", tuple(shape))
        if shape and self.task in _OF_ONE_VALUE:
            reject("Target.shape", self.shape, f'(), one value, for task="{self.task}"')
        quantiles = read_quantiles("Target", self.task, self.quantiles)
        object.__setattr__(self, "quantiles", quantiles)
        weights = read_class_weights("Target", self._num_classes, self.classes, self.class_weight)
        object.__setattr__(self, "class_weight", weights)
        if weights is not None and shape:
            reject("Target.class_weight", self.class_weight, "None where the target has a shape")
        if self.loss is not None and self.loss not in LOSSES[self.task]:
            known = ", ".join(LOSSES[self.task])
            reject("Target.loss", self.loss, f"one of {known}, for the task {self.task}")
        if self.loss == "dice" and not shape:
            reject("Target.loss", self.loss, "binary_crossentropy unless the target has a shape")
        check_number("Target.loss_weight", self.loss_weight, above=0)
        if not isinstance(self.optional, bool):
            reject("Target.optional", self.optional, "True or False")
        if not isinstance(self.whole, bool) or (self.whole and not self.is_scaled):
            expected = 'True or False, and False unless task="regression" or task="quantile"'
            reject("Target.whole", self.whole, expected)

    @property
    def dtype(self) -> str:
        """The type the label is stored as: "string" for names, "float" for regression and quantiles
        unless `whole`, else "int".
        """  # noqa: D205
        if self.classes:
            return "string"
        return "float" if self.is_scaled and not self.whole else "int"

    @property
    def num_values(self) -> int:
        """How many values a record's label has: the product of the shape."""
        return math.prod(self.shape)

    @property
    def num_codes(self) -> int | None:
        """How many whole numbers, from 0 on, may stand for an entry; None for names and numbers."""
        if self.task == "count":
            return _MOST_COUNTED
        return None if self.classes else self._num_classes

    @property
    def _num_classes(self) -> int | None:
        return None if self.is_number else self.num_classes or 2

    @property
    def is_number(self) -> bool:
        """Whether a number is predicted, and no class."""
        return self.task in ("regression", "count", "quantile")

    @property
    def is_scaled(self) -> bool:
        """Whether any number is predicted, in units of the labels' deviation from their mean."""
        return self.task in ("regression", "quantile")

    @property
    def is_multiclass(self) -> bool:
        """Whether one of several classes is predicted, by a probability of each."""
        return self.task in _OF_SEVERAL_CLASSES

    @property
    def missing(self) -> float | None:
        """What fills the label of a record that lacks it: NaN for numbers, else -1.

        None when none may lack it. A `Head` takes it as its `missing`.
        """
        if not self.optional:
            return None
        return math.nan if self.is_number else -1

    @property
    def entry_shape(self) -> tuple[int, ...]:
        """Of what a model predicts of one entry: (num_classes,), (number of quantiles,) or ()."""
        if self.quantiles:
            return (len(self.quantiles),)
        return (self.num_classes,) if self.num_classes else ()

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Of a row that a model predicts: the shape, and of an entry `entry_shape` behind it."""
        return (*self.shape, *self.entry_shape)
