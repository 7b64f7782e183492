"""The inner loop: many steps, on whatever paths, in one call of one TensorFlow graph."""

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.loop.call_record import CallRecord
from branchline.components.branch_trainer.loop.dispatch import dispatcher
from branchline.components.branch_trainer.model.share_traces import Alike


class Outcome(enum.Enum):
    """How a call of the loop ended."""

    STEPPED = "all steps are taken"
    STREAM_ENDED = "the stream had no batch for the next step"
    STREAM_FAILED = "TensorFlow raised an error while the batch was read"
    NOT_FINITE = "the loss or the gradient of the batch is not finite"
    STEP_FAILED = "TensorFlow raised an error in the step"


class Chunk(NamedTuple):
    """What one call of the loop did.

    Attributes:
        taken: number of steps taken; fewer than asked for if the next one could not be.
        outcome: why it stopped.
        losses, gradient_norms: float32 [taken].
        rows: int64 [taken], examples per step.
        error: what TensorFlow raised, where stream or step failed.
    """

    taken: int
    outcome: Outcome
    losses: np.ndarray
    gradient_norms: np.ndarray
    rows: np.ndarray
    error: tf.errors.OpError | None = None


class Loop:
    """Runs steps on paths given by number, and keeps the batch of one that went wrong.

    The graph is traced once, whatever the routes and their number. It stops at once where a step
    cannot be taken, so that the caller can ask its schedule again from exactly there.

    Args:
        steps: one `Step` per stream, in the order of the route ids.
        streams: one dataset of batches per path, in the same order.
        steps_per_call: how many of them one call of the graph takes at most; None: all.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        streams: list[tf.data.Dataset],
        steps_per_call: int | None = None,
    ):
        self.steps = steps
        self.steps_per_call = steps_per_call
        self.iterators = [iter(stream) for stream in streams]
        self._specs = [stream.element_spec for stream in streams]
        flat = [tuple(tf.nest.flatten(spec, expand_composites=True)) for spec in self._specs]
        # Streams of the same shapes share one: nobody asks for a batch but the last.
        keepers = {specs: _BatchKeeper(specs) for specs in dict.fromkeys(flat)}
        self._keepers = [keepers[specs] for specs in flat]
        self._failed: dict[int, Any] = {}
        self._record = CallRecord()
        self._step_on_route = dispatcher(
            [lambda i=i: self._step(i) for i in range(len(steps))],
            [self._alike(i, stream) for i, stream in enumerate(streams)],
        )
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
        size = self.steps_per_call or len(routes)
        chunks = []
        for first in range(0, len(routes), size):
            chunks.append(self._call(routes[first : first + size]))
            if chunks[-1].outcome is not Outcome.STEPPED:
                break
        return joined(chunks)

    def _call(self, routes: np.ndarray) -> Chunk:
        error = None
        try:
            self._run(tf.constant(routes, tf.int32))
        except tf.errors.OpError as raised:
            error = raised
        outcome = self._outcome(error)
        losses, norms, rows = self._record.taken_figures().T
        if outcome in (Outcome.NOT_FINITE, Outcome.STEP_FAILED):
            failed = int(routes[len(rows)])
            kept = self._keepers[failed].batch()
            spec = self._specs[failed]
            self._failed[failed] = tf.nest.pack_sequence_as(spec, kept, expand_composites=True)
        if outcome not in (Outcome.STREAM_FAILED, Outcome.STEP_FAILED):
            error = None
        return Chunk(len(rows), outcome, losses, norms, rows.astype(np.int64), error)

    def _outcome(self, error: tf.errors.OpError | None) -> Outcome:
        if error is None:
            return Outcome.STEPPED
        if self._record.has_batch():
            return Outcome.STEP_FAILED if self._record.is_finite() else Outcome.NOT_FINITE
        has_ended = isinstance(error, tf.errors.OutOfRangeError)
        return Outcome.STREAM_ENDED if has_ended else Outcome.STREAM_FAILED

    def failed_batch(self, route: int, *, read: bool = False) -> Any:
        """Returns the batch with which a step of the route failed or was not finite, or None.

        Args:
            route: position in `steps`.
            read: whether it failed in another process and is the next one of the stream.
        """
        if read and route not in self._failed:
            self._failed[route] = next(self.iterators[route])
        return self._failed.get(route)

    def _run_routes(self, routes: tf.Tensor):
        count = tf.size(routes)
        self._record.start(count)

        def one_step(i):
            (figures,) = self._step_on_route(routes[i])
            self._record.step_taken(i, figures)
            return i + 1

        tf.while_loop(lambda i: i < count, one_step, [tf.constant(0)], parallel_iterations=1)

    def _alike(self, i: int, stream: tf.data.Dataset) -> Alike:
        kind, resources = self.steps[i].alike(stream.element_spec)
        iterator = tf.nest.flatten(self.iterators[i], expand_composites=True)
        kept = [part.handle for part in self._keepers[i].parts]
        specs = [str(part.shape) + part.dtype.name for part in self._keepers[i].parts]
        mine = [*resources, *iterator, *kept, *self._record.handles]
        return Alike(None if kind is None else (kind, *specs), mine)

    def _step(self, i: int) -> list[tf.Tensor]:
        batch = next(self.iterators[i])
        # First, because an error of the step ends what goes on beside it.
        with tf.control_dependencies(self._keepers[i].keep(batch)):
            is_read = self._record.batch_read()
        with tf.control_dependencies([is_read]):
            return [self.steps[i](batch, self._record.figures_found)]


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Returns what calls one after the other did, as of one call."""
    if len(chunks) == 1:
        return chunks[0]
    taken, outcome, *figures, error = zip(*chunks, strict=True)
    return Chunk(
        sum(taken), outcome[-1], *(np.concatenate(parts) for parts in figures), error=error[-1]
    )


def _dimensions(spec: tf.TensorSpec) -> list[int | None]:
    return [] if spec.shape.rank is None else spec.shape.as_list()


class _BatchKeeper:
    """Holds one batch of a stream, of whatever size; no copy is made.

    Args:
        specs: Of its flat tensors.
    """

    def __init__(self, specs: Sequence[Any]):
        self.parts = [
            tf.Variable(
                tf.zeros([size or 0 for size in _dimensions(spec)], spec.dtype),
                shape=spec.shape,
                trainable=False,
            )
            for spec in specs
        ]

    def keep(self, batch: Any) -> list[tf.Operation]:
        flat = tf.nest.flatten(batch, expand_composites=True)
        pairs = zip(self.parts, flat, strict=True)
        return [part.assign(tensor, read_value=False) for part, tensor in pairs]

    def batch(self) -> list[tf.Tensor]:
        return [part.value() for part in self.parts]
