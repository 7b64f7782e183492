"""One trace for all functions that compute alike, each with its own variables."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf


class Alike(NamedTuple):
    """A function that may share its trace.

    Attributes:
        kind: Equal for functions that compute alike; None for one that shares with none.
        resources: All that it uses, in an order that is the same for all of its kind.
    """

    kind: Hashable | None
    resources: list[tf.Tensor]


def share_traces(
    functions: Sequence[Alike], trace_fn: Callable[[int], Any]
) -> list[tuple[Any, list[tf.Tensor]]]:
    """Traces one function of each kind, and finds what the others hand to its graph.

    Args:
        functions: What is known of each.
        trace_fn: Position → the function's concrete function.

    Returns:
        Of each function: a concrete function, and the captured tensors to call it with.
    """
    traced: dict[Hashable, tuple[Any, Alike]] = {}
    shared = []
    for position, function in enumerate(functions):
        if function.kind not in traced or function.kind is None:
            graph = trace_fn(position)
            shared.append((graph, list(graph.captured_inputs)))
            known = {id(resource) for resource in function.resources}
            # A capture that nobody told of may belong to this function alone.
            if all(id(capture) in known for capture in graph.captured_inputs):
                traced[function.kind] = graph, function
            continue
        graph, first = traced[function.kind]
        pairs = zip(first.resources, function.resources, strict=True)
        own = {id(theirs): mine for theirs, mine in pairs}
        shared.append((graph, [own[id(capture)] for capture in graph.captured_inputs]))
    return shared
