"""Finds the encoders of texts that a recipe names, before anything runs."""

import dataclasses
import os
from pathlib import Path

from branchline.components.branch_trainer.recipe.encoder_files import (
    encoder_hash,
    encoder_paths,
    has_encoder,
)
from branchline.schemas import Recipe, RecipeError, Route, RoutingTable, Text


def find_encoders(
    recipe: Recipe, recipe_file: Path, recipe_in_steps: str | None = None
) -> tuple[Recipe, dict[str, str]]:
    """Makes the paths of encoders absolute, and identifies what they lead to.

    Args:
        recipe: The recipe.
        recipe_file: Where it lies on this machine; paths in it are relative to its folder.
        recipe_in_steps: Where the containers of the steps have it; None if they run here.

    Returns:
        The recipe as the steps get it; and path of each encoder in the steps → its hash, "" for one
        that the containers alone have.

    Raises:
        RecipeError: There is no SavedModel, and the steps run here.
    """
    folder = os.path.dirname(recipe_in_steps) if recipe_in_steps else str(recipe_file.parent)
    hashes: dict[str, str] = {}
    for path in encoder_paths(recipe.routing):
        here = _below(str(recipe_file.parent), path)
        if recipe_in_steps is None and not has_encoder(here):
            raise RecipeError(f"Text.encoder: {here}: there is no SavedModel in this folder")
        hashes[_below(folder, path)] = encoder_hash(here)
    if not hashes:
        return recipe, {}
    routes = [_with_paths(route, folder) for route in recipe.routing.routes]
    return dataclasses.replace(recipe, routing=RoutingTable(*routes)), hashes


def _with_paths(route: Route, folder: str) -> Route:
    features = {
        key: dataclasses.replace(kind, encoder=_below(folder, kind.encoder))
        if isinstance(kind, Text) and kind.encoder
        else kind
        for key, kind in route.features.items()
    }
    return dataclasses.replace(route, features=features)


def _below(folder: str, path: str) -> str:
    if "://" in path:
        return path.rstrip("/")
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))
