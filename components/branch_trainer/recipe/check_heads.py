"""Finds the head of each label, and checks that a model has them before it is trained."""

import math
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head
from branchline.schemas import BranchlineError, Route, Target


def head_of(model: BranchedModel, route: Route, key: str) -> Head:
    """Returns the head that predicts a label of `route`.

    Of a route with `label=` it is the head named like the route; of one with `targets=`, the head
    of its path whose `label` (by default its name) is `key`. Several routes may share it.

    Raises:
        BranchlineError: There is none, or more than one; names those that the path has.
    """
    heads = model.heads_of(route.name)
    if route.label is not None:
        found = [head for head in heads if head.name == route.name]
        wanted = f"one named {route.name!r}"
    else:
        found = [head for head in heads if head.label == key]
        wanted = f"one with label={key!r} (or of that name)"
    if len(found) != 1:
        have = ", ".join(f"{head.name} (label {head.label!r})" for head in heads)
        raise BranchlineError(
            f"build_model: path {route.name!r} has the heads {have}; expected exactly {wanted} "
            f"for the label {key!r} of the route"
        )
    return found[0]


def check_heads(model: BranchedModel, route: Route, features: Any) -> None:
    """Checks that the path of `route` ends in heads for its labels, of the right size.

    Args:
        model: Not trained, and perhaps not built yet.
        route: The route.
        features: The `tf.TypeSpec`s of its features, as in `dataset.element_spec[0]`.

    Raises:
        BranchlineError: There is no path named like the route, a head is missing or is for none of
            its targets, gives another number of values than the target's predictions have, or does
            not know what stands for a missing label.
    """
    if route.name not in model.paths:
        raise BranchlineError(
            f"build_model: the model has the paths {', '.join(model.paths)}; expected one named "
            f"{route.name!r}, like the route"
        )
    found = {key: head_of(model, route, key) for key in route.labels}
    for head in model.heads_of(route.name):
        if route.targets and head not in found.values():
            raise BranchlineError(
                f"build_model: head {head.name!r} of path {route.name!r} has label={head.label!r}; "
                f"expected one of the route's targets, {', '.join(route.targets)}"
            )
    shapes = model.output_shapes(route.name, features)
    for key, head in found.items():
        _check_missing(head, key, route, route.labels[key])
        _check_size(head, route, shapes[head.name], route.labels[key])


def _check_size(head: Head, route: Route, shape: tf.TensorShape, target: Target) -> None:
    if target.top_k:
        _check_items(head, target)
        return
    want = math.prod(target.prediction_shape)
    if shape[1:].num_elements() not in (None, want):
        raise BranchlineError(
            f"build_model: head {head.name!r} gives {shape} on path {route.name!r}; expected "
            f"{want} value(s) a row, for {target}"
        )


def _check_items(head: Head, target: Target) -> None:
    num_items = getattr(head.layer, "num_items", None)
    if num_items != target.num_classes or not hasattr(head.layer, "scores"):
        raise BranchlineError(
            f"build_model: head {head.name!r} has the layer {type(head.layer).__name__} of "
            f"{num_items} items; expected ItemQuery(num_items={target.num_classes}, …), for "
            f"{target}"
        )


def _check_missing(head: Head, key: str, route: Route, target: Target) -> None:
    want, got = target.missing, head.missing
    if want is None or got == want:
        return
    if got is not None and math.isnan(got) and math.isnan(want):
        return
    wanted = 'float("nan")' if math.isnan(want) else want
    raise BranchlineError(
        f"build_model: head {head.name!r} has missing={got}; expected missing={wanted}, because "
        f"the label {key!r} of route {route.name!r} is optional"
    )
