"""Schedules: which path is trained at which step.

A schedule is a pure function of the steps done, so that it needs no state of its own in a
checkpoint and can be asked again from any step, with another set of paths: after a stream has
ended, a path has failed, or training resumes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from branchline.schemas.draws import pick, uniform_draws

ON_END = ("repeat", "stop", "drop")


@dataclasses.dataclass(frozen=True)
class Situation:
    """What a schedule may look at.

    Attributes:
        paths: all paths that have a stream, in the model's order.
        active: those still trained, in the same order, never empty.
        steps_done: path → steps taken so far.
        sizes: path → number of examples in its stream, where known.
        seed: of random schedules.
    """

    paths: tuple[str, ...]
    active: tuple[str, ...]
    steps_done: Mapping[str, int]
    sizes: Mapping[str, int]
    seed: int

    @property
    def step(self) -> int:
        """Steps taken so far on all paths."""
        return sum(self.steps_done.values())


def _check_on_end(on_end: str) -> None:
    if on_end not in ON_END:
        raise ValueError(f"on_end={on_end!r}, expected one of {ON_END}")


def _check_known(named: Sequence[str], paths: Sequence[str], schedule: object) -> None:
    unknown = sorted(set(named) - set(paths))
    if unknown:
        raise ValueError(f"{schedule} names paths {unknown}; those with a stream are {list(paths)}")


@dataclasses.dataclass(frozen=True)
class Alternate:
    """Takes turns by a pattern, repeated.

    Turns of a path that is no longer trained are left out of the pattern.

    Args:
        pattern: letters, of which "a" is the first path with a stream, "b" the second, …; or a
            list of path names; None: every path once, in order.
        on_end: "repeat" starts an ended stream again; "stop" ends training when the first stream
            ends; "drop" goes on with the other paths.
    """

    pattern: str | Sequence[str] | None = None
    on_end: str = "repeat"

    def check(self, situation: Situation) -> None:
        """Raises ValueError if the pattern names a path without a stream, or leaves one out."""
        _check_on_end(self.on_end)
        names = self._names(situation.paths)
        _check_known(names, situation.paths, self)

    def _names(self, paths: Sequence[str]) -> list[str]:
        if self.pattern is None:
            return list(paths)
        if not isinstance(self.pattern, str):
            return list(self.pattern)
        letters = {chr(ord("a") + i): path for i, path in enumerate(paths)}
        return [letters.get(letter, letter) for letter in self.pattern]

    def routes(self, situation: Situation, count: int) -> list[str]:
        """Returns the paths of the next `count` steps; fewer if there is nothing left to do."""
        names = [name for name in self._names(situation.paths) if name in situation.active]
        first = situation.step
        return [names[i % len(names)] for i in range(first, first + count)] if names else []


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Draws each step's path at random with given sampling weights (these scale no loss).

    Weights of paths that are no longer trained are left out and the others renormalised.

    Args:
        weights: path → non-negative weight.
        on_end: as in `Alternate`.
    """

    weights: Mapping[str, float]
    on_end: str = "repeat"

    def check(self, situation: Situation) -> None:
        """Raises ValueError if weights are not ≥ 0, all are 0, or a path is unknown."""
        _check_on_end(self.on_end)
        _check_known(list(self.weights), situation.paths, self)
        values = np.array(list(self.weights.values()), np.float64)
        if not np.all(np.isfinite(values)) or np.any(values < 0) or not np.any(values > 0):
            raise ValueError(f"{self}: expected weights ≥ 0, at least one of them positive")

    def routes(self, situation: Situation, count: int) -> list[str]:
        """Returns the paths of the next `count` steps; fewer if there is nothing left to do."""
        weights = [float(self.weights.get(path, 0.0)) for path in situation.active]
        if not any(weights):
            return []
        draws = uniform_draws(situation.seed, situation.step, count)
        return [situation.active[i] for i in pick(weights, draws)]


@dataclasses.dataclass(frozen=True)
class Proportional:
    """Draws each step's path at random, in proportion to its stream's size ** (1 / temperature).

    Args:
        temperature: 1 is proportional; larger evens out; infinity is uniform.
        on_end: as in `Alternate`.

    Source: Aharoni et al. 2019, "Massively Multilingual NMT in the Wild" (arXiv:1907.05019).
    """

    temperature: float = 1.0
    on_end: str = "repeat"

    def check(self, situation: Situation) -> None:
        """Raises ValueError if the temperature is not positive or a stream's size unknown."""
        _check_on_end(self.on_end)
        if not self.temperature > 0:
            raise ValueError(f"{self}: expected temperature > 0")
        unknown = [path for path in situation.paths if not situation.sizes.get(path, 0) > 0]
        if unknown:
            raise ValueError(
                f"{self} needs the sizes of all streams; none or 0 for {unknown}: pass sizes="
            )

    def routes(self, situation: Situation, count: int) -> list[str]:
        """Returns the paths of the next `count` steps."""
        weights = {p: situation.sizes[p] ** (1 / self.temperature) for p in situation.active}
        return Weighted(weights).routes(situation, count)


