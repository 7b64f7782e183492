"""Trains a recipe's model on the rows of its routes."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.one_name import one_name
from branchline.components.branch_trainer.recipe.check_heads import check_heads
from branchline.components.branch_trainer.recipe.item_query import count_items
from branchline.components.branch_trainer.recipe.path_settings import path_settings
from branchline.components.branch_trainer.recipe.weigh_classes import weigh_classes
from branchline.components.branch_trainer.streams.inputs import Input, input_specs
from branchline.components.branch_trainer.streams.labels import Scale
from branchline.components.branch_trainer.streams.read_rows import Rows
from branchline.components.branch_trainer.streams.route_streams import (
    LabelsFn,
    first_batches,
    shuffled_batches,
)
from branchline.components.branch_trainer.trainer import History, Progress, Trainer
from branchline.components.routing.has_label import has_label
from branchline.schemas import BranchlineError, PathTraining, Recipe, Route, Target
from branchline.schemas.schedules import AsPlanned, Situation, as_schedule

_progress = logging.getLogger("branchline.progress")
_VALIDATION_BATCH = 1024
ConfigureTrainer = Callable[[Recipe, BranchedModel, dict[str, Any]], dict[str, Any]]


def train(
    recipe: Recipe,
    build_model: Callable[[Recipe, dict[str, dict[str, Input]]], BranchedModel],
    rows: Mapping[str, Rows],
    inputs: dict[str, dict[str, Input]],
    scales: Mapping[str, Mapping[str, Scale]],
    *,
    cache_dir: str,
    configure_trainer: ConfigureTrainer | None = None,
    start_from: Callable[[BranchedModel], None] = lambda model: None,
    **trainer_options: Any,
) -> tuple[BranchedModel, dict[str, Any]]:
    """Builds a model and trains it as the recipe says.

    Args:
        recipe: Its routes and training.
        build_model: Makes the model, with a path for every route, named like it, and a head for
            every label (see `check_heads`).
        rows: Route → its training rows, for the routes to be trained; a path without rows keeps
            its first weights.
        inputs: Route → what its branch gets.
        scales: Route → label → its scale, see `scales_of`.
        cache_dir: A folder for rows that do not fit in memory.
        configure_trainer: Takes recipe, model and the keyword arguments for `Trainer`, and returns
            those to use; None leaves them as they are.
        start_from: Gives the built model the weights to start from.
        **trainer_options: Passed to `Trainer`.

    Returns:
        The trained model, and what the trainer did as plain JSON.

    Raises:
        BranchlineError: The model's heads do not fit the routes' labels, or `configure_trainer`
            does not return a dict.
    """
    training = recipe.training
    keras.utils.set_random_seed(training.seed)
    with one_name():
        model = build_model(recipe, inputs)
    held_back = {name: _held_back(recipe, name, rows[name]) for name in rows}
    sizes = {name: rows[name].count - held_back[name] for name in rows}
    due = _steps_due(recipe, sizes)
    labels_fns = {name: _labels_fn(recipe.routing[name], scales[name]) for name in rows}
    streams = {
        name: shuffled_batches(
            rows[name],
            skip=held_back[name],
            batch_size=training.batch_size,
            seed=training.seed,
            labels_fn=labels_fns[name],
            cache_file=os.path.join(cache_dir, name),
        )
        for name in rows
    }
    for route in recipe.routing.routes:
        specs: Any = [input_specs(inputs[route.name])]
        if route.name in streams:
            specs = streams[route.name].element_spec
        check_heads(model, route, specs[0])
    weigh_classes(model, recipe.routing, rows)
    count_items(model, recipe.routing, rows)
    start_from(model)
    options: dict[str, Any] = {
        "streams": streams,
        "schedule": training.schedule,
        "sizes": sizes,
        "settings": {
            name: path_settings(_path(recipe, name, held_back[name]), due[name]) for name in rows
        },
        "steps": training.steps,
        "steps_per_loop": training.steps_per_loop,
        "seed": training.seed,
        "validation": {
            name: first_batches(
                rows[name],
                take=held_back[name],
                batch_size=_VALIDATION_BATCH,
                labels_fn=labels_fns[name],
                cache_file=os.path.join(cache_dir, f"{name}.watched"),
            )
            for name in rows
            if held_back[name]
        },
        "validate_every": training.validate_every,
        "optimizer_state": training.optimizer_state,
        "jit_compile": training.jit_compile,
        "on_progress": _Report(),
        **trainer_options,
    }
    if configure_trainer is not None:
        options = _configured(configure_trainer(recipe, model, options))
    if options["schedule"] is training.schedule:
        decaying = [name for name in rows if training.path(name).decay != "constant"]
        limits = {name: due[name] for name in decaying}
        options |= {"schedule": AsPlanned(as_schedule(training.schedule), limits)}
    trainer = Trainer(model, **options)
    started = time.monotonic()
    history = trainer.run()
    return model, _summary(model, history, time.monotonic() - started)


def _configured(options: Any) -> dict[str, Any]:
    if not isinstance(options, dict):
        raise BranchlineError(
            f"configure_trainer: got {options!r}, expected the dict of Trainer's keyword arguments "
            "that it was given, changed or not; does it return it?"
        )
    return options


def _held_back(recipe: Recipe, name: str, rows: Rows) -> int:
    """How many of the route's first rows are watched; none if not one that counts has a label."""
    if recipe.training.path(name).early_stopping is None:
        return 0
    wanted = max(1, round(rows.count * recipe.training.validation_share))
    count = min(rows.count - 1, wanted)
    route = recipe.routing[name]
    counts = np.asarray(rows.labels[route.weight][:count]) > 0 if route.weight else True
    for key, target in route.labels.items():
        values = np.reshape(np.asarray(rows.labels[key][:count]), [-1, target.num_values])
        if (has_label(values, target) & counts).any():
            return count
    if count:
        _progress.warning(
            "%s does not stop early: none of the %d rows held back to watch it has a label%s; a "
            "greater validation_share holds back more",
            *(name, count, " and a weight above 0" if route.weight else ""),
        )
    return 0


