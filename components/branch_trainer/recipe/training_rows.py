"""Reads the rows that a recipe trains on, and tells which routes have too few."""

import logging

from branchline.components.branch_trainer.streams.read_rows import RowReader, Rows
from branchline.components.files.routed import route_files
from branchline.schemas import BranchlineError, Recipe
from branchline.schemas.scarce import may_be_scarce

_progress = logging.getLogger("branchline.progress")


def read_all(reader: RowReader, recipe: Recipe, uris: list[str], split: str) -> dict[str, Rows]:
    """Reads the training rows of all routes, as many as the recipe's budget allows into memory.

    Raises:
        BranchlineError: A route has no rows, and the recipe does not let it be passed over.
    """
    files = route_files(uris, split, recipe.routing.names)
    rows: dict[str, Rows] = {}
    for name, found in reader.read(files, recipe.training.memory_limit).items():
        if found.count < max(1, recipe.least_rows) and may_be_scarce(recipe.scarce, name):
            told = "%s has %d examples in %s and is not trained"
            _progress.warning(told, name, found.count, split)
            continue
        if not found.count:
            raise BranchlineError(
                f"route {name!r} has no example in split {split!r}; it cannot be trained"
            )
        rows[name] = found
    if not rows:
        raise BranchlineError(f"no route has an example in split {split!r}: nothing to train")
    return rows
