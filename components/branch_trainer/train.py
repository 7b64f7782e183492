"""Trains a recipe's model on the transformed examples of its routes."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.check_heads import check_heads
from branchline.components.branch_trainer.inputs import (
    Input,
    parse_batch,
    read_once,
    read_shuffled,
)
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.settings_of import path_settings
from branchline.components.branch_trainer.trainer import History, Progress, Trainer
from branchline.components.routing.has_label import has_label
from branchline.schemas import BranchlineError, PathTraining, Recipe, Route, Target
from branchline.schemas.schedules import Situation, as_schedule

_progress = logging.getLogger("branchline.progress")
_VALIDATION_BATCH = 1024
ConfigureTrainer = Callable[[Recipe, BranchedModel, dict[str, Any]], dict[str, Any]]


class Scale(NamedTuple):
    """Mean and standard deviation of a regression's labels; a head learns (label − mean) / std."""

    mean: float = 0.0
    std: float = 1.0


class Labels(NamedTuple):
    """What one pass over a route's labels tells: how many rows, and each label's scale."""

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    scales: dict[str, Scale]


def survey_labels(files: list[str], route: Route) -> Labels:
    """Counts the examples of a route, and measures the labels of regressions over all entries.

    Raises:
        BranchlineError: There is no example, or none that has one of the labels.
    """
    count, found = 0, {key: [] for key in route.labels}
    for _, labels in read_once(files, route, {}, batch_size=4096):
        by_key: Any = labels if route.label is None else {route.label: labels}
        for key, target in route.labels.items():
            rows = np.reshape(by_key[key].numpy(), [-1, target.num_values])
            there = rows[has_label(rows, target)]
            found[key].append(there if target.task == "regression" else there[:, :1])
        count += len(by_key[next(iter(found))])
    if not count:
        raise BranchlineError(f"route {route.name!r} has no example in train; it cannot be trained")
    values = {key: np.concatenate(parts) for key, parts in found.items()}
    for key, of_label in values.items():
        if not len(of_label):
            raise BranchlineError(
                f"none of the {count} examples of route {route.name!r} in train has the label "
                f"{key!r}; it cannot be learnt"
            )
    return Labels(count, {key: _scale(values[key], t) for key, t in route.labels.items()})


def _scale(values: np.ndarray, target: Target) -> Scale:
    if target.task != "regression":
        return Scale()
    values = values.astype(np.float64)
    return Scale(float(values.mean()), float(values.std()) or 1.0)


def train(
    recipe: Recipe,
    build_model: Callable[[Recipe, dict[str, dict[str, Input]]], BranchedModel],
    files: Mapping[str, list[str]],
    inputs: dict[str, dict[str, Input]],
    labels: Mapping[str, Labels],
    *,
    configure_trainer: ConfigureTrainer | None = None,
    **trainer_options: Any,
) -> tuple[BranchedModel, dict[str, Any]]:
    """Builds a model and trains it as the recipe says.

    Args:
        recipe: Its routes and training.
        build_model: Makes the model, with a path for every route, named like it, and a head for
            every label (see `check_heads`).
        files: Route → TFRecord files of transformed examples.
        inputs: Route → what its branch gets.
        labels: Route → what `survey_labels` told.
        configure_trainer: Takes recipe, model and the keyword arguments for `Trainer`, and returns
            those to use; None leaves them as they are.
        **trainer_options: Passed to `Trainer`.

    Returns:
        The trained model, and what the trainer did as plain JSON.

    Raises:
        BranchlineError: The model's heads do not fit the routes' labels, or `configure_trainer`
            does not return a dict.
    """
    training, names = recipe.training, recipe.routing.names
    keras.utils.set_random_seed(training.seed)
    model = build_model(recipe, inputs)
    held_back = {name: _held_back(recipe, name, labels[name].count) for name in names}
    sizes = {name: labels[name].count - held_back[name] for name in names}
    due = _steps_due(recipe, sizes)
    streams = {
        name: _stream(recipe, name, files, inputs, labels, held_back[name]) for name in names
    }
    for name in names:
        spec: Any = streams[name].element_spec
        check_heads(model, recipe.routing[name], spec[0])
    options: dict[str, Any] = {
        "streams": streams,
        "schedule": training.schedule,
        "sizes": sizes,
        "settings": {
            name: path_settings(_path(recipe, name, held_back[name]), due[name]) for name in names
        },
        "steps": training.steps,
        "steps_per_loop": training.steps_per_loop,
        "seed": training.seed,
        "validation": {
            name: _validation(recipe, name, files, inputs, labels, held_back[name])
            for name in names
            if held_back[name]
        },
        "validate_every": training.validate_every,
        "on_progress": _Report(),
        **trainer_options,
    }
    if configure_trainer is not None:
        options = _configured(configure_trainer(recipe, model, options))
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


def _held_back(recipe: Recipe, name: str, count: int) -> int:
    if recipe.training.path(name).early_stopping is None:
        return 0
    return min(count - 1, max(1, round(count * recipe.training.validation_share)))


def _path(recipe: Recipe, name: str, held_back: int) -> PathTraining:
    """The route's settings; without a row to watch it cannot stop early."""
    path = recipe.training.path(name)
    return path if held_back else dataclasses.replace(path, early_stopping=None)


def _steps_due(recipe: Recipe, sizes: Mapping[str, int]) -> dict[str, int]:
    """How many of all steps the schedule gives to each route, as long as none of them stops."""
    names = recipe.routing.names
    none_done = dict.fromkeys(names, 0)
    situation = Situation(names, names, none_done, sizes, recipe.training.seed)
    schedule = as_schedule(recipe.training.schedule)
    schedule.check(situation)
    turns = schedule.routes(situation, recipe.training.steps)
    return {name: max(1, turns.count(name)) for name in names}


def _stream(recipe, name, files, inputs, labels, skip: int) -> tf.data.Dataset:
    training, route = recipe.training, recipe.routing[name]
    stream = read_shuffled(
        files[name],
        route,
        inputs[name],
        batch_size=training.batch_size,
        seed=training.seed,
        count=labels[name].count - skip,
        skip=skip,
        labels_fn=lambda y: _standardise(y, route, labels[name].scales),
    )
    return stream.prefetch(4)


def _validation(recipe, name, files, inputs, labels, take: int) -> tf.data.Dataset:
    route = recipe.routing[name]
    rows = tf.data.TFRecordDataset(sorted(files[name]), compression_type="GZIP").take(take)
    parsed = rows.batch(_VALIDATION_BATCH).map(lambda each: parse_batch(each, route, inputs[name]))
    return parsed.map(lambda x, y: (x, _standardise(y, route, labels[name].scales))).cache()


def _standardise(labels: Any, route: Route, scales: Mapping[str, Scale]) -> Any:
    """Gives labels as the losses take them; what stands for a missing one stays so."""
    if route.label is not None:
        return _standardise_one(labels, route.labels[route.label], scales[route.label])
    return {key: _standardise_one(labels[key], t, scales[key]) for key, t in route.labels.items()}


def _standardise_one(label: tf.Tensor, target: Target, scale: Scale) -> tf.Tensor:
    if target.task == "multiclass":
        return label
    if target.task == "regression":
        label = (label - scale.mean) / scale.std
    label = tf.cast(label, tf.float32)
    return label if target.shape else label[:, None]


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
            level = logging.WARNING if "not finite" in progress.stopped[name] else logging.INFO
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
    return {"steps": history.step, "seconds": seconds, "device": device, "routes": routes}