def _path(recipe: Recipe, name: str, held_back: int) -> PathTraining:
    """The route's settings; without a row to watch it cannot stop early."""
    path = recipe.training.path(name)
    return path if held_back else dataclasses.replace(path, early_stopping=None)


def _steps_due(recipe: Recipe, sizes: Mapping[str, int]) -> dict[str, int]:
    """How many of all steps the schedule gives to each route, as long as none of them stops."""
    names = tuple(sizes)
    none_done = dict.fromkeys(names, 0)
    situation = Situation(names, names, none_done, sizes, recipe.training.seed)
    schedule = as_schedule(recipe.training.schedule)
    schedule.check(situation)
    turns = schedule.routes(situation, recipe.training.steps)
    return {name: max(1, turns.count(name)) for name in names}


def _labels_fn(route: Route, scales: Mapping[str, Scale]) -> LabelsFn:
    """Makes what gives labels as the losses take them; what stands for a missing one stays so."""

    def standardise(labels: dict[str, Any]) -> tuple:
        standardised = {
            key: _standardise_one(labels[key], target, scales[key])
            for key, target in route.labels.items()
        }
        weights = () if route.weight is None else (labels[route.weight],)
        return standardised if route.label is None else standardised[route.label], *weights

    return standardise


def _standardise_one(label: tf.Tensor, target: Target, scale: Scale) -> tf.Tensor:
    if target.is_multiclass or target.top_k:
        return label
    if target.is_number:
        label = (label - scale.mean) / scale.std
    label = tf.cast(label, tf.float32)
    return label if target.label_shape else label[:, None]


class _Report:
    """Logs progress, and once for each route that it is no longer trained, and why."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        losses = ", ".join(f"{name} {loss:.4g}" for name, loss in progress.losses.items())
        _progress.info(
            "step %d of %d: %s (%.0f examples/s)",
            progress.step,
            progress.steps,
            losses,
            progress.examples_per_second,
            extra={"progress": {"component": "BranchTrainer"} | dataclasses.asdict(progress)},
        )
        for name in sorted(set(progress.stopped) - self.told):
            level = logging.WARNING if name in progress.not_finite else logging.INFO
            _progress.log(level, "%s is no longer trained: %s", name, progress.stopped[name])
        self.told.update(progress.stopped)


def _summary(model: BranchedModel, history: History, seconds: float) -> dict[str, Any]:
    device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    routes = {
        name: {
            "steps": history.steps[name],
            "examples": history.examples[name],
            "loss": history.losses[name][-1][1] if history.losses[name] else None,
            "losses": history.losses[name],
            "validation": history.validation.get(name, []),
            "stopped": history.stopped.get(name),
            "parameters": sum(int(np.prod(v.shape)) for v in model.variables_of(name)),
        }
        for name in history.steps
    }
    return {
        "steps": history.step,
        "seconds": seconds,
        "device": device,
        "loop": history.loop,
        "routes": routes,
    }
