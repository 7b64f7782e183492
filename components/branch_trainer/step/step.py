"""One step: the gradient of a batch, and the update of what the batch went through."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from branchline.components.branch_trainer.model.alike import path_likeness
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.embedding import nan_for_unknown_ids
from branchline.components.branch_trainer.model.selective import conditions_in
from branchline.components.branch_trainer.model.share_traces import Alike
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.batch_loss import example_losses
from branchline.components.branch_trainer.step.check_finite import checked
from branchline.components.branch_trainer.step.layer_state import LayerState
from branchline.components.branch_trainer.step.losses import label_of
from branchline.components.branch_trainer.step.mixed_objective import (
    BalancedObjective,
    MixedObjective,
    ProjectedObjective,
)
from branchline.components.branch_trainer.step.objective import Objective
from branchline.components.branch_trainer.step.optimizers import facts_of, optimizer_config
from branchline.components.branch_trainer.step.owners import Owner, private_owners
from branchline.components.branch_trainer.step.path_objective import PathObjective
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.update import Update, norm_of
from branchline.components.branch_trainer.streams.seekable import rows_of

Report = Callable[[tf.Tensor], tf.Operation]


def objective_of(
    model: BranchedModel,
    name: str,
    settings: PathSettings,
    *,
    others: Mapping[str, PathSettings] | None = None,
    replicas: OneReplica | None = None,
    seed: int = 0,
) -> Objective:
    """Returns what a stream's steps make smaller.

    Args:
        model: built on what the stream goes through.
        name: of a path, or any other for a stream of mixed batches.
        settings: of the stream.
        others: path → its settings, of those to which this one leaks: what they freeze stays.
        replicas: what runs the steps; None: they run once, here.
        seed: of PCGrad's orders.

    Raises:
        ValueError, KeyError: as `PathObjective` and `MixedObjective`.
    """
    replicas = replicas or OneReplica()
    if name in model.paths:
        return PathObjective(model, name, settings, replicas, others or {})
    if settings.conflicts == "pcgrad":
        return ProjectedObjective(model, name, settings, replicas, seed)
    mixed = BalancedObjective if settings.conflicts == "famo" else MixedObjective
    return mixed(model, name, settings, replicas)


class Step:
    """Updates the variables that a stream's batches go through; others keep values and slots.

    All slots are made here, before the first step.

    Args:
        objective: of the stream.
        owners: of the variables that it trains, shared with other streams; None: private ones.
        jit_compile: whether XLA compiles the step.

    Raises:
        ValueError: a mask does not broadcast, the optimizer is in use, or XLA cannot compile what
            the settings ask for.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        owners: Sequence[Owner] | None = None,
        jit_compile: bool = False,
    ):
        self.objective = objective
        self.name = objective.name
        self.settings = objective.settings
        self.replicas = objective.replicas
        self.scale = objective.scale
        self.jit_compile = jit_compile
        if jit_compile and (reason := why_not_compiled(objective)):
            raise ValueError(reason)
        self.optimizer = objective.optimizer
        if self.optimizer.built:
            raise ValueError(
                f"The optimizer of path {self.name!r} is already in use; "
                "give each path, and each Trainer, a new one"
            )
        self.layer_state = LayerState(objective.layer_variables, self.replicas)
        if owners is None:
            owners = private_owners(objective, self.replicas.take_over)
        else:
            self.optimizer.build([])  # it is the stream's clock and learning rate, and in use
        self.update = Update(objective, owners)
        self._compiled = tf.function(self.masked, autograph=False, jit_compile=True)

    @property
    def state(self) -> list[tf.Variable]:
        """Slots and clocks of all optimizers, accumulated gradients, the objective's own."""
        return [*self.update.state, *self.objective.state]

    def alike(self, batch: Any) -> Alike:
        """Tells with which other paths' steps this one may share a trace.

        Args:
            batch: The `tf.TypeSpec`s of its stream's batches.
        """
        settings, objective = self.settings, self.objective
        model = objective.model
        own_code = settings.mask_fn or settings.gate or self.scale.on
        own_code = own_code or conditions_in(objective.layers)
        one_device = type(self.replicas) is OneReplica
        more = settings.leak or settings.freeze or self.jit_compile or not one_device
        if self.name not in model.paths or own_code or more:
            return Alike(None, [])
        computed = path_likeness(model, self.name, batch[0])
        config = optimizer_config(self.optimizer)
        if computed is None or config is None:
            return Alike(None, [])
        chosen = (
            settings.loss_weight,
            settings.clip_norm,
            settings.clip_value,
            settings.accumulate,
            settings.embeddings,
        )
        variables = [*model.state_of(self.name), *facts_of(self.optimizer)]
        for owner in self.update.owners:
            variables += facts_of(owner.optimizer)
        kind = (computed, config, chosen, self._taken_labels(batch), len(batch), self._ownership())
        return Alike(kind, [v.handle for v in (*(v.value for v in variables), *self.state)])

    def _taken_labels(self, batch: Any) -> tuple[int, ...]:
        """Tells which of the labels the heads take, counted as `tf.nest.flatten` gives them."""
        labels = batch[1]
        places = tf.nest.pack_sequence_as(labels, list(range(len(tf.nest.flatten(labels)))))
        return tuple(label_of(h, places) for h in self.objective.model.heads_of(self.name))

    def _ownership(self) -> tuple:
        """Tells which of the variables have an owner together, and which rows it learns from."""
        places = {id(v): i for i, v in enumerate(self.objective.trained)}
        return tuple(
            (o.is_shared, tuple(places[id(v)] for v in o.variables), tuple(self.update.places(o)))
            for o in self.update.owners
        )

    def __call__(self, batch: tuple, report_fn: Report | None = None) -> tf.Tensor:
        """Takes one step.

        Args:
            batch: (features, labels) or (features, labels, sample_weight); of mixed batches,
                features are a pair (features, path ids int [batch]).
            report_fn: is given the figures before they are checked.

        Returns:
            Its figures, as `checked`.

        Raises:
            ValueError: the loss depends on none of the variables.
            tf.errors.InvalidArgumentError: loss or gradient is not finite; all
                variables are as before, statistics and random state too.
        """
        if self.jit_compile:
            return checked(*tf.unstack(self._compiled(batch)), report_fn=report_fn)
        if self.settings.gate is None:
            return self._step_on(batch, batch, report_fn)
        losses = example_losses(self.objective.model, self.name, batch)
        rows = tf.where(self.settings.gate(losses))[:, 0]
        through = tf.nest.map_structure(lambda t: tf.gather(t, rows), batch)
        return tf.cond(
            tf.size(rows) > 0,
            lambda: self._step_on(batch, through, report_fn),
            lambda: checked(
                tf.reduce_mean(losses), tf.constant(0.0), rows_of(batch), report_fn=report_fn
            ),
        )

    def _step_on(self, batch: tuple, through: tuple, report_fn: Report | None) -> tf.Tensor:
        """Steps on the examples of a batch that a gate lets through."""
        put_back = self.layer_state.remember()
        found = self.objective.gradient(batch, through)
        pairs = self.update.pairs(found.gradient)
        norm = norm_of(pairs)
        # An optimizer that scales the loss leaves out a step whose gradient is not finite.
        told_norm = self.scale.without_overflow(norm)
        figures = checked(found.loss, told_norm, found.rows, put_back, report_fn)
        with tf.control_dependencies([figures]):
            self.update(batch, found, pairs, norm)
        return figures

    def masked(self, batch: tuple) -> tf.Tensor:
        """Steps if loss and gradient are finite; what XLA compiles raises nothing.

        Args:
            batch: as of a call.

        Returns:
            Its figures, float32 [3]: loss, norm, and the number of examples.
        """
        put_back = self.layer_state.remember()
        with nan_for_unknown_ids():
            found = self.objective.gradient(batch, batch)
        pairs = self.update.pairs(found.gradient)
        norm = norm_of(pairs)
        told = tf.identity(self.scale.without_overflow(norm))  # by the scale before the update

        def take() -> tf.Operation:
            self.update(batch, found, pairs, norm)
            return tf.no_op()

        tf.cond(tf.math.is_finite(found.loss + told), take, put_back or tf.no_op)
        return tf.stack([found.loss, told, tf.cast(found.rows, tf.float32)])


def why_not_compiled(objective: Objective) -> str | None:
    """Says why XLA cannot compile an objective's steps; None: nothing is known against it."""
    name, settings = objective.name, objective.settings
    if settings.gate:
        return (
            f"The gate of path {name!r} makes batches of varying size, which XLA would compile "
            "one by one; train without jit_compile"
        )
    is_mixed = name not in objective.model.paths
    if is_mixed and (objective.model.mixed != "multiplex" or settings.conflicts == "famo"):
        return (
            f"The stream {name!r} is of mixed batches; jit_compile takes them of a model made "
            "with mixed='multiplex', whose shapes do not vary, and without FAMO"
        )
    return None
