"""The inner loop in windows of steps, each of them one program that XLA compiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.loop.loop import Chunk, Outcome, joined

_BYTES = 64 << 20  # of a window's batches, of all streams together


class CompiledLoop:
    """Does what `Loop` does, in windows of steps that become one program each.

    A window's batches are read before its steps are taken. It ends at a step that is not finite;
    what was read behind that step is there for the next window, so that every path goes on from its
    next batch. A stream that fails while it is read ends the window before the block of batches in
    which it failed.

    Args:
        steps: one `Step` per stream, in the order of the route ids, each of which XLA can compile.
        streams: one dataset of batches per path, in the same order; see `have_one_shape`.
        steps_per_loop: greatest size of a window, in steps.
    """

    def __init__(self, steps: Sequence[Any], streams: list[tf.data.Dataset], steps_per_loop: int):
        self._steps = steps
        self._specs = [stream.element_spec for stream in streams]
        self._size = max(1, min(steps_per_loop, _BYTES // sum(map(_num_bytes, self._specs))))
        self._blocks = [_Blocks(stream, self._size) for stream in streams]
        self._failed: dict[int, Any] = {}
        self._run = tf.function(self._take_steps, autograph=False, jit_compile=True)
        self._concrete: Any = None

    @property
    def num_traces(self) -> int:
        """How often the window was traced."""
        return self._run.experimental_get_tracing_count()

    def compile(self) -> None:
        """Compiles the window, without a step.

        Raises:
            ValueError: XLA cannot compile it.
        """
        try:
            self._call(np.zeros([0], np.int32), np.zeros([0], np.int32))
        except (tf.errors.OpError, NotImplementedError) as error:
            raise ValueError(
                f"XLA cannot compile the steps; train without jit_compile. It says: {error}"
            ) from error

    def unreadable(self) -> tf.errors.OpError | None:
        """Reads a batch of each stream ahead, and returns the error of one that failed, or None."""
        for blocks in self._blocks:
            blocks.read_ahead(1)
        return next((blocks.error for blocks in self._blocks if blocks.error), None)

    def run(self, routes: np.ndarray) -> Chunk:
        """Takes one step per route; see `Loop.run`."""
        chunks = []
        for first in range(0, len(routes), self._size):
            chunks.append(self._run_window(routes[first : first + self._size]))
            if chunks[-1].outcome is not Outcome.STEPPED:
                break
        return joined(chunks)

    def failed_batch(self, route: int, *, read: bool = False) -> Any:
        """See `Loop.failed_batch`."""
        if read and route not in self._failed and self._blocks[route].read_ahead(1):
            self._failed[route] = self._batch(route, self._blocks[route].first)
        return self._failed.get(route)

    def _run_window(self, routes: np.ndarray) -> Chunk:
        places = np.zeros_like(routes)
        outcome, error, count = Outcome.STEPPED, None, len(routes)
        for route in range(len(self._blocks)):
            blocks, here = self._blocks[route], np.flatnonzero(routes == route)
            missing = len(here) - blocks.read_ahead(len(here))
            places[here] = blocks.first + np.arange(len(here))
            if missing > 0 and here[-missing] < count:
                count, outcome, error = int(here[-missing]), blocks.outcome, blocks.error
        figures = self._call(routes[:count], places[:count])
        good = np.isfinite(figures).all(axis=1)
        taken = count if good.all() else int(good.argmin())
        if taken < count:
            outcome, error = Outcome.NOT_FINITE, None
            failed = int(routes[taken])
            self._failed[failed] = self._batch(failed, int(places[taken]))
        passed = routes[: taken + (outcome is Outcome.NOT_FINITE)]
        for route, blocks in enumerate(self._blocks):
            blocks.first += int((passed == route).sum())
        losses, norms, rows = figures[:taken].T
        return Chunk(taken, outcome, losses, norms, rows.astype(np.int64), error)

    def _call(self, routes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Returns figures float32 [steps, 3], up to the first ones that are not finite."""
        count = len(routes)
        numbers = np.full([2, self._size + 1], count, np.int32)
        numbers[:, :count] = routes, places
        inputs = tf.constant(numbers), [blocks.batches for blocks in self._blocks]
        if self._concrete is None:
            self._concrete = self._run.get_concrete_function(*inputs)
        return self._concrete(*inputs).numpy()[:count]

    def _batch(self, route: int, place: int) -> Any:
        block, place = divmod(place, self._size)
        flat = [part[place] for part in self._blocks[route].batches[block]]
        return tf.nest.pack_sequence_as(self._specs[route], flat)

    def _take_steps(self, numbers: tf.Tensor, batches: list) -> tf.Tensor:
        routes, places = numbers[0], numbers[1]
        count = routes[-1]

        # By `gather`: what is indexed with [] has to be known to XLA, which then compiles a program
        # for each place.
        def step(route: int, place: tf.Tensor) -> tf.Tensor:
            now, later = (
                [tf.gather(part, place - start) for part in block]
                for start, block in zip((0, self._size), batches[route], strict=True)
            )
            flat = [tf.where(place < self._size, *parts) for parts in zip(now, later, strict=True)]
            batch = tf.nest.pack_sequence_as(self._specs[route], flat)
            return self._steps[route].masked(batch)

        def one(i, _, figures):
            fns = [lambda j=j: step(j, tf.gather(places, i)) for j in range(len(batches))]
            of_step = tf.switch_case(tf.gather(routes, i), fns) if len(fns) > 1 else fns[0]()
            figures = tf.tensor_scatter_nd_update(figures, [[i]], [of_step])
            return i + 1, tf.reduce_all(tf.math.is_finite(of_step)), figures

        start = (tf.constant(0), tf.constant(True), tf.zeros([self._size, 3]))
        return tf.while_loop(lambda i, good, _: good & (i < count), one, start)[2]