@dataclasses.dataclass(frozen=True)
class Sequential:
    """Trains one path after another, each for its number of steps, and then ends.

    The turn of a path that is no longer trained is over at once.

    Args:
        turns: (path, steps) in order; a path may come several times.
        on_end: as in `Alternate`.
    """

    turns: Sequence[tuple[str, int]]
    on_end: str = "repeat"

    def check(self, situation: Situation) -> None:
        """Raises ValueError if a turn has no steps or its path no stream."""
        _check_on_end(self.on_end)
        _check_known([path for path, _ in self.turns], situation.paths, self)
        if not self.turns or any(steps < 1 for _, steps in self.turns):
            raise ValueError(f"{self}: expected turns of at least one step")

    def routes(self, situation: Situation, count: int) -> list[str]:
        """Returns the paths of the next `count` steps; fewer at the end of the last turn."""
        done = dict(situation.steps_done)
        routes: list[str] = []
        for path, steps in self.turns:
            taken = min(steps, done.get(path, 0))
            done[path] = done.get(path, 0) - taken
            if path in situation.active:
                routes += [path] * min(steps - taken, count - len(routes))
        return routes


@dataclasses.dataclass(frozen=True)
class Custom:
    """Asks a function for the path of every step.

    Args:
        path_fn: step → path name. It must give the same answer every time it is asked for a step.
            Steps that it gives to a path that is no longer trained go to the next path, in the
            model's order, that is.
        on_end: as in `Alternate`.
    """

    path_fn: Callable[[int], str]
    on_end: str = "repeat"

    def check(self, situation: Situation) -> None:
        """Raises ValueError if the first step's path has no stream."""
        _check_on_end(self.on_end)
        _check_known([self.path_fn(0)], situation.paths, self)

    def routes(self, situation: Situation, count: int) -> list[str]:
        """Returns the paths of the next `count` steps.

        Raises:
            ValueError: the function named a path that has no stream.
        """
        first = situation.step
        named = [self.path_fn(step) for step in range(first, first + count)]
        _check_known(named, situation.paths, self)
        return [_next_active(path, situation) for path in named]


@dataclasses.dataclass(frozen=True)
class AsPlanned:
    """Follows a schedule, but lets paths with a limit inherit no more steps than that.

    A path whose learning rate has fallen to 0 learns nothing from the turns of one that stopped.

    Args:
        schedule: gives every path as many steps as its limit, as long as none stops.
        limits: path → its most steps, once another path has stopped.
    """

    schedule: Any
    limits: Mapping[str, int]

    @property
    def on_end(self) -> str:
        """As that of the schedule."""
        return self.schedule.on_end

    def check(self, situation: Situation) -> None:
        """Raises what the schedule raises."""
        self.schedule.check(situation)

    def routes(self, situation: Situation, count: int) -> list[str]:
        """Returns the paths of the next steps, `count` at most; none if there is nothing to do."""
        if situation.active == situation.paths:
            return self.schedule.routes(situation, count)
        left = {path: self._left(path, situation) for path in situation.active}
        active = tuple(path for path in situation.active if left[path] > 0)
        if not active:
            return []
        situation = dataclasses.replace(situation, active=active)
        routes = self.schedule.routes(situation, count)
        for number, path in enumerate(routes):
            if left[path] == 0:  # from here on the others share its turns
                return routes[:number]
            left[path] -= 1
        return routes

    def _left(self, path: str, situation: Situation) -> float:
        return self.limits.get(path, float("inf")) - situation.steps_done[path]


def _next_active(path: str, situation: Situation) -> str:
    at = situation.paths.index(path)
    around = situation.paths[at:] + situation.paths[:at]
    return next(candidate for candidate in around if candidate in situation.active)


def as_schedule(schedule: Any) -> Any:
    """Returns `schedule`, a plain function wrapped in `Custom`.

    Raises:
        TypeError: it is neither a schedule nor callable.
    """
    if hasattr(schedule, "routes") and hasattr(schedule, "check"):
        return schedule
    if callable(schedule):
        return Custom(schedule)  # pyright: ignore[reportArgumentType]
    raise TypeError(
        f"schedule={schedule!r}, expected Alternate, Proportional, … or a function step → path"
    )
