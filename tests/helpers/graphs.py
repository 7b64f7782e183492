"""What TensorFlow's graphs say about the order in which operations run."""

import tensorflow as tf


def keeps_before_checking(trainer, route=0):
    """Whether a step keeps its batch, and notes its figures, before these can be found not finite.

    Else one would now and then be of another step, as an error ends what goes on beside it.
    """
    record = trainer.loop._record
    noted = [record._num_read, record._unchecked]
    parts = [*trainer.loop._keepers[route].parts, *noted]
    graph = tf.function(lambda: trainer.loop._step(route)).get_concrete_function().graph
    handles = {
        inner.ref() for outer, inner in graph.captures if any(outer is p.handle for p in parts)
    }
    operations = graph.get_operations()
    kept = {
        op
        for op in operations
        if op.type in ("AssignVariableOp", "AssignAddVariableOp") and op.inputs[0].ref() in handles
    }
    checks = [op for op in operations if op.type.startswith("CheckNumerics")]
    assert len(kept) == len(parts) and checks
    return all(kept <= _before(check) for check in checks)


def _before(operation):
    found, todo = set(), [operation]
    while todo:
        last = todo.pop()
        before = {*(tensor.op for tensor in last.inputs), *last.control_inputs} - found
        found |= before
        todo += before
    return found
