"""What is to be predicted of a record: one label, its task, its shape and its loss."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from branchline.schemas.class_names import LEARN, read_class_names
from branchline.schemas.class_weights import BALANCED, read_class_weights
from branchline.schemas.errors import check_int, check_number, reject
from branchline.schemas.quantiles import read_quantiles

# By task; the first is the task's own.
LOSSES = {
    "binary": ("binary_crossentropy", "dice"),
    "multiclass": ("sparse_categorical_crossentropy",),
    "multilabel": ("binary_crossentropy",),
    "regression": ("mean_squared_error", "mean_absolute_error"),
    "count": ("poisson",),
    "ordinal": ("sparse_categorical_crossentropy",),
    "quantile": ("pinball",),
    "retrieval": ("in_batch_softmax",),
}
TASKS = tuple(LOSSES)
_OF_SEVERAL_CLASSES = ("multiclass", "ordinal")
_WITH_NUMBER = (*_OF_SEVERAL_CLASSES, "multilabel", "retrieval")
_OF_ONE_VALUE = ("ordinal", "quantile", "retrieval")
_TOP_K = 10
_MOST_COUNTED = 2**53  # up to here every whole number is a float of 64 bits


def check_task(where: str, task: Any, num_classes: Any) -> None:
    """Rejects a task that there is not, and a number of classes that does not go with it."""
    if task not in TASKS:
        reject(f"{where}.task", task, f"one of {', '.join(TASKS)}")
    if task in _WITH_NUMBER:
        check_int(f"{where}.num_classes", num_classes, least=3 if task == "ordinal" else 2)
    elif num_classes is not None:
        expected = 'None unless task="multiclass", "multilabel", "ordinal" or "retrieval"'
        reject(f"{where}.num_classes", num_classes, expected)


@dataclass(frozen=True)
class Target:
    """One of the labels that a route's records carry, and how it is learnt.

    Args:
        task: "binary" (entries 0 or 1), "multiclass" (in [0, num_classes)), "multilabel" (a list
            of any number of classes, also of none; one that is there twice counts once),
            "regression", "count" (whole numbers from 0 on, of which the mean is predicted by
            Poisson regression), "ordinal" (as "multiclass", but the classes have an order),
            "quantile" (a regression that predicts quantiles), or "retrieval" (one of very many
            items, in [0, num_classes); the `top_k` that fit best are predicted).
        num_classes: For "multiclass", "multilabel", "ordinal" and "retrieval" only; with `classes`,
            their number, or the most that are learnt. Of a "multilabel" target short for the names
            "0", "1" and so on.
        classes: The names of the classes, which records then hold instead of numbers; of a
            "binary" target two, and the second is what is predicted. "learn" for those that the
            training rows hold, sorted, 1000 at the most. None where records hold numbers. Of an
            "ordinal" target they stand in order, from the lowest on.
        separator: For "multilabel" only: what divides the names in one text, such as ";" in a cell
            of CSV. None where each text is one name.
        quantiles: For "quantile" only, which ones are predicted, in (0, 1) and increasing; None for
            (0.1, 0.5, 0.9).
        top_k: For "retrieval" only, how many items are predicted, the best first; None for 10, or
            all of fewer.
        class_weight: Multiplies the losses of the examples of each class, as in Keras:
            "balanced" for weights by which all classes of the training rows count alike; class →
            weight, 1 for those left out; or all weights in order. For one value, not for
            "multilabel" and "retrieval", and of classes that are learnt only "balanced"; metrics
            are not weighted.
        shape: Of a record's label: () for one value, (5,) for five bits, (16, 16) for a mask, row
            by row; nested lists are flattened in that order. Of "ordinal", "quantile" and
            "retrieval" it is ().
        loss: One of LOSSES of the task, None for the first: "binary_crossentropy" or, with a shape,
            "dice"; "sparse_categorical_crossentropy"; "mean_squared_error" or
            "mean_absolute_error"; "poisson"; "pinball"; "in_batch_softmax". A loss of several
            entries is their mean. A model of the recipe's own brings its losses itself.
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
    classes: tuple[str, ...] | str | None = field(default=None, kw_only=True)
    separator: str | None = field(default=None, kw_only=True)
    quantiles: tuple[float, ...] | None = field(default=None, kw_only=True)
    top_k: int | None = field(default=None, kw_only=True)
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
        if self.is_set and shape:
            reject("Target.shape", self.shape, '() for task="multilabel": a label is a list')
        self._check_separator()
        quantiles = read_quantiles("Target", self.task, self.quantiles)
        object.__setattr__(self, "quantiles", quantiles)
        self._check_top_k()
        if self.learns and self.class_weight not in (None, BALANCED):
            expected = f"None or {BALANCED!r} where the classes are learnt"
            reject("Target.class_weight", self.class_weight, expected)
        weights = read_class_weights("Target", self._num_classes, self.names, self.class_weight)
        object.__setattr__(self, "class_weight", weights)
        if weights is not None and shape:
            reject("Target.class_weight", self.class_weight, "None where the target has a shape")
        if weights is not None and (self.is_set or self.top_k):
            reject("Target.class_weight", self.class_weight, f'None for task="{self.task}"')
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

    def _check_separator(self) -> None:
        if self.separator is None:
            return
        if not self.is_set or not isinstance(self.separator, str) or not self.separator:
            expected = 'a text such as ";" for task="multilabel", or None'
            reject("Target.separator", self.separator, expected)
        if any(self.separator in name for name in self.names or ()):
            reject("Target.separator", self.separator, "a text that none of the names holds")

    def _check_top_k(self) -> None:
        if self.task != "retrieval":
            if self.top_k is not None:
                reject("Target.top_k", self.top_k, 'None unless task="retrieval"')
            return
        most = self.num_classes or 0
        if self.top_k is None:
            object.__setattr__(self, "top_k", min(_TOP_K, most))
        check_int("Target.top_k", self.top_k)
        if (self.top_k or 0) > most:
            reject("Target.top_k", self.top_k, f"at most the number of items, {most}")

    @property
    def is_set(self) -> bool:
        """Whether a label is any number of classes."""
        return self.task == "multilabel"

    @property
    def learns(self) -> bool:
        """Whether the names of the classes are those that the training rows hold."""
        return self.classes == LEARN

    def with_names(self, names: Iterable[str]) -> "Target":
        """Gives the target the names that were learnt for it.

        Raises:
            RecipeError: They are none that may be given.
        """
        names = tuple(names)
        top_k = self.top_k and min(self.top_k, len(names))
        return replace(self, classes=names, num_classes=None, top_k=top_k)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the classes; None where there are none, or are not known yet."""
        return None if isinstance(self.classes, str) else self.classes

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of a row's label in training: the shape, of a "multilabel" target (num_classes,)."""
        return (self.num_classes or 0,) if self.is_set else self.shape

    @property
    def num_values(self) -> int:
        """How many values a row's label has in training: the product of `label_shape`."""
        return math.prod(self.label_shape)

    @property
    def num_held(self) -> int | None:
        """How many values a record has to hold; None where any number will do."""
        return None if self.is_set else self.num_values

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
        """Of what a model predicts of one entry: (num_classes,), (number of quantiles,), (top_k,)
        or ().
        """  # noqa: D205
        if self.top_k:
            return (self.top_k,)
        if self.quantiles:
            return (len(self.quantiles),)
        return (self.num_classes,) if self.num_classes and not self.is_set else ()

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Of a row that a model predicts: `label_shape`, and of an entry `entry_shape` behind."""
        return (*self.label_shape, *self.entry_shape)
