"""Finds which output of a SavedModel predicts which label, without loading it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from branchline.schemas import BranchlineError, Route, RoutingTable

MIXED = "serving_default"


@dataclass(frozen=True)
class Output:
    """An output of a signature. That of `MIXED` has rows of all routes, any other of one alone."""

    signature: str
    name: str


def require_outputs(routing: RoutingTable, model_dir: str) -> dict[str, dict[str, Output]]:
    """Finds what predicts each label.

    Returns:
        Route → label → the output.

    Raises:
        BranchlineError: There is no SavedModel, or it lacks one; names it and what was expected.
    """
    signatures = read_signatures(model_dir)
    found = find_outputs(routing, signatures)
    for route in routing.routes:
        if route.name not in found:
            wanted = ", ".join(map(repr, wanted_outputs(route)))
            there = "; ".join(
                f"{name!r} has {', '.join(sorted(outputs))}"
                for name, outputs in signatures.items()
                if name in (MIXED, route.name)
            )
            raise BranchlineError(
                f"the model in {model_dir} cannot predict route {route.name!r}: expected {wanted} "
                f"among the outputs of its signature {MIXED!r}, or of a signature {route.name!r}; "
                + (there or "it has neither signature")
            )
    return found


def find_outputs(
    routing: RoutingTable, signatures: Mapping[str, set[str]]
) -> dict[str, dict[str, Output]]:
    """Finds what predicts each label; leaves out the routes that lack an output.

    >>> from branchline.schemas import Numeric, when
    >>> of_x = {"condition": when.present("x"), "features": {"x": Numeric()}, "label": "y"}
    >>> table = RoutingTable(Route("a", **of_x, task="binary"), Route("b", **of_x, task="binary"))
    >>> find_outputs(table, {"serving_default": {"route", "a"}})
    {'a': {'y': Output(signature='serving_default', name='a')}}
    """
    found = {}
    for route in routing.routes:
        wanted, alone = wanted_outputs(route), signatures.get(route.name, set())
        if set(wanted) <= signatures.get(MIXED, set()):
            outputs = [Output(MIXED, name) for name in wanted]
        elif set(wanted) <= alone:
            outputs = [Output(route.name, name) for name in wanted]
        elif len(wanted) == len(alone) == 1:  # what the only output is called does not matter
            outputs = [Output(route.name, next(iter(alone)))]
        else:
            continue
        found[route.name] = dict(zip(route.labels, outputs, strict=True))
    return found


def wanted_outputs(route: Route) -> list[str]:
    """Names the outputs that predict the route's labels, in their order."""
    return [route.output(key) for key in route.labels]


def read_signatures(model_dir: str) -> dict[str, set[str]]:
    """Names the signatures of the SavedModel in `model_dir` and their outputs.

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
