"""Opens the loop in which a training runs: of operations, compiled, or the faster of both."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from branchline.components.branch_trainer.loop.compiled_loop import CompiledLoop, have_one_shape
from branchline.components.branch_trainer.loop.faster_loop import FasterLoop
from branchline.components.branch_trainer.loop.history import COMPILED, OPERATIONS, History
from branchline.components.branch_trainer.loop.loop import Loop
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.step import Step, why_not_compiled
from branchline.components.branch_trainer.streams.seekable import open_at


def open_loop(
    path_steps: Sequence[Step],
    streams: Mapping[str, tf.data.Dataset],
    history: History,
    replicas: OneReplica,
    *,
    on_end: str,
    steps: int,
    steps_per_loop: int,
    jit_compile: bool | str,
) -> Loop | CompiledLoop | FasterLoop:
    """Opens the loop where the history stands in the streams.

    Args:
        path_steps: a step per stream.
        streams: path → its dataset, in the same order.
        history: is told how steps run.
        replicas: what runs the steps.
        on_end: what happens at a stream's end, as of a schedule.
        steps: of the whole training.
        steps_per_loop: of one call of the graph.
        jit_compile: as of `Trainer`.
    """

    def rest() -> list[tf.data.Dataset]:
        repeat, done = on_end == "repeat", history.steps
        return [open_at(stream, done[path], repeat=repeat) for path, stream in streams.items()]

    def open_operations() -> Loop:
        parts = [replicas.split(stream) for stream in rest()]
        return Loop(path_steps, parts, replicas.steps_per_call)

    def open_compiled() -> CompiledLoop:
        return CompiledLoop(path_steps, rest(), steps_per_loop)

    # How windows do on a GPU is not known: there, each step is compiled alone.
    fits = have_one_shape(list(streams.values())) and not tf.config.list_logical_devices("GPU")
    if jit_compile == "auto":
        known = any(why_not_compiled(step.objective) for step in path_steps)
        if fits and not known and replicas.can_compile:
            return FasterLoop(
                open_operations,
                open_compiled,
                history,
                len(streams),
                lambda: steps - history.step,
            )
    history.loop = COMPILED if jit_compile is True else OPERATIONS
    if not (jit_compile is True and fits):
        return open_operations()
    loop = open_compiled()
    loop.compile()
    return loop
