"""One step on a mixed batch, whose rows take different paths through the model."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.alike import Alike
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.layer_state import LayerState
from branchline.components.branch_trainer.model.selective import conditions_in
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.balance import Famo
from branchline.components.branch_trainer.step.conflicts import (
    inner_products,
    pcgrad_factors,
    random_orders,
)
from branchline.components.branch_trainer.step.mixed_losses import (
    mixed_loss,
    route_losses,
    route_means,
)
from branchline.components.branch_trainer.step.optional_heads import heads_alone, label_counts
from branchline.components.branch_trainer.step.path_step import checked
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.updates import apply, is_plain, sum_of_rows
from branchline.components.branch_trainer.streams.seekable import rows_of

Gradients = list[Any]  # of all variables in order: tensor, IndexedSlices or None
_TAKEN = ("optimizer", "loss_weight", "clip_norm", "clip_value", "embeddings", "conflicts")


class Rows(NamedTuple):
    """What a batch holds.

    Attributes:
        all: float32 [], number of rows.
        labelled: float32 [paths, heads], rows that take the path and have the head's label; 0
            where the path has no such head.
    """

    all: tf.Tensor
    labelled: tf.Tensor


class Group(NamedTuple):
    """Variables that are updated in the same batches: those from which they can learn something.

    Attributes:
        users: ids of the paths that use them.
        heads: positions in `model.heads` of those they are part of; empty: of none, or of one
            whose labels are never missing.
        conditions: all of them have to be above 0.
        variables: the trainable variables.
    """

    users: tuple[int, ...]
    heads: tuple[int, ...]
    conditions: tuple[tf.Variable, ...]
    variables: list[keras.Variable]


class MixedStep:
    """Updates the parts of the model that rows of the batch went through, and no others.

    Each `Group` of variables has an optimizer of its own, a copy of the one in the settings. So a
    branch without rows in a batch, a head without labels, or a layer that is switched off is left
    alone by momentum and weight decay, and has its own clock.

    Args:
        model: built.
        name: of the stream.
        settings: of the stream; of them `optimizer`, `loss_weight`, `clip_norm`, `clip_value` and
            `conflicts`.
        jit_compile: whether XLA compiles the step.
        replicas: what runs it, as in `PathStep`.
        seed: of PCGrad's orders.

    Raises:
        ValueError: another setting is given, or one that XLA cannot compile.
    """

    def __init__(
        self,
        model: BranchedModel,
        name: str,
        settings: PathSettings,
        *,
        jit_compile: bool = False,
        replicas: OneReplica | None = None,
        seed: int = 0,
    ):
        defaults = PathSettings()
        given = [f for f in vars(defaults) if getattr(settings, f) != getattr(defaults, f)]
        unfit = sorted(set(given) - set(_TAKEN))
        if unfit:
            raise ValueError(f"The stream {name!r} is of mixed batches, which take no {unfit}")
        if jit_compile and (model.mixed != "multiplex" or settings.conflicts == "famo"):
            raise ValueError(
                f"The stream {name!r} is of mixed batches; jit_compile takes them of a model made "
                "with mixed='multiplex', whose shapes do not vary, and without FAMO"
            )
        self.model = model
        self.path = name
        self.seed = seed
        self.settings = settings
        self.replicas = replicas or OneReplica()
        self.groups = _groups(model)
        self.layer_state = LayerState(model.variables, self.replicas)
        template = settings.optimizer or keras.optimizers.Adam()
        if isinstance(template, keras.optimizers.LossScaleOptimizer):
            raise ValueError(f"The stream {name!r} is of mixed batches, which take no loss scaling")
        self.optimizers = []
        for group in self.groups:
            self.optimizers.append(_copy_of(template))
            self.optimizers[-1].build(group.variables)
            self.replicas.take_over(self.optimizers[-1])
        self._gradients_fn = self._projected if settings.conflicts == "pcgrad" else self._summed
        self.jit_compile = jit_compile
        self._compiled = tf.function(self._compiled_step, autograph=False, jit_compile=True)
        self.famo = Famo(len(model.paths)) if settings.conflicts == "famo" else None
        self._num_steps = tf.Variable(tf.constant(0, tf.int64), dtype=tf.int64, trainable=False)

    @property
    def state(self) -> list[tf.Variable]:
        """Slots and clocks of all optimizers, FAMO's logits, and the number of steps."""
        slots = [v.value for optimizer in self.optimizers for v in optimizer.variables]
        balance = self.famo.state if self.famo else []
        return [*slots, *balance, self._num_steps]

    def alike(self, batch: Any) -> Alike:
        """Shares its trace with no other stream's."""
        return Alike(None, [])

    def __call__(self, batch: tuple) -> tf.Tensor:
        """Takes one step.

        Args:
            batch: ((features, path ids), labels) or ((features, path ids), labels, sample_weight).

        Returns:
            Its figures, as `checked`.

        Raises:
            tf.errors.InvalidArgumentError: loss or gradient is not finite, as in `PathStep`.
        """
        if self.famo:
            return self._balancing_step(batch, self.famo)
        if self.jit_compile:
            loss, norm = self._compiled(batch)
            return checked(loss, norm, rows_of(batch))
        put_back = self.layer_state.remember()
        return self._update(batch, put_back, *self._gradients_fn(batch))

    def _compiled_step(self, batch: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        """Steps if loss and gradient are finite; what XLA compiles raises nothing."""
        put_back = self.layer_state.remember()
        rows, loss, gradients = self._gradients_fn(batch)
        norm = _norm(gradients)
        finite = tf.math.is_finite(loss + norm)
        tf.cond(finite, lambda: self._apply(batch, rows, gradients), put_back or tf.no_op)
        return loss, norm

    def _balancing_step(self, batch: tuple, famo: Famo) -> tf.Tensor:
        """Updates the logits by what the update did to the losses of the same batch.

        As FAMO's authors do, at the cost of a second forward pass. The next batch would do without,
        but a route's loss differs more between batches than by one update: its logarithm by 0.8
        against 0.2 (`test_s07…`, batches of 32, first 60 steps). The second pass begins with the
        random and other state of the first, so that only the update is between them, and leaves no
        trace of its own in that state.
        """
        to_first = self.layer_state.remember()
        loss, means, gradients = self._balanced(batch, famo)
        figures = self._update(batch, to_first, self._rows(batch), loss, gradients)
        to_last = self.layer_state.remember()
        if to_first:
            to_first()
        _, means_after, _ = route_means(self.model, batch, training=True)
        if to_last:
            to_last()
        with tf.control_dependencies([figures]):
            famo.update(means, means_after)
        return figures

    def _update(
        self,
        batch: tuple,
        put_back: Callable[[], tf.Operation] | None,
        rows: Rows,
        loss: tf.Tensor,
        gradients: Gradients,
    ) -> tf.Tensor:
        figures = checked(loss, _norm(gradients), rows.all, put_back)
        with tf.control_dependencies([figures]):
            self._apply(batch, rows, gradients)
        return figures

    def _apply(self, batch: tuple, rows: Rows, gradients: Gradients) -> tf.Operation:
        self._num_steps.assign_add(1)
        path_ids = batch[0][1]  # under a strategy not a tensor, but one for each replica
        never_empty = isinstance(path_ids, tf.Tensor) and bool(path_ids.shape[0])
        for group, optimizer, pairs in self._updates(self._clipped(gradients)):
            if never_empty and self._learns_from_any_row(group):
                self._hand_over(optimizer, pairs)
                continue
            tf.cond(
                _is_due(group, rows),
                lambda optimizer=optimizer, pairs=pairs: self._hand_over(optimizer, pairs),
                tf.no_op,
            )
        return tf.no_op()

    def _learns_from_any_row(self, group: Group) -> bool:
        paths = list(self.model.paths)
        surely = [any(h.missing is None for h in self.model.heads_of(p)) for p in paths]
        of_all = len(group.users) == len(paths) and all(surely)
        return of_all and not group.heads and not group.conditions

    def _hand_over(self, optimizer, pairs: list[tuple]) -> tf.Operation:
        self.replicas.update(lambda pairs: apply(optimizer, pairs), pairs)
        return tf.no_op()

    def _rows(self, batch: tuple) -> Rows:
        (_, path_ids), labels = batch[:2]
        heads, of_path = self.model.heads, []
        for number, path in enumerate(self.model.paths):
            taken = tf.cast(path_ids, tf.int32) == number
            mine = self.model.heads_of(path)
            counts = dict(zip(mine, tf.unstack(label_counts(mine, labels, taken)), strict=True))
            of_path.append(tf.stack([counts.get(head, tf.constant(0.0)) for head in heads]))
        return Rows(tf.cast(tf.size(path_ids), tf.float32), tf.stack(of_path))

    def _summed(self, batch: tuple) -> tuple[Rows, tf.Tensor, Gradients]:
        """Returns rows, loss, and the gradients of the variables in order."""
        rows, loss, gradients = self.replicas.sum_of(self._gradients, batch)
        return rows, loss, self._with_rows_once(gradients)

    def _gradients(self, batch: tuple) -> tuple[Rows, tf.Tensor, Gradients]:
        values = [v.value for v in self._variables()]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = mixed_loss(self.model, batch, training=True)
            objective = loss * self.settings.loss_weight
        return self._rows(batch), loss, tape.gradient(objective, values)

    def _with_rows_once(self, gradients: Gradients) -> Gradients:
        """Returns gradients in the rows of the batch where that will do, else in all rows."""
        pairs = zip(gradients, self._variables(), strict=True)
        return [g if g is None else self._summed_rows(g, v) for g, v in pairs]

    def _summed_rows(self, gradient, variable: keras.Variable):
        sparse = isinstance(gradient, tf.IndexedSlices) and not self.jit_compile
        by_rows = self.settings.embeddings == "rows" and is_plain(self.optimizers[0], variable)
        return sum_of_rows(gradient) if sparse and by_rows else tf.convert_to_tensor(gradient)

    def _projected(self, batch: tuple) -> tuple[Rows, tf.Tensor, Gradients]:
        """Returns the same with the routes' gradients of shared variables projected first."""
        rows, losses, (*of_routes, of_penalties) = self.replicas.sum_of(self._by_route, batch)
        shared = [len(group.users) > 1 for group in self.groups for _ in group.variables]
        products = inner_products(
            [[g for g, s in zip(of_route, shared, strict=True) if s] for of_route in of_routes]
        )
        orders = random_orders(len(of_routes), self._num_steps, self.seed)
        factors = pcgrad_factors(products, orders)
        gradients = []
        for k, is_shared in enumerate(shared):
            each = [of_route[k] for of_route in of_routes]
            if is_shared:
                each = [tf.cast(factors[i], g.dtype) * g for i, g in enumerate(each)]
            gradients.append(tf.add_n([*each, of_penalties[k]]))
        return rows, tf.add_n(losses), gradients

    def _by_route(self, batch: tuple) -> tuple[Rows, list[tf.Tensor], list[list]]:
        """Returns rows, and losses and gradients of the routes and the penalties."""
        values = [v.value for v in self._variables()]
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            tape.watch(values)
            losses = route_losses(self.model, batch, training=True)
            objectives = [loss * self.settings.loss_weight for loss in losses]
        gradients = [
            [
                tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(tape.gradient(objective, values), values, strict=True)
            ]
            for objective in objectives
        ]
        return self._rows(batch), losses, gradients

    def _balanced(self, batch: tuple, famo: Famo) -> tuple[tf.Tensor, tf.Tensor, Gradients]:
        """Returns loss, the routes' losses, and the gradients with routes weighted by FAMO."""
        values = [v.value for v in self._variables()]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss, means, penalties = route_means(self.model, batch, training=True)
            weights = tf.stop_gradient(famo.weights(means))
            objective = self.settings.loss_weight * (tf.tensordot(weights, means, 1) + penalties)
        return loss, means, self._with_rows_once(tape.gradient(objective, values))

    def _variables(self) -> list[keras.Variable]:
        return [v for group in self.groups for v in group.variables]

    def _updates(self, gradients: Gradients) -> Iterator[tuple]:
        all_pairs = iter(zip(gradients, self._variables(), strict=True))
        for group, optimizer in zip(self.groups, self.optimizers, strict=True):
            of_group = itertools.islice(all_pairs, len(group.variables))
            pairs = [pair for pair in of_group if pair[0] is not None]
            if pairs:
                yield group, optimizer, pairs

    def _clipped(self, gradients: Gradients) -> Gradients:
        limit = self.settings.clip_value
        if limit is not None:
            gradients = [g if g is None else tf.clip_by_value(g, -limit, limit) for g in gradients]
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm)
        return gradients


