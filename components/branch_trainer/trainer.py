"""Trains a branched model: a plan of streams, steps and schedule, then the run."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer import arguments, plan
from branchline.components.branch_trainer.loop.early_stop import EarlyStops
from branchline.components.branch_trainer.loop.failure import told_failure
from branchline.components.branch_trainer.loop.history import History, Progress
from branchline.components.branch_trainer.loop.loop import Chunk, Outcome
from branchline.components.branch_trainer.loop.saver import Saver
from branchline.components.branch_trainer.loop.tensorboard import TensorBoard
from branchline.components.branch_trainer.loop.validator import Validator
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.strategy_replicas import replicas_of
from branchline.components.branch_trainer.streams.seekable import check_separate
from branchline.schemas.schedules import Alternate, Situation, as_schedule
from branchline.schemas.training import OPTIMIZER_STATES


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
        jit_compile: whether XLA compiles the steps; see `plan.open_loop`. True: always. "auto": the
            first windows of `steps_per_loop` steps are run both ways, and training goes on in the
            faster one, on which random draws then depend, as of dropout, and last digits.
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
        jit_compile: bool | str = False,
        strategy: tf.distribute.Strategy | None = None,
        optimizer_state: str = "path",
    ):
        self.model = model
        self.replicas = replicas_of(strategy)
        self.paths = arguments.paths_of(model, streams)
        self.schedule = as_schedule(schedule if schedule is not None else Alternate())
        self.sizes = dict(sizes or {})
        self.settings = arguments.settings_of(self.paths, settings or {})
        arguments.one_of((False, True, "auto"), jit_compile=jit_compile)
        self.replicas.check(self.settings, jit_compile is True)
        self.steps = arguments.at_least_one(steps=steps)
        self.steps_per_loop = arguments.at_least_one(steps_per_loop=steps_per_loop)
        self.seed = seed
        self.validate_every = arguments.at_least_one(validate_every=validate_every or steps)
        tenth = (1 + steps // 10 // steps_per_loop) * steps_per_loop
        self.checkpoint_every = arguments.at_least_one(checkpoint_every=checkpoint_every or tenth)
        self.on_progress = on_progress if self.replicas.is_chief else None
        self.history = History.start(self.paths, tuple(validation or {}))
        self.schedule.check(self._situation())
        plan.build_model(model, streams, self.settings, self.replicas)
        self.validator = Validator(model, dict(validation or {}))
        self.best = plan.best_weights(model, self.settings, tuple(self.validator.datasets))
        shared = arguments.one_of(OPTIMIZER_STATES, optimizer_state=optimizer_state) == "shared"
        self.path_steps = plan.make_steps(
            model,
            self.settings,
            self.replicas,
            seed=seed,
            has_shared_owners=shared,
            jit_compile=jit_compile is True,
        )
        self.tensorboard = None
        if tensorboard_dir is not None and self.replicas.is_chief:
            self.tensorboard = TensorBoard(tensorboard_dir, self.optimizers)
        self.early_stops = EarlyStops(
            self.validator, self.best, self.optimizers, self.replicas, self.tensorboard
        )
        self.saver = None
        if checkpoint_dir is not None:
            check_separate(streams)
            facts = {"seeds": [seed], "optimizer state": optimizer_state}
            self.saver = Saver(
                checkpoint_dir,
                plan.variables_of(model, self.path_steps),
                plan.identity_of(model, self.path_steps, streams, self.schedule) | facts,
                self.best,
                is_writer=self.replicas.is_chief,
                wait=checkpoint_every is None,
            )
            if resume:
                self.history = self.saver.restore() or self.history
            else:
                self.saver.clear()
            self.replicas.check_same(self.history.step, checkpoint_dir)
        self.loop = plan.open_loop(
            self.path_steps,
            streams,
            self.replicas,
            self.history,
            repeat=self.schedule.on_end == "repeat",
            jit_compile=jit_compile,
            num_steps=steps,
            steps_per_loop=steps_per_loop,
        )

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
        while self.history.step < self.steps and self.history.active:
            loop_started = time.monotonic()
            routes = self.schedule.routes(self._situation(), self._steps_until_pause())
            if not routes:
                break
            chunk = self.loop.run(np.array([self.paths.index(p) for p in routes], np.int32))
            self._record(routes[: chunk.taken], chunk, time.monotonic() - loop_started)
            if chunk.outcome is not Outcome.STEPPED:
                self._end_path(routes[chunk.taken], chunk)
            if chunk.taken and self.history.step % self.validate_every == 0:
                self.early_stops.validate(self.history)
            if self.on_progress:
                now = time.monotonic()
                pace = (now - started) / max(1, self.history.step - first)
                speed = float(chunk.rows.sum()) / max(now - loop_started, 1e-9)
                self.on_progress(Progress.of(self.history, self.steps, speed, pace))
            due = chunk.taken and self.history.step % self.checkpoint_every == 0
            if self.saver and due and self.saver.is_due():
                self.saver.save(self.history)
        if self.saver:
            self.saver.save(self.history)
        self.early_stops.settle(self.history)
        done = "all steps taken" if self.history.step >= self.steps else "the schedule ended"
        self.history.stopped |= dict.fromkeys(self.history.active, done)

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
        """Path, or name of a stream of mixed batches → its optimizer."""
        return {step.name: step.optimizer for step in self.path_steps}

    def _situation(self) -> Situation:
        active = tuple(self.history.active)
        return Situation(self.paths, active, self.history.steps, self.sizes, self.seed)

    def _steps_until_pause(self) -> int:
        step = self.history.step
        pauses = [every - step % every for every in (self.validate_every, self.checkpoint_every)]
        return min(self.steps_per_loop, self.steps - step, *pauses)

    def _record(self, taken: list[str], chunk: Chunk, seconds: float) -> None:
        """Writes down what a call of the loop did, which took the steps on these paths."""
        self.history.record(taken, chunk)
        if self.tensorboard:
            self.tensorboard.write_steps(self.history.step, taken, chunk, seconds)
        if self.saver:
            self.saver.is_behind = True

    def _end_path(self, path: str, chunk: Chunk) -> None:
        """Says in the history why a step on the path could not be taken, or raises it."""
        if chunk.error is not None:
            batch = self.failed_batch(path) if chunk.outcome is Outcome.STEP_FAILED else None
            raise told_failure(chunk.error, path, self.history.step, batch) from chunk.error
        if chunk.outcome is Outcome.NOT_FINITE:
            self.history.stop_not_finite(path)
            return
        if not self.history.steps[path]:
            raise ValueError(f"The stream of path {path!r} is empty")
        self.history.stop_ended(path, with_others=self.schedule.on_end == "stop")
