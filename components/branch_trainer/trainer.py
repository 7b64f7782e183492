"""Trains a branched model: schedule, inner loop, validation, and what stops a path."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.arguments import (
    at_least_one,
    one_of,
    paths_of,
    settings_of,
)
from branchline.components.branch_trainer.loop.checkpoint import Checkpoints, described
from branchline.components.branch_trainer.loop.early_stop import BestWeights, Validator
from branchline.components.branch_trainer.loop.failure import told_failure
from branchline.components.branch_trainer.loop.history import History, Progress
from branchline.components.branch_trainer.loop.loop import (
    Chunk,
    Loop,
    Outcome,
)
from branchline.components.branch_trainer.loop.tensorboard import TensorBoard
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.one_name import one_name
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.owners import shared_owners
from branchline.components.branch_trainer.step.step import Step, objective_of
from branchline.components.branch_trainer.step.strategy_replicas import replicas_of
from branchline.components.branch_trainer.streams.seekable import (
    check_separate,
    check_stream,
    open_at,
)
from branchline.schemas.schedules import Alternate, Situation, as_schedule
from branchline.schemas.training import OPTIMIZER_STATES

_WORTH_KEEPING = 10  # seconds of training, unless it is said how often to write checkpoints


class Trainer:
    """Trains the paths of a model, each on its own stream with its own settings.

    Args:
        model: its layers are built here where they are not yet.
        streams: path → dataset of batches (features, labels) or (features, labels, sample_weight).
            They decide which paths are trained; their order is the model's. Read in a fixed order,
            whatever the dataset's options say. To resume exactly, they have to give the same
            batches in the next process: seed every shuffle, after `keras.utils.set_random_seed`.
            A stream under a name that is no path's is one of mixed batches: its features are a
            pair (features, path ids int [batch]), and it is scheduled under its name.
        schedule: which path is trained at which step: `Alternate`, `Proportional`, `Weighted`,
            `Sequential`, or a function step → path. Its `on_end` says what happens when a stream
            ends.
        sizes: path → number of examples in its stream, for schedules that need it.
        settings: path → `PathSettings`, for paths that differ from the defaults.
        steps: number of steps, of all paths together.
        steps_per_loop: how many of them run in one call of the graph.
        seed: of random schedules, and of PCGrad's orders.
        validation: path → finite dataset of batches.
        validate_every: steps between validations, with `validation`; there is one at the end too.
        checkpoint_dir: where to keep checkpoints: weights, statistics, optimizer slots and clocks,
            places in the streams, early-stop state. A place of this training alone, also of a file
            system that `tf.io.gfile` knows, such as "gs://bucket/folder".
        checkpoint_every: steps between them; None: about a tenth of `steps`, or more where
            writing them would take more than a twentieth of the time, and none in the first ten
            seconds. There is one at the end too.
        resume: whether to go on from the newest checkpoint in `checkpoint_dir` where there is one;
            if not, older ones are removed. Model, streams, schedule, seed and kinds of optimizers
            have to be those of before, `steps` need not.
        on_progress: called once per loop, before a checkpoint, so that what it sets in the model,
            such as a `Conditional.on`, is in it.
        tensorboard_dir: where to write TensorBoard files, a run per path; see `TensorBoard`.
        jit_compile: whether XLA compiles the steps, one program per path and batch shape: give
            batches of one size (`drop_remainder`). Embedding tables are then updated as a whole.
        strategy: a MirroredStrategy or MultiWorkerMirroredStrategy, under whose scope model and
            optimizers were made; see `step/strategy_replicas.py`. Batches are those of all
            replicas. Every worker runs the same program on the same streams; the first calls
            `on_progress` and writes, to a `checkpoint_dir` that all share.
        optimizer_state: who owns the optimizer's state of a variable that several streams train.
            "path": each stream, which has slots of its own for all that it trains. "shared": all of
            them together, so that a trunk has one pair of slots however many paths go through it,
            and a batch is trained alike whether it comes in a stream of its path or in a mixed one.
            Their optimizers have to be the same but for the learning rate, which is that of the
            stream whose step it is, on that stream's clock.

    Raises:
        ValueError: arguments do not fit each other; says which.
        KeyError: a path is not in the model.
    """

    def __init__(
        self,
        model: BranchedModel,
        *,
        streams: Mapping[str, tf.data.Dataset],
        schedule=None,
        sizes: Mapping[str, int] | None = None,
        settings: Mapping[str, PathSettings] | None = None,
        steps: int,
        steps_per_loop: int = 50,
        seed: int = 0,
        validation: Mapping[str, tf.data.Dataset] | None = None,
        validate_every: int | None = None,
        checkpoint_dir: str | os.PathLike | None = None,
        checkpoint_every: int | None = None,
        resume: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
        tensorboard_dir: str | os.PathLike | None = None,
        jit_compile: bool = False,
        strategy: tf.distribute.Strategy | None = None,
        optimizer_state: str = "path",
    ):
        self.model = model
        self.replicas = replicas_of(strategy)
        self.paths = paths_of(model, streams)
        self.schedule = as_schedule(schedule if schedule is not None else Alternate())
        self.sizes = dict(sizes or {})
        self.settings = settings_of(self.paths, settings or {})
        self.replicas.check(self.settings, jit_compile)
        self.steps = at_least_one(steps=steps)
        self.steps_per_loop = at_least_one(steps_per_loop=steps_per_loop)
        self.seed = seed
        self.optimizer_state = one_of(OPTIMIZER_STATES, optimizer_state=optimizer_state)
        self.validate_every = at_least_one(validate_every=validate_every or steps)
        self._save_rest = 0 if checkpoint_every else 19  # times what writing one took
        self._save_from = 0.0 if checkpoint_every else time.monotonic() + _WORTH_KEEPING
        loops = 1 + steps // 10 // steps_per_loop
        self.checkpoint_every = at_least_one(
            checkpoint_every=checkpoint_every or loops * steps_per_loop
        )
        self.on_progress = on_progress if self.replicas.is_chief else None
        self.history = History.start(self.paths, tuple(validation or {}))
        self.schedule.check(self._situation())
        for path in self.paths:
            check_stream(path, streams[path])
            spec: Any = streams[path].element_spec
            features = spec[0]
            with self.replicas.scope(), one_name():
                model.build_path(*((path, features) if path in model.paths else features[::-1]))
        self._build_leaks(streams)
        self.replicas.check_made_here(model.variables)
        self.validator = Validator(model, dict(validation or {}))
        self.best = self._best_weights()
        with self.replicas.scope(), one_name():
            self.path_steps = self._steps(jit_compile)
        self.tensorboard = None
        if tensorboard_dir is not None and self.replicas.is_chief:
            optimizers = {step.name: step.optimizer for step in self.path_steps}
            self.tensorboard = TensorBoard(tensorboard_dir, optimizers)
        self.checkpoints = None
        self._unsaved = True
        if checkpoint_dir is not None:
            check_separate(streams)
            self.checkpoints = self._checkpoints_in(checkpoint_dir, streams)
            if resume:
                self._resume()
            elif self.replicas.is_chief:
                self.checkpoints.clear()
            self.replicas.check_same(self.history.step, checkpoint_dir)
        repeat = self.schedule.on_end == "repeat"
        rest = [open_at(streams[p], self.history.steps[p], repeat=repeat) for p in self.paths]
        rest = [self.replicas.split(stream) for stream in rest]
        self.loop = Loop(self.path_steps, rest, self.replicas.steps_per_call)

    def run(self) -> History:
        """Trains until all steps are taken or no path is left, and returns what was done.

        Raises:
            ValueError: a stream is empty.
            tf.errors.OpError: TensorFlow failed in a step, as by a label or an id out of range;
                names step, path and batch, which `failed_batch` returns.
        """
        try:
            self._take_steps()
        finally:
            if self.tensorboard:
                self.tensorboard.close()
        return self.history

    def _take_steps(self) -> None:
        started, first = time.monotonic(), self.history.step
        while self.history.step < self.steps and self._active():
            loop_started = time.monotonic()
            routes = self.schedule.routes(self._situation(), self._steps_until_pause())
            if not routes:
                break
            chunk = self.loop.run(np.array([self.paths.index(p) for p in routes], np.int32))
            seconds = time.monotonic() - loop_started
            self._unsaved = True
            self.history.record(routes[: chunk.taken], chunk)
            if self.tensorboard:
                taken = routes[: chunk.taken]
                self.tensorboard.write_steps(self.history.step, taken, chunk, seconds)
            if chunk.error is not None:
                path, step = routes[chunk.taken], self.history.step
                is_read = chunk.outcome is Outcome.STEP_FAILED
                batch = self.failed_batch(path) if is_read else None
                raise told_failure(chunk.error, path, step, batch) from chunk.error
            if chunk.taken < len(routes):
                self._give_up(routes[chunk.taken], chunk)
            if chunk.taken and self.history.step % self.validate_every == 0:
                self._validate()
            if self.on_progress:
                now = time.monotonic()
                pace = (now - started) / max(1, self.history.step - first)
                self.on_progress(self._progress(chunk, now - loop_started, pace))
            due = chunk.taken and self.history.step % self.checkpoint_every == 0
            if due and time.monotonic() >= self._save_from:
                self._save()
        self._save()
        self._finish()

    def failed_batch(self, path: str) -> Any:
        """Returns the batch at which a step of `path` failed or was not finite, or None.

        After resuming it is read again, from a stream that gives the same batches. Of several
        workers, each has its rows of it.
        """
        if path not in self.paths:
            raise KeyError(f"Path {path!r} has no stream; those that do: {list(self.paths)}")
        is_next = path in self.history.not_finite
        batch = self.loop.failed_batch(self.paths.index(path), read=is_next)
        return None if batch is None else self.replicas.joined(batch)

    @property
    def optimizers(self) -> dict:
        """Path → its optimizer, for streams of one path."""
        return {s.name: s.optimizer for s in self.path_steps if s.name in self.model.paths}

    def _steps(self, jit_compile: bool) -> list[Step]:
        objectives = [
            objective_of(
                self.model,
                path,
                self.settings[path],
                others=self.settings,
                replicas=self.replicas,
                seed=self.seed,
            )
            for path in self.paths
        ]
        owners = {}
        if self.optimizer_state == "shared":
            owners = shared_owners(self.model, objectives, self.replicas.take_over)
        return [
            Step(each, owners=owners.get(each.name), jit_compile=jit_compile) for each in objectives
        ]

    def _build_leaks(self, streams: Mapping[str, tf.data.Dataset]) -> None:
        """Builds the paths that get a leak and have no stream, from the features of the leak."""
        for path in self.paths:
            spec: Any = streams[path].element_spec
            for other, share in self.settings[path].leak.items():
                built = all(part.built for part in self.model.parts_of(other).values())
                if share and not built:
                    with self.replicas.scope(), one_name():
                        self.model.build_path(other, spec[0])

    def _active(self) -> tuple[str, ...]:
        return tuple(path for path in self.paths if path not in self.history.stopped)

    def _situation(self) -> Situation:
        return Situation(self.paths, self._active(), self.history.steps, self.sizes, self.seed)

    def _steps_until_pause(self) -> int:
        step = self.history.step
        pauses = [every - step % every for every in (self.validate_every, self.checkpoint_every)]
        return min(self.steps_per_loop, self.steps - step, *pauses)

    def _best_weights(self) -> dict[str, BestWeights]:
        rules = {p: s.early_stop for p, s in self.settings.items() if s.early_stop}
        without = sorted(set(rules) - set(self.validator.datasets))
        if without:
            raise ValueError(f"early_stop of {without} needs validation data for them: validation=")
        return {p: BestWeights(self.model.own_state_of(p), rule) for p, rule in rules.items()}

    def _checkpoints_in(
        self, directory: str | os.PathLike, streams: Mapping[str, tf.data.Dataset]
    ) -> Checkpoints:
        variables = {
            "weights": [v.value for v in self.model.variables],
            "optimizer slots": list({id(v): v for s in self.path_steps for v in s.state}.values()),
            "best weights": [v for best in self.best.values() for v in best.copies],
        }
        identity = {
            "paths": self.paths,
            "streams": [str(streams[path].element_spec) for path in self.paths],
            "stream lengths": [int(streams[path].cardinality()) for path in self.paths],
            "schedule settings": described(self.schedule),
            "seeds": [self.seed],
            "optimizer state": self.optimizer_state,
            "optimizers": [type(s.optimizer).__name__ for s in self.path_steps],
            "parts and their variables": self.model.places(),
        }
        return Checkpoints(directory, variables, identity)

    def _save(self) -> None:
        if self.checkpoints is not None and self.replicas.is_chief and self._unsaved:
            self._unsaved = False
            early = {path: [b.best, b.waited, b.updates] for path, b in self.best.items()}
            progress = {"history": dataclasses.asdict(self.history), "early_stop": early}
            started = time.monotonic()
            self.checkpoints.save(self.history.step, progress)
            now = time.monotonic()
            self._save_from = now + self._save_rest * (now - started)

    def _resume(self) -> None:
        assert self.checkpoints
        progress = self.checkpoints.restore()
        if progress is None:
            return
        self._unsaved = False
        self.history = History.from_json(progress["history"])
        for path, figures in progress["early_stop"].items():
            best = self.best[path]
            best.best, best.waited, best.updates = figures

    def _give_up(self, path: str, chunk: Chunk) -> None:
        step = self.history.step
        if chunk.outcome is Outcome.NOT_FINITE:
            self.history.stopped[path] = f"loss or gradient not finite at step {step}"
            self.history.not_finite[path] = step
            return
        assert chunk.outcome is Outcome.STREAM_ENDED
        if not self.history.steps[path]:
            raise ValueError(f"The stream of path {path!r} is empty")
        self.history.stopped[path] = f"its stream ended at step {step}"
        if self.schedule.on_end == "stop":
            for other in self._active():
                self.history.stopped[other] = f"the stream of {path!r} ended at step {step}"

    def _validate(self) -> None:
        for path in self.validator.datasets:
            if path in self.history.stopped:
                continue
            loss = self._validation_loss(path)
            self._record_validation(path, loss)
            if path in self.best and self.best[path].observe(loss, self._updates(path)):
                self.history.stopped[path] = f"no improvement until step {self.history.step}"

    def _updates(self, path: str) -> int:
        """Returns how often the path was updated; a step may only gather its gradient."""
        return int(np.array(self.optimizers[path].iterations))

    def _validation_loss(self, path: str) -> float:
        """Returns the first worker's: statistics differ, and all have to come to one decision."""
        return self.replicas.of_all(self.validator(path))[0]

    def _record_validation(self, path: str, loss: float) -> None:
        self.history.record_validation(path, loss)
        if self.tensorboard:
            self.tensorboard.write_validation(self.history.step, path, loss)

    def _finish(self) -> None:
        for path, best in self.best.items():
            loss = best.settle(lambda path=path: self._validation_loss(path))
            self._record_validation(path, loss)
        for path in self.validator.datasets:
            last = self.history.validation[path][-1:]
            if path not in self.best and (not last or last[0][0] < self.history.step):
                self._record_validation(path, self._validation_loss(path))
        done = "all steps taken" if self.history.step >= self.steps else "the schedule ended"
        for path in self._active():
            self.history.stopped[path] = done

    def _progress(self, chunk: Chunk, seconds: float, seconds_per_step: float) -> Progress:
        return Progress(
            step=self.history.step,
            steps=self.steps,
            losses={path: losses[-1][1] for path, losses in self.history.losses.items() if losses},
            stopped=dict(self.history.stopped),
            not_finite=dict(self.history.not_finite),
            examples_per_second=float(chunk.rows.sum()) / max(seconds, 1e-9),
            eta_seconds=(self.steps - self.history.step) * seconds_per_step,
        )