def _norm(gradients: Gradients) -> tf.Tensor:
    return tf.cast(tf.linalg.global_norm(gradients), tf.float32)


def _copy_of(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    copy = type(optimizer).from_config(optimizer.get_config())
    # What `exclude_from_weight_decay` was told, which is in no configuration.
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))
    return copy


def _is_due(group: Group, rows: Rows) -> tf.Tensor:
    labelled = tf.gather(rows.labelled, group.users)
    if group.heads:
        labelled = tf.gather(labelled, group.heads, axis=1)
    return tf.reduce_all([tf.reduce_any(labelled > 0), *(on > 0 for on in group.conditions)])


def _groups(model: BranchedModel) -> list[Group]:
    conditions = conditions_in([*model.stages, *model.heads])
    heads_of = heads_alone(model.heads, model.stages)
    users: dict[int, list[int]] = {}
    variables: dict[int, keras.Variable] = {}
    for number, path in enumerate(model.paths):
        for variable in model.variables_of(path):
            users.setdefault(id(variable), []).append(number)
            variables[id(variable)] = variable
    groups: dict[tuple, Group] = {}
    for key, paths in users.items():
        heads, on = heads_of.get(key, ()), conditions.get(key, ())
        alike = tuple(paths), heads, tuple(id(each) for each in on)
        groups.setdefault(alike, Group(tuple(paths), heads, on, [])).variables.append(
            variables[key]
        )
    return list(groups.values())
