"""Plans a training: builds the model on its streams, and makes a step for each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.loop.checkpoint import described
from branchline.components.branch_trainer.loop.compiled_loop import CompiledLoop, have_one_shape
from branchline.components.branch_trainer.loop.early_stop import BestWeights
from branchline.components.branch_trainer.loop.faster_loop import FasterLoop
from branchline.components.branch_trainer.loop.history import COMPILED, OPERATIONS, History
from branchline.components.branch_trainer.loop.loop import Loop
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.one_name import one_name
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.owners import shared_owners
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.step import Step, objective_of, why_not_compiled
from branchline.components.branch_trainer.streams.seekable import check_stream, open_at

Streams = Mapping[str, tf.data.Dataset]


def build_model(
    model: BranchedModel,
    streams: Streams,
    settings: Mapping[str, PathSettings],
    replicas: OneReplica,
) -> None:
    """Builds the layers of all paths that are trained, also by a leak to them.

    Args:
        model: whose layers may be built already.
        streams: path → its dataset.
        settings: path → its settings, in the order in which they are built.
        replicas: under whose scope the variables are made.

    Raises:
        ValueError, TypeError: a stream is not one of batches, a path does not take its features, or
            the model's variables are not those of the replicas.
    """
    features: dict[str, Any] = {}
    with replicas.scope(), one_name():
        for path in settings:
            check_stream(path, streams[path])
            spec: Any = streams[path].element_spec
            features[path] = spec[0]
            # Of mixed batches, features come with path ids.
            model.build_path(*((path, spec[0]) if path in model.paths else spec[0][::-1]))
        for path, chosen in settings.items():
            for other in [other for other, share in chosen.leak.items() if share]:
                if not all(part.built for part in model.parts_of(other).values()):
                    model.build_path(other, features[path])
    replicas.check_made_here(model.variables)


def make_steps(
    model: BranchedModel,
    settings: Mapping[str, PathSettings],
    replicas: OneReplica,
    *,
    seed: int,
    has_shared_owners: bool,
    jit_compile: bool,
) -> list[Step]:
    """Makes a step for each stream, in the order of the settings, with all slots.

    Raises:
        ValueError, KeyError: as `Step`, `objective_of` and `shared_owners`.
    """
    with replicas.scope(), one_name():
        objectives = [
            objective_of(model, path, chosen, others=settings, replicas=replicas, seed=seed)
            for path, chosen in settings.items()
        ]
        owners = {}
        if has_shared_owners:
            owners = shared_owners(model, objectives, replicas.take_over)
        return [
            Step(each, owners=owners.get(each.name), jit_compile=jit_compile) for each in objectives
        ]


def best_weights(
    model: BranchedModel, settings: Mapping[str, PathSettings], validated: Sequence[str]
) -> dict[str, BestWeights]:
    """Returns path → what remembers its best weights, for paths that stop early.

    Raises:
        ValueError: one of them has no validation data.
    """
    rules = {path: chosen.early_stop for path, chosen in settings.items() if chosen.early_stop}
    without = sorted(set(rules) - set(validated))
    if without:
        raise ValueError(f"early_stop of {without} needs validation data for them: validation=")
    return {path: BestWeights(model.own_state_of(path), rule) for path, rule in rules.items()}


def variables_of(model: BranchedModel, steps: Sequence[Step]) -> dict[str, list[tf.Variable]]:
    """Returns all variables that training changes, by kind, each once."""
    slots = {id(variable): variable for step in steps for variable in step.state}
    return {
        "weights": [variable.value for variable in model.variables],
        "optimizer slots": list(slots.values()),
    }


def identity_of(
    model: BranchedModel,
    steps: Sequence[Step],
    streams: Streams,
    schedule: Any,
) -> dict[str, Any]:
    """Returns plain facts that have to be the same for a training to be resumed."""
    paths = [step.name for step in steps]
    return {
        "paths": paths,
        "streams": [str(streams[path].element_spec) for path in paths],
        "stream lengths": [int(streams[path].cardinality()) for path in paths],
        "schedule settings": described(schedule),
        "optimizers": [type(step.optimizer).__name__ for step in steps],
        "parts and their variables": model.places(),
    }


def open_loop(
    steps: Sequence[Step],
    streams: Streams,
    replicas: OneReplica,
    history: History,
    *,
    repeat: bool,
    jit_compile: bool | str,
    num_steps: int,
    steps_per_loop: int,
) -> Loop | CompiledLoop | FasterLoop:
    """Opens the streams where the history stands in them, and the loop that takes the steps.

    XLA compiles windows of `steps_per_loop` steps, where all batches of a stream have one shape
    (`drop_remainder`); else, and on a GPU, it compiles each step for each shape. Small models are
    up to several times as fast for it, convolutions much slower. What is compiled raises no errors:
    a label or an id out of range makes the loss not finite (of our Embedding; Keras's takes another
    row).

    Args:
        steps: one for each stream, in the order of the route ids.
        streams: path → its dataset.
        replicas: what runs the steps.
        history: of what was done before; is told in `loop` how steps run.
        repeat: whether streams begin again when they end.
        jit_compile: True, False, or "auto": as measured in the first windows, unless the training
            is short or something cannot be compiled.
        num_steps: of the whole training.
        steps_per_loop: how many of them are one window.

    Raises:
        ValueError: XLA cannot compile the steps, and is told to.
    """

    def rest() -> list[tf.data.Dataset]:
        done = history.steps
        return [open_at(streams[s.name], done[s.name], repeat=repeat) for s in steps]

    def open_operations() -> Loop:
        parts = [replicas.split(stream) for stream in rest()]
        return Loop(steps, parts, replicas.steps_per_call)

    def open_compiled() -> CompiledLoop:
        return CompiledLoop(steps, rest(), steps_per_loop)

    # How windows do on a GPU is not known: there, each step is compiled alone.
    fits = have_one_shape(list(streams.values())) and not tf.config.list_logical_devices("GPU")
    if jit_compile == "auto" and fits and replicas.can_compile:
        if not any(why_not_compiled(step.objective) for step in steps):
            return FasterLoop(open_operations, open_compiled, history, num_steps)
    history.loop = COMPILED if jit_compile is True else OPERATIONS
    if not (jit_compile is True and fits):
        return open_operations()
    loop = open_compiled()
    loop.compile()
    return loop
