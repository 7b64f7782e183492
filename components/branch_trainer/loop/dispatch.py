"""Runs one of many graphs, by number, inside a graph."""

from collections.abc import Callable, Hashable, Sequence

import tensorflow as tf

from branchline.components.branch_trainer.model.share_traces import Alike, share_traces

_FEW = 2  # up to here `tf.switch_case` is quicker, by about 20 µs a step


def dispatcher(
    step_fns: Sequence[Callable[[], Sequence[tf.Tensor]]], alike: Sequence[Alike] = ()
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Returns a function: number int32 [] → the results of `step_fns[number]`.

    `tf.switch_case` is lowered into the graph around it. In a loop every step then walks the
    operations of all functions, which takes about a tenth of a small training step for each of
    them; not lowered, it would be handed the variables of all. So from some number of functions
    on, each becomes a graph of its own, which gets its row of a matrix of resource handles. That
    matrix lies on the CPU, and with it what is done with the handles, so not where there is another
    device. Functions that do the same with other resources, as branches of one kind do, become one
    graph: what is run often stays in the processor's cache.

    Args:
        step_fns: all give tensors of the same dtypes and shapes.
        alike: of each function, what tells with which others it may share a trace; none may
            where nothing is given.
    """
    if len(step_fns) <= _FEW:
        return lambda number: tf.nest.flatten(tf.switch_case(number, list(step_fns)))
    shared = share_traces(
        alike or [Alike(None, [])] * len(step_fns), lambda i: _graph_of(step_fns[i])
    )
    if len(tf.config.list_logical_devices()) > 1:
        called = [lambda g=graph, given=given: call_with(g, given) for graph, given in shared]
        return lambda number: tf.nest.flatten(tf.switch_case(number, called))
    graphs = [graph for graph, _ in shared]
    handles = _matrix_of([[t for t in given if t.dtype == tf.resource] for _, given in shared])
    kinds: dict[Hashable, int] = {}
    described = {id(graph): _kind(graph) for graph in dict.fromkeys(graphs)}
    kind_of = [kinds.setdefault(described[id(graph)], len(kinds)) for graph in graphs]
    first_of = [graphs[kind_of.index(kind)] for kind in range(len(kinds))]
    others = [[t for t in graph.captured_inputs if t.dtype != tf.resource] for graph in first_of]
    flat = [tensor for of_graph in others for tensor in of_graph]
    firsts = [sum(map(len, others[:kind])) for kind in range(len(kinds))]
    specs = [tf.TensorSpec(handles.shape[1:], tf.resource, name="row")]
    specs += [tf.TensorSpec(t.shape, t.dtype, name=f"other_{i}") for i, t in enumerate(flat)]
    branches = [_on_row(g, first, specs) for g, first in zip(first_of, firsts, strict=True)]

    def dispatch(number: tf.Tensor) -> list[tf.Tensor]:
        # Not `tf.switch_case`, which would be lowered.
        return tf.raw_ops.Case(
            branch_index=tf.gather(tf.constant(kind_of), number),
            input=[handles[number], *flat],
            Tout=[each.dtype for each in graphs[0].outputs],
            branches=branches,
            output_shapes=[each.shape for each in graphs[0].outputs],
        )

    return dispatch


def _graph_of(step_fn: Callable[[], Sequence[tf.Tensor]]):
    # Not inlined, it is optimized as a `tf.function` called from Python is, to the last bit.
    whole = {"_noinline": True}
    traced = tf.function(lambda: step_fn(), autograph=False, experimental_attributes=whole)
    return traced.get_concrete_function()


def _kind(graph) -> Hashable:
    """Returns what graphs have in common that do the same, with resources in the same places."""
    others = [t for t in graph.captured_inputs if t.dtype != tf.resource]
    definition = graph.function_def
    if others or any(_has_function(node) for node in definition.node_def):
        return id(graph)
    names = {arg.name: f"arg {i}" for i, arg in enumerate(definition.signature.input_arg)}
    names |= {node.name: f"node {i}" for i, node in enumerate(definition.node_def)}

    def renamed(source: str) -> str:
        name, *rest = source.removeprefix("^").split(":")
        return ":".join(["^" * source.startswith("^") + names[name], *rest])

    nodes = [
        (node.op, node.device, *map(renamed, node.input), *sorted(_attributes(node)))
        for node in definition.node_def
    ]
    ends = [*definition.ret.values(), *sorted(definition.control_ret.values())]
    return (*nodes, *map(renamed, ends))


def _has_function(node) -> bool:
    return any(a.HasField("func") or a.list.func for a in node.attr.values())


def _attributes(node) -> list[tuple[str, bytes]]:
    attributes = {k: a for k, a in node.attr.items() if k != "_class"}  # names for placing nodes
    return [(k, a.SerializeToString(deterministic=True)) for k, a in attributes.items()]


def _matrix_of(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    """Returns resource [rows, longest]; shorter rows are filled up with their first handle."""
    longest = max(len(row) for row in rows)
    with tf.device("CPU:0"):
        return tf.stack([tf.stack(row + row[:1] * (longest - len(row))) for row in rows])


def _on_row(graph, first: int, specs: list[tf.TensorSpec]):
    """Makes of a graph a concrete function of a row of the matrix, and of what is no resource.

    Args:
        graph: that is called.
        first: place of its first tensor among those of all graphs that are no resources.
        specs: of the row, and of those tensors.
    """

    def call(row: tf.Tensor, *others: tf.Tensor) -> list[tf.Tensor]:
        handles, mine = iter(tf.unstack(row)), iter(others[first:])
        kinds = [t.dtype for t in graph.captured_inputs]
        return call_with(graph, [next(handles if k == tf.resource else mine) for k in kinds])

    return tf.function(call, input_signature=specs, autograph=False).get_concrete_function()


def call_with(graph, args: list[tf.Tensor], config: bytes = b"") -> list[tf.Tensor]:
    """Calls a concrete function with its inputs and, in place of what it captured, others.

    Args:
        graph: The concrete function.
        args: Its flat inputs, then a tensor for each of its `captured_inputs`.
        config: How TensorFlow is to run it, a serialized ConfigProto; empty for as always.

    Returns:
        Its flat outputs.
    """
    outputs = tf.raw_ops.StatefulPartitionedCall(
        args=args, Tout=[each.dtype for each in graph.outputs], f=graph, config_proto=config
    )
    for output, each in zip(outputs, graph.outputs, strict=True):
        output.set_shape(each.shape)
    return outputs
