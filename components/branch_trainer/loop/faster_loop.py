"""Tries both loops in the first windows of a training, and goes on with the faster one."""

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from branchline.components.branch_trainer.loop.compiled_loop import CompiledLoop
from branchline.components.branch_trainer.loop.history import COMPILED, OPERATIONS, History
from branchline.components.branch_trainer.loop.loop import Chunk, Loop

_TRIED = 3  # windows of each; the first one does not count
_FIRST = 10  # steps of the first one that is compiled,
_HOPELESS = 3  # after which it is left if it took so many times as long as operations do
_COMPILING = 1.0  # seconds for each stream and one more, as measured on two cores
_WORTH = 5  # times that, which the steps have to take as operations, or none is compiled

logger = logging.getLogger(__name__)


class FasterLoop:
    """A `Loop` until it is known whether a `CompiledLoop` is faster; then the faster of both.

    Args:
        open_loop: opens the loop of operations where the history stands in the streams.
        open_compiled: opens the loop of the same steps, compiled.
        history: is told which one it is, and tells it to a training that is resumed.
        steps: of the whole training.
    """

    def __init__(
        self,
        open_loop: Callable[[], Loop],
        open_compiled: Callable[[], CompiledLoop],
        history: History,
        steps: int,
    ):
        self._open = {OPERATIONS: open_loop, COMPILED: open_compiled}
        self._history = history
        self._steps = steps
        self._num_streams = len(history.steps)
        self._seconds: dict[str, list[float]] = {OPERATIONS: [], COMPILED: []}
        self._name = history.loop or OPERATIONS
        self._loop: Loop | CompiledLoop = self._open[self._name]()
        self._failed: dict[int, Any] = {}

    @property
    def num_traces(self) -> int:
        """How often the loop that runs now was traced."""
        return self._loop.num_traces

    def failed_batch(self, route: int, *, read: bool = False) -> Any:
        """See `Loop.failed_batch`."""
        if route in self._failed:
            return self._failed[route]
        return self._loop.failed_batch(route, read=read)

    def run(self, routes: np.ndarray) -> Chunk:
        """Takes one step per route, or only the first ones; see `Loop.run`."""
        if self._history.loop:
            return self._loop.run(routes)
        seconds = self._seconds[self._name]
        if len(seconds) == _TRIED or (self._name == COMPILED and self._is_hopeless()):
            self._compare()
            return self.run(routes)
        if self._name == COMPILED and not seconds:
            routes = routes[:_FIRST]
        started = time.monotonic()
        chunk = self._loop.run(routes)
        if chunk.taken == len(routes):
            seconds.append((time.monotonic() - started) / chunk.taken)
        return chunk

    def _is_hopeless(self) -> bool:
        tried = self._seconds[COMPILED]
        return bool(tried) and tried[0] > _HOPELESS * min(self._seconds[OPERATIONS][1:])

    def _compare(self) -> None:
        """Tries the other loop, or says which one it will be."""
        fastest = {name: min(times[1:] or times) for name, times in self._seconds.items() if times}
        if self._name == COMPILED:
            told = ", ".join(f"{name} {1e3 * best:.3f}" for name, best in fastest.items())
            self._choose(min(fastest, key=lambda name: fastest[name]), f"ms a step: {told}")
            return
        left = fastest[OPERATIONS] * (self._steps - self._history.step)
        if left < _WORTH * _COMPILING * (1 + self._num_streams):
            self._choose(OPERATIONS, f"the steps that are left take {left:.0f} s")
            return
        compiled = self._open[COMPILED]()
        # As where rows are being cached in a file, by the stream that is open.
        reason = compiled.unreadable()
        try:
            if reason is None:
                compiled.compile()
        except ValueError as error:
            reason = error
        if reason is None:
            self._go_to(COMPILED, compiled)
        else:
            self._choose(OPERATIONS, str(reason))

    def _choose(self, name: str, why: str) -> None:
        if name != self._name:
            self._go_to(name, self._open[name]())
        self._history.loop = name
        logger.info("Steps run %s from step %d on: %s", name, self._history.step, why)

    def _go_to(self, name: str, loop: Any) -> None:
        failed = {route: self._loop.failed_batch(route) for route in range(self._num_streams)}
        self._failed |= {route: batch for route, batch in failed.items() if batch is not None}
        self._name, self._loop = name, loop
