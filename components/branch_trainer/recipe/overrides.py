"""What the pipeline, a tuner and a recipe's file say over a recipe that is read from JSON."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from branchline.components.files.storage import read_json
from branchline.schemas import BranchlineError, Recipe
from branchline.schemas.errors import check_int, reject


def read_hyperparameters(uri: str) -> dict[str, Any]:
    """Reads what TFX's Tuner found best: fields of `Training` by their names.

    Raises:
        BranchlineError: There are no such values.
    """
    path = os.path.join(uri, "best_hyperparameters.txt")
    found = read_json(path)
    values = found.get("values") if isinstance(found, dict) else None
    if not isinstance(values, dict):
        raise BranchlineError(
            f'{path}: got {found!r}, expected {{"values": {{…}}}} as TFX writes it'
        )
    return values


def with_training(recipe: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """Gives a recipe other values for some fields of its training.

    Raises:
        RecipeError: There is no such field, or it does not take the value.
    """
    known = [field.name for field in dataclasses.fields(recipe.training)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        reject("BranchTrainer.custom_config", unknown, f"fields of Training: {', '.join(known)}")
    training = dataclasses.replace(recipe.training, **fields)
    return dataclasses.replace(recipe, training=training)


def with_functions(recipe: Recipe, module: Any) -> Recipe:
    """Gives a recipe read from JSON the schedule of its file, if that is a function."""
    schedule = module.recipe.training.schedule
    if not callable(schedule):
        return recipe
    training = dataclasses.replace(recipe.training, schedule=schedule)
    return dataclasses.replace(recipe, training=training)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Gives a recipe as many steps as the pipeline's parameter says.

    Raises:
        RecipeError: It is no number of steps.
    """
    check_int("the pipeline parameter steps", steps)
    training = dataclasses.replace(recipe.training, steps=steps)
    return dataclasses.replace(recipe, training=training)


def training_part(recipe: Recipe) -> Recipe:
    """Drops what plays no part in training, so that changing it does not train again."""
    return Recipe(
        name=recipe.name,
        routing=recipe.routing,
        training=recipe.training,
        least_rows=recipe.least_rows,
        scarce=recipe.scarce,
    )
