"""Owners: which optimizer updates a variable, holds its slots, and counts its updates.

An owner's variables are always updated together, in the steps from which they can learn something.
So a branch without rows in a mixed batch, a head without labels, or a layer that is switched off is
left alone by momentum and weight decay, and its clock stands still.

Owners are private to a stream, or shared by all streams of a training; see
`Trainer(optimizer_state=…)`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.parts import Head
from branchline.components.branch_trainer.model.selective import conditions_in
from branchline.components.branch_trainer.step.optimizers import copy_of, same_but_for_rate


class Source(NamedTuple):
    """Rows of a batch from which variables learn.

    Attributes:
        path: that the rows take.
        head: name of one whose labels may be missing: rows that have its label; None: all rows.
    """

    path: str
    head: str | None


Sources = frozenset[Source]


class Owner(NamedTuple):
    """One optimizer with the variables that it updates.

    Attributes:
        optimizer: built on the variables.
        variables: trainable ones.
        sources: a batch with rows of one of them is one to learn from.
        conditions: all of them have to be above 0, too.
        is_shared: whether its learning rate is that of the stream whose step it is.
    """

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    sources: Sources
    conditions: tuple[tf.Variable, ...]
    is_shared: bool = False


class Trained(Protocol):
    """What owners have to know of a stream's objective."""

    name: str
    optimizer: keras.optimizers.Optimizer
    trained: list[keras.Variable]
    layers: list[keras.Layer]

    def sources_of(self, variable: keras.Variable) -> Sources:
        """Returns the rows of the stream's batches from which a variable learns."""
        ...


def source_of(path: str, head: Head) -> Source:
    """Returns the rows of a path from which a head learns."""
    return Source(path, None if head.missing is None else head.name)


def sources_of(model: BranchedModel, paths: Iterable[str]) -> dict[int, Sources]:
    """Returns id of a trainable variable → the rows of some paths from which it learns."""
    found: dict[int, set[Source]] = {}
    for path in paths:
        own = {head.name: {source_of(path, head)} for head in model.heads_of(path)}
        of_all = set[Source]().union(*own.values())
        for name, part in model.parts_of(path).items():
            for variable in part.trainable_variables:
                found.setdefault(id(variable), set()).update(own.get(name, of_all))
    return {key: _without_parts(sources) for key, sources in found.items()}


def _without_parts(sources: set[Source]) -> Sources:
    """Leaves out rows with a label where all rows of the path are there anyway."""
    whole = {source.path for source in sources if source.head is None}
    return frozenset(s for s in sources if s.head is None or s.path not in whole)


def private_owners(stream: Trained, take_over: Callable) -> list[Owner]:
    """Makes the owners of what one stream trains, for it alone.

    Its optimizer itself gets the variables that most batches update; others get copies.

    Args:
        stream: its objective, whose optimizer is not built.
        take_over: makes an optimizer that is built fit for the replicas.
    """
    conditions = conditions_in(stream.layers)
    groups: dict[tuple, Owner] = {}
    for variable in stream.trained:
        sources, on = stream.sources_of(variable), conditions.get(id(variable), ())
        key = sources, tuple(map(id, on))
        groups.setdefault(key, Owner(stream.optimizer, [], sources, on)).variables.append(variable)
    first, *others = sorted(groups.values(), key=_rarity)
    return [
        _built(owner, take_over)
        for owner in (first, *(o._replace(optimizer=copy_of(o.optimizer)) for o in others))
    ]


def _rarity(owner: Owner) -> tuple:
    of_all_rows = any(source.head is None for source in owner.sources)
    return bool(owner.conditions), not of_all_rows, -len(owner.sources)


def shared_owners(
    model: BranchedModel,
    streams: Sequence[Trained],
    take_over: Callable,
) -> dict[str, list[Owner]]:
    """Makes one owner for variables that the same streams train, whatever batch a step has.

    Args:
        model: of all streams.
        streams: their objectives; optimizers of those that train the same variable are the same
            but for the learning rate.
        take_over: makes an optimizer that is built fit for the replicas.

    Returns:
        Stream → the owners of what it trains.

    Raises:
        ValueError: optimizers differ, or one scales the loss; names the streams.
    """
    optimizers = {stream.name: stream.optimizer for stream in streams}
    for name, optimizer in optimizers.items():
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                f"optimizer_state='shared', and the optimizer of {name!r} scales the loss, with a "
                "scale of its own; use optimizer_state='path', or mixed_bfloat16, which needs none"
            )
    sources = sources_of(model, model.paths)
    conditions = conditions_in([*model.stages, *model.heads])
    trained_by: dict[int, tuple[str, ...]] = {}
    variables: dict[int, keras.Variable] = {}
    for stream in streams:
        for variable in stream.trained:
            trained_by[id(variable)] = (*trained_by.get(id(variable), ()), stream.name)
            variables[id(variable)] = variable
    groups: dict[tuple, Owner] = {}
    for key, names in trained_by.items():
        on = conditions.get(key, ())
        group = names, sources[key], tuple(map(id, on))
        if group not in groups:
            _check_same(names, variables[key], optimizers)
            optimizer = copy_of(optimizers[names[0]], learning_rate=0.0)
            groups[group] = Owner(optimizer, [], sources[key], on, is_shared=True)
        groups[group].variables.append(variables[key])
    built = {group: _built(owner, take_over) for group, owner in groups.items()}
    return {stream.name: _in_order(stream, built) for stream in streams}


def _in_order(stream: Trained, built: Mapping[tuple, Owner]) -> list[Owner]:
    """Returns the owners of what a stream trains, as its variables come."""
    place = {id(v): i for i, v in enumerate(stream.trained)}
    mine = [owner for (names, *_), owner in built.items() if stream.name in names]
    return sorted(mine, key=lambda owner: place[id(owner.variables[0])])


def _check_same(
    names: tuple[str, ...],
    variable: keras.Variable,
    optimizers: Mapping[str, keras.optimizers.Optimizer],
) -> None:
    first = names[0]
    for other in names[1:]:
        if not same_but_for_rate(optimizers[first], optimizers[other]):
            raise ValueError(
                f"optimizer_state='shared', and {first!r} and {other!r}, which both train "
                f"{variable.path!r}, have optimizers that differ in more than the learning rate; "
                "give them the same, or use optimizer_state='path'"
            )


def _built(owner: Owner, take_over: Callable) -> Owner:
    owner.optimizer.build(owner.variables)
    take_over(owner.optimizer)
    return owner
