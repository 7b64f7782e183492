"""A route: a rule, and the path that it selects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from branchline.schemas.conditions import Condition, check_nesting
from branchline.schemas.errors import RecipeError, check_key, check_name, reject
from branchline.schemas.features import Feature
from branchline.schemas.targets import Target

_TAKEN_NAMES = ("route", "serving_default", "examples", "overall")
# Fields of a Target that label= may have.
_OF_TARGET = ("num_classes", "classes", "separator", "quantiles", "top_k", "class_weight")


@dataclass(frozen=True)
class Route:
    """A rule and the path it selects.

    What is to be predicted is either one required label of one value, `label=`, `task=` and
    perhaps `num_classes=` or `classes=`, or any number of `targets=`. A record that lacks a label
    which is not optional, or all of its route's labels, is quarantined: there is nothing to learn
    from it.

    Args:
        name: Names the route's branch, head, files and model signature.
        condition: What a record must be like, from `when`.
        features: Key of a record's field → the kind of feature it is.
        label: Key of the field to be predicted.
        task: "binary" (label 0 or 1), "multiclass" (label in [0, num_classes)), "multilabel" (any
            number of classes), "regression", "count", "ordinal", "quantile" or "retrieval", see
            `Target`.
        num_classes: For tasks of several classes and "retrieval" only, see `Target`.
        classes: The names of the classes where records hold names, or "learn", see `Target`.
        separator: Of a list that is one text, see `Target`.
        quantiles: Those that are predicted, for "quantile" only, see `Target`.
        top_k: How many items are predicted, for "retrieval" only, see `Target`.
        class_weight: The weights of the classes in the loss, see `Target`.
        targets: Key of each field to be predicted → its `Target`. The model's outputs are named
            `<route>/<key>`, the metrics `<key>/<metric>`.
        weight: Key of a field, neither feature nor label, that says how much a record counts in the
            losses and metrics of the route: one number from 0 on. A record whose weight is
            missing, negative or not finite is quarantined; a served model asks for none.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    name: str
    condition: Condition
    features: Mapping[str, Feature] = field(kw_only=True)
    label: str | None = field(default=None, kw_only=True)
    task: str | None = field(default=None, kw_only=True)
    num_classes: int | None = field(default=None, kw_only=True)
    classes: tuple[str, ...] | str | None = field(default=None, kw_only=True)
    separator: str | None = field(default=None, kw_only=True)
    quantiles: tuple[float, ...] | None = field(default=None, kw_only=True)
    top_k: int | None = field(default=None, kw_only=True)
    class_weight: Any = field(default=None, kw_only=True)
    targets: Mapping[str, Target] = field(default_factory=dict, kw_only=True)
    weight: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_name("Route.name", self.name)
        where = f"Route({self.name!r})"
        if self.name in _TAKEN_NAMES:
            reject("Route.name", self.name, f"a name other than {', '.join(_TAKEN_NAMES)}")
        if not isinstance(self.condition, Condition):
            reject(f"{where}.condition", self.condition, "a condition from `when`")
        check_nesting(f"{where}.condition", self.condition)
        if not isinstance(self.features, Mapping) or not self.features:
            reject(f"{where}.features", self.features, "a dict of at least one key to its kind")
        for key, kind in self.features.items():
            check_key(f"{where}.features", key)
            if not isinstance(kind, Feature):
                reject(f"{where}.features[{key!r}]", kind, "a kind such as Numeric() or Text()")
        object.__setattr__(self, "features", dict(self.features))
        if not isinstance(self.targets, Mapping):
            reject(f"{where}.targets", self.targets, "a dict of at least one key to its Target")
        object.__setattr__(self, "targets", dict(self.targets))
        if self.targets:
            self._check_targets(where)
        else:
            self._check_label(where)
        if self.weight is not None:
            check_key(f"{where}.weight", self.weight)
            if self.weight in self.features or self.weight in self.labels:
                expected = "a key that is no feature and no label of the route"
                reject(f"{where}.weight", self.weight, expected)

    def _check_label(self, where: str) -> None:
        if self.label is None:
            reject(f"{where}.label", None, "the key of a field of the record, or targets={…}")
        check_key(f"{where}.label", self.label)
        if self.label in self.features:
            reject(f"{where}.label", self.label, "a key that is not one of the route's features")
        given: dict[str, Any] = {name: getattr(self, name) for name in ("task", *_OF_TARGET)}
        try:
            target = Target(**given)
        except RecipeError as error:
            raise RecipeError(str(error).replace("Target", where, 1)) from None
        for name in _OF_TARGET:
            object.__setattr__(self, name, getattr(target, name))

    def _check_targets(self, where: str) -> None:
        for name in ("label", "task", *_OF_TARGET):
            if getattr(self, name) is not None:
                reject(f"{where}.{name}", getattr(self, name), "either label=, task= or targets=")
        for key, target in self.targets.items():
            check_key(f"{where}.targets", key)
            if key in self.features:
                reject(f"{where}.targets", key, "keys that are not the route's features")
            if not isinstance(target, Target):
                reject(f"{where}.targets[{key!r}]", target, 'a target such as Target("binary")')
        more = {self.name_output(key): key for key, of in self.targets.items() if of.classes}
        more |= {self.score_output(key): key for key, of in self.targets.items() if of.top_k}
        for key in self.targets:
            if self.output(key) in more:
                other = more[self.output(key)]
                what = "name" if self.output(key) == self.name_output(other) else "scores"
                expected = (
                    f"a key other than {key!r}: the model's output for the {what} of {other!r}"
                )
                reject(f"{where}.targets", key, f"{expected} would have the same name")

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def labels(self) -> dict[str, Target]:
        """Key → what is to be predicted, whether given by `label=` or by `targets=`."""
        if self.targets:
            return dict(self.targets)
        assert self.label is not None and self.task is not None
        return {self.label: Target(self.task, **{n: getattr(self, n) for n in _OF_TARGET})}

    def output(self, key: str) -> str:
        """The name of the model's output for the label `key`: the route's, or `<route>/<key>`."""
        return f"{self.name}/{key}" if self.targets else self.name

    def name_output(self, key: str) -> str:
        """The name of the model's output for the predicted class's name, if `key` has `classes`."""
        return f"{self.output(key)}/class"

    def score_output(self, key: str) -> str:
        """The name of the model's output for the scores of items, if `key` has `top_k`."""
        return f"{self.output(key)}/score"

    def metric(self, key: str, metric: str) -> str:
        """The name of a metric of the label `key`: as it is, or `<key>/<metric>`."""
        return f"{key}/{metric}" if self.targets else metric

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """Key → the type it is stored as, for every feature and label, and the weight."""
        kinds = {**self.features, **self.labels}
        weight = {} if self.weight is None else {self.weight: "float"}
        return {key: kind.dtype for key, kind in kinds.items()} | weight
