"""Brings the flags about single steps into a recipe's resources."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from branchline.pipeline.load_recipe import suggest
from branchline.schemas import Recipe, RecipeError, Resources
from branchline.schemas.resources import EVERY_STEP, GPU_STEPS, STEPS

_GPU_TYPES = {"kfp": "nvidia.com/gpu", "vertex": "NVIDIA_TESLA_T4"}


def with_flags(
    recipe: Recipe,
    *,
    gpus: int | None = None,
    gpu_type: str | None = None,
    step_images: Iterable[str] = (),
    secrets: Iterable[str] = (),
    env: Iterable[str] = (),
) -> Recipe:
    """A recipe that has in its resources what the command line adds to them.

    Args:
        recipe: Stays as it is.
        gpus: For the training step; None leaves it as it is.
        gpu_type: Of these.
        step_images: `STEP=IMAGE` each.
        secrets: `[STEP:]VARIABLE=SECRET/KEY` each.
        env: `[STEP:]VARIABLE=VALUE` each.

    Raises:
        RecipeError: A flag is not of its form, names no step, or the type of no GPU.
    """
    changes: list[tuple[str, dict[str, Any]]] = []
    if gpus is not None:
        changes += [(step, {"gpus": gpus}) for step in GPU_STEPS]
    if gpu_type is not None:
        changes += [(step, {"gpu_type": gpu_type}) for step in GPU_STEPS]
    for text in step_images:
        step, image = _pair("--step-image", text, "STEP=IMAGE")
        changes.append((_step("--step-image", step), {"image": image}))
    variables = (("--secret", "secrets", secrets, "SECRET/KEY"), ("--env", "env", env, "VALUE"))
    for flag, field, texts, form in variables:
        for text in texts:
            name, value = _pair(flag, text, f"[STEP:]VARIABLE={form}")
            step, colon, variable = name.rpartition(":")
            changes.append((_step(flag, step) if colon else EVERY_STEP, {field: {variable: value}}))
    resources = dict(recipe.resources)
    for step, fields in changes:
        resources[step] = _merged(resources.get(step, Resources()), fields)
    recipe = dataclasses.replace(recipe, resources=resources)
    if gpu_type is not None and not any(resources_of(recipe, step).gpus for step in GPU_STEPS):
        raise RecipeError(f"--gpu-type {gpu_type}: no GPU is asked for; add --gpus N")
    return recipe


def resources_of(recipe: Recipe, step: str) -> Resources:
    """What one step gets: its own resources, and those of all."""
    common = recipe.resources.get(EVERY_STEP, Resources())
    return recipe.resources.get(step, Resources()).over(common)


def accelerator_type(resources: Resources, backend: str) -> str:
    """The name of the accelerator as the backend wants it.

    Raises:
        RecipeError: It is named as on the other backend.
    """
    kind = resources.gpu_type or _GPU_TYPES[backend]
    if ("/" in kind) != ("/" in _GPU_TYPES[backend]):
        raise RecipeError(
            f"gpu_type {kind} is not of --backend {backend}: expected one such as "
            f"--gpu-type {_GPU_TYPES[backend]}"
        )
    return kind


def _merged(old: Resources, fields: Mapping[str, Any]) -> Resources:
    values = {
        name: {**getattr(old, name), **value} if isinstance(value, Mapping) else value
        for name, value in fields.items()
    }
    return dataclasses.replace(old, **values)


def _pair(flag: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and (value or flag == "--env")):
        raise RecipeError(f"{flag} {text}: expected {form}")
    return name, value


def _step(flag: str, step: str) -> str:
    if step not in STEPS:
        raise RecipeError(
            f"{flag}: there is no step {step!r}; the steps are {', '.join(STEPS)}"
            f"{suggest(step, list(STEPS))}"
        )
    return step
