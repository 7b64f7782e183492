"""Checks the arguments of a training against each other, and fills in defaults."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.streams.seekable import is_mixed


def paths_of(model: BranchedModel, streams: Mapping[str, tf.data.Dataset]) -> tuple[str, ...]:
    """Returns the names of the streams: paths in the model's order, then mixed ones.

    Raises:
        KeyError: a stream of uniform batches is of no path of the model.
        ValueError: there is no stream.
    """
    for path, stream in streams.items():
        if not is_mixed(stream):
            model.path_named(path)
    if not streams:
        raise ValueError(f"streams is empty, expected a dataset for some of {list(model.paths)}")
    mixed = [name for name in streams if name not in model.paths]
    return (*(path for path in model.paths if path in streams), *mixed)


def settings_of(
    paths: tuple[str, ...], settings: Mapping[str, PathSettings]
) -> dict[str, PathSettings]:
    """Returns the settings of every path, the defaults where none are given.

    Raises:
        ValueError: settings are for a path without stream, or paths share an optimizer.
    """
    unknown = sorted(set(settings) - set(paths))
    if unknown:
        raise ValueError(
            f"settings for {unknown}, which have no stream; those that do: {list(paths)}"
        )
    complete = {path: settings.get(path, PathSettings()) for path in paths}
    owners: dict[int, str] = {}
    for path, chosen in complete.items():
        if chosen.optimizer is None:
            continue
        other = owners.setdefault(id(chosen.optimizer), path)
        if other != path:
            raise ValueError(f"Paths {other!r} and {path!r} share one optimizer; give each its own")
    return complete


def at_least_one(**named: int) -> int:
    """Returns the one value given.

    Raises:
        ValueError: it is below 1; names it.

    >>> at_least_one(steps=3)
    3
    """
    ((name, value),) = named.items()
    if value < 1:
        raise ValueError(f"{name}={value}, expected at least 1")
    return value


def one_of(values: tuple, **named: Any) -> Any:
    """Returns the one value given.

    Raises:
        ValueError: it is none of those expected; names it.

    >>> one_of(("a", "b"), letter="a")
    'a'
    """
    ((name, value),) = named.items()
    if value not in values:
        raise ValueError(f"{name}={value!r}, expected one of {', '.join(map(repr, values))}")
    return value
