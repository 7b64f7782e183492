"""Learns the names of classes from the training rows, where a target has classes="learn"."""

from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from branchline.components.branch_trainer.streams.read_files import serialized_rows
from branchline.components.branch_trainer.streams.read_rows import BATCH
from branchline.components.files.routed import route_files
from branchline.components.routing.read_lists import Texts, names_alone, split_texts
from branchline.schemas import BranchlineError, Recipe, Target
from branchline.schemas.learnt_names import learning_outputs, with_names
from branchline.schemas.scarce import may_be_scarce

_TOLD = 5


def learn_names(recipe: Recipe, uris: Sequence[str], split: str) -> Recipe:
    """Gives the targets that learn them the names that the training rows hold, sorted.

    Args:
        recipe: Any; one without such targets stays as it is, and nothing is read.
        uris: Of the routed examples.
        split: That is trained on.

    Raises:
        BranchlineError: There are too many or too few names for a target, or one is not UTF-8.
    """
    outputs = learning_outputs(recipe.routing)
    files = route_files(uris, split, {route for route, _ in outputs.values()}) if outputs else {}
    names = {}
    for output, (route, key) in outputs.items():
        target = recipe.routing[route].labels[key]
        column = recipe.routing.column(route, key)
        most = 2 if target.task == "binary" else target.num_classes or 0
        found, num_rows = _read(files[route], column, target.separator, most)
        where = f"route {route!r}, label {key!r}"
        try:
            learnt = sorted(name.decode() for name in found)
        except UnicodeDecodeError as error:
            raise BranchlineError(f"{where}: a name of a class is not UTF-8: {error}") from error
        scarce = num_rows < max(1, recipe.least_rows) and may_be_scarce(recipe.scarce, route)
        if scarce:  # such a route is not trained, and its head predicts nothing
            learnt = [*learnt, *("not learnt", "not learnt either")][: max(2, len(learnt))]
        _check(learnt, most, target, where, split)
        names[output] = learnt
    return replace(recipe, routing=with_names(recipe.routing, names)) if names else recipe


def _read(
    files: list[str], column: str, separator: str | None, most: int
) -> tuple[set[bytes], int]:
    """Reads which names there are, until there are more than `most`, and in how many rows."""
    found: set[bytes] = set()
    num_rows = 0
    for serialized in serialized_rows(files).batch(BATCH):
        spec = {column: tf.io.VarLenFeature(tf.string)}
        held = tf.io.parse_example(serialized, spec)[column]
        texts = Texts(held.indices[:, 0], held.values)
        everywhere = tf.ones_like(texts.rows, tf.bool)
        if separator:
            texts = split_texts(texts, everywhere, separator)
            everywhere = tf.ones_like(texts.rows, tf.bool)
        found |= set(tf.unique(names_alone(texts, everywhere).values).y.numpy().tolist())
        num_rows += len(serialized)
        if len(found) > most:
            break
    return found, num_rows


def _check(names: list[str], most: int, target: Target, where: str, split: str) -> None:
    told = f"{', '.join(map(repr, names[:_TOLD]))}{' …' if len(names) > _TOLD else ''}"
    if target.task == "binary" and len(names) != 2:
        number = "more than two" if len(names) > 2 else len(names)
        raise BranchlineError(
            f"{where}: {split} has {number} names of classes, {told or 'none at all'}; "
            f'task="binary" learns exactly two: use "multiclass", or name them by classes=(…)'
        )
    if len(names) > most:
        raise BranchlineError(
            f"{where}: {split} has more than {most} names of classes, such as {told}; at most "
            f"{most} are learnt: give a greater num_classes=, or fewer names in the records"
        )
    if len(names) < 2:
        raise BranchlineError(
            f"{where}: {split} has {len(names)} names of classes, {told or 'none at all'}; two are "
            "needed to learn to tell them apart"
        )