class _Blocks:
    """Batches of a stream that are read ahead of the steps: two blocks of a window's size.

    Attributes:
        batches: of both blocks, each part of their batches, [size, …].
        first: place of the next batch, among those of both blocks.
        outcome: STEPPED; STREAM_ENDED or STREAM_FAILED once it is read to there.
        error: what TensorFlow raised, where it failed.
    """

    def __init__(self, stream: tf.data.Dataset, size: int):
        self._iterator = iter(stream.batch(size).prefetch(1))
        self._size = size
        specs = tf.nest.flatten(stream.element_spec)
        empty = [tf.zeros([size, *spec.shape], spec.dtype) for spec in specs]
        self.batches, self._counts = [empty, empty], [0, 0]
        self.first = 0
        self.outcome = Outcome.STEPPED
        self.error: tf.errors.OpError | None = None

    def read_ahead(self, count: int) -> int:
        """Returns how many batches are there, `count` at the least if the stream has so many.

        Args:
            count: at most a window's size.
        """
        while self._end - self.first < count and self.outcome is Outcome.STEPPED:
            try:
                block = tf.nest.flatten(next(self._iterator))
            except (StopIteration, tf.errors.OutOfRangeError):
                self.outcome = Outcome.STREAM_ENDED
            except tf.errors.OpError as error:
                self.outcome, self.error = Outcome.STREAM_FAILED, error
            else:
                self._append(block)
        return self._end - self.first

    @property
    def _end(self) -> int:
        return self._size + self._counts[1] if self._counts[1] else self._counts[0]

    def _append(self, block: list[tf.Tensor]) -> None:
        count = len(block[0])
        if count < self._size:  # the last one
            spare = self.batches[1]
            block = [tf.concat([b, s[count:]], axis=0) for b, s in zip(block, spare, strict=True)]
        if not self._counts[0]:
            self.batches[0], self._counts[0] = block, count
            return
        if self._counts[1]:
            self.batches[0], self._counts[0] = self.batches[1], self._counts[1]
            self.first -= self._size
        self.batches[1], self._counts[1] = block, count


def have_one_shape(streams: Sequence[Any]) -> bool:
    """Returns whether all batches of each stream are tensors of numbers, of one known shape."""
    parts = [part for stream in streams for part in tf.nest.flatten(stream.element_spec)]
    return all(
        isinstance(part, tf.TensorSpec)
        and part.shape.is_fully_defined()
        and (part.dtype.is_floating or part.dtype.is_integer or part.dtype.is_bool)
        for part in parts
    )


def _num_bytes(spec: Any) -> int:
    return sum(part.shape.num_elements() * part.dtype.size for part in tf.nest.flatten(spec)) or 1
