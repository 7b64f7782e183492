"""The inner loop: many steps, on whatever paths, in one call of one TensorFlow graph."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.dispatch import dispatcher

STEPPED, ENDED, NOT_FINITE = 0, 1, 2


class Chunk(NamedTuple):
    """What one call of the loop did.

    Attributes:
        taken: number of steps taken; fewer than asked for if the next one could not be.
        status: why it stopped: STEPPED (all taken), ENDED (the stream had no batch), NOT_FINITE
            (loss or gradient).
        losses, gradient_norms: float32 [taken].
        rows: int64 [taken], examples per step.
    """

    taken: int
    status: int
    losses: np.ndarray
    gradient_norms: np.ndarray
    rows: np.ndarray


class Loop:
    """Runs steps on paths given by number, and keeps the batch of one that went wrong.

    The graph is traced once, whatever the routes and their number. It stops at once where a step
    cannot be taken, so that the caller can ask its schedule again from exactly there.

    Args:
        steps: one `PathStep` per path, in the order of the route ids.
        streams: one dataset of batches per path, in the same order.
    """

    def __init__(self, steps: Sequence[Any], streams: list[tf.data.Dataset]):
        self.steps = steps
        self.iterators = [iter(stream) for stream in streams]
        self._kept = [_BatchKeeper(stream.element_spec) for stream in streams]
        self._step_on_route = dispatcher([lambda i=i: self._step(i) for i in range(len(steps))])
        self._run = tf.function(
            self._run_routes, input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False
        )

    @property
    def num_traces(self) -> int:
        """How often the loop was traced."""
        return self._run.experimental_get_tracing_count()

    def run(self, routes: np.ndarray) -> Chunk:
        """Takes one step per route.

        Args:
            routes: int32 [n], positions in `steps`.
        """
        taken, status, losses, norms, rows = (
            value.numpy() for value in self._run(tf.constant(routes, tf.int32))
        )
        return Chunk(int(taken), int(status), losses[:taken], norms[:taken], rows[:taken])

    def kept_batch(self, route: int) -> Any:
        """Returns the batch whose loss or gradient was not finite, or None."""
        return self._kept[route].batch()

    def _run_routes(self, routes: tf.Tensor):
        count = tf.size(routes)
        arrays = [tf.TensorArray(dtype, count) for dtype in (tf.float32, tf.float32, tf.int64)]

        def one_step(i, _, *arrays):
            status, *values = self._step_on_route(routes[i])
            arrays = [a.write(i, value) for a, value in zip(arrays, values, strict=True)]
            return i + tf.cast(status == STEPPED, tf.int32), status, *arrays

        taken, status, *arrays = tf.while_loop(
            lambda i, status, *_: (i < count) & (status == STEPPED),
            one_step,
            (tf.constant(0), tf.constant(STEPPED), *arrays),
            parallel_iterations=1,
        )
        return taken, status, *(a.stack() for a in arrays)

    def _step(self, i: int):
        drawn = self.iterators[i].get_next_as_optional()
        nothing = (tf.constant(0.0), tf.constant(0.0), tf.constant(0, tf.int64))
        return tf.cond(
            drawn.has_value(),
            lambda: self._step_on(i, drawn.get_value()),
            lambda: (tf.constant(ENDED), *nothing),
        )

    def _step_on(self, i: int, batch: tuple):
        finite, *values = self.steps[i](batch)
        tf.cond(finite, tf.no_op, lambda: self._kept[i].keep(batch))
        return tf.where(finite, STEPPED, NOT_FINITE), *values


def _dimensions(spec: tf.TensorSpec) -> list[int | None]:
    return [] if spec.shape.rank is None else spec.shape.as_list()


class _BatchKeeper:
    """Holds one batch of a stream, of whatever size."""

    def __init__(self, element_spec: Any):
        self.element_spec = element_spec
        self.full = tf.Variable(tf.constant(False), trainable=False)
        self.parts = [
            tf.Variable(
                tf.zeros([size or 0 for size in _dimensions(spec)], spec.dtype),
                shape=spec.shape,
                trainable=False,
            )
            for spec in tf.nest.flatten(element_spec, expand_composites=True)
        ]

    def keep(self, batch: Any) -> tf.Operation:
        flat = tf.nest.flatten(batch, expand_composites=True)
        for part, tensor in zip(self.parts, flat, strict=True):
            part.assign(tensor)
        self.full.assign(True)
        return tf.no_op()

    def batch(self) -> Any:
        if not self.full.numpy():
            return None
        values = [part.value() for part in self.parts]
        return tf.nest.pack_sequence_as(self.element_spec, values, expand_composites=True)
