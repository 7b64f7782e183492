"""The update of variables from a gradient: the one place where an optimizer is called."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.step.accumulator import Accumulator
from branchline.components.branch_trainer.step.apply_gradients import (
    apply,
    is_plain,
    sum_of_rows,
    sum_of_table,
)
from branchline.components.branch_trainer.step.masks import Masks
from branchline.components.branch_trainer.step.objective import BatchGradient, Objective
from branchline.components.branch_trainer.step.owners import Owner

_FEW = 4  # rows of a table, for each one that is looked up, up to which it is handled whole
Pairs = list[tuple[tf.Tensor | tf.IndexedSlices, keras.Variable]]


class Update:
    """Accumulates, clips and masks gradients, and hands each to the owner of its variable.

    Args:
        objective: of the stream.
        owners: of the variables that it trains.

    Raises:
        ValueError: a mask does not broadcast.
    """

    def __init__(
        self,
        objective: Objective,
        owners: Sequence[Owner],
    ):
        settings = objective.settings
        self.objective = objective
        self.settings = settings
        self.optimizer = objective.optimizer
        self.owners = list(owners)
        self.in_rows = settings.embeddings == "rows"
        # Where owners are shared, the stream's optimizer is its clock and its learning rate only.
        self.is_shared = any(owner.is_shared for owner in owners)
        self.masks = None
        if settings.mask_fn:
            self.masks = Masks(settings.mask_fn, objective.trained)
        self.accumulator = None
        if settings.accumulate > 1:
            num_sources = len(objective.sources)
            self.accumulator = Accumulator(objective.trained, settings.accumulate, num_sources)

    @property
    def state(self) -> list[tf.Variable]:
        """Slots and clocks of all optimizers, and accumulated gradients."""
        optimizers = {id(o): o for o in (self.optimizer, *(w.optimizer for w in self.owners))}
        slots = [v.value for optimizer in optimizers.values() for v in optimizer.variables]
        return [*slots, *(self.accumulator.variables if self.accumulator else [])]

    def places(self, owner: Owner) -> list[int]:
        """Returns which of the objective's sources an owner learns from."""
        return [i for i, source in enumerate(self.objective.sources) if source in owner.sources]

    def pairs(self, gradients: list) -> Pairs:
        """Returns gradients with their variables, as one update would have them, before clipping.

        A row of a table that occurs several times is summed: Keras' Adam squares the occurrences
        one by one.
        """
        gradients = self.objective.scale.unscaled(gradients)
        pairs = zip(gradients, self.objective.trained, strict=True)
        pairs = [(self._in_rows_or_whole(g, v), v) for g, v in pairs if g is not None]
        if not pairs:
            raise ValueError(
                f"The loss of path {self.objective.name!r} depends on none of its variables"
            )
        return [(self.masks.masked(g, v), v) for g, v in pairs] if self.masks else pairs

    def _in_rows_or_whole(self, gradient: Any, variable: keras.Variable) -> Any:
        in_rows = self.in_rows and isinstance(gradient, tf.IndexedSlices)
        if in_rows and is_plain(self.optimizer, variable):
            num_ids: Any = gradient.indices.shape[0] or 0
            as_it_is = self.masks or self.accumulator or tf.executing_eagerly()
            if variable.shape[0] <= _FEW * num_ids and not as_it_is:
                return sum_of_table(gradient, variable.shape[0])
            return sum_of_rows(gradient)
        return tf.convert_to_tensor(gradient)

    def __call__(self, batch: tuple, found: BatchGradient, pairs: Pairs, norm: tf.Tensor) -> None:
        """Makes the update, or takes a part of it where several batches make one.

        Args:
            batch: as the stream gives it.
            found: what it gave.
            pairs: of `pairs`.
            norm: float32 [], their global norm.
        """
        take = functools.partial(self._accumulate_or_apply, batch, found.counts, pairs, norm)
        if self.objective.scale.on:
            # Handed a gradient that is not finite, the optimizer lowers its scale.
            first = functools.partial(self._hand_over, self.owners[0], self._of_owners(pairs)[0])
            tf.cond(tf.math.is_finite(norm), take, first)
        else:
            take()
        if found.after_update:
            found.after_update()

    def _accumulate_or_apply(
        self, batch: tuple, counts: tf.Tensor, pairs: Pairs, norm: tf.Tensor
    ) -> tf.Operation:
        if self.accumulator is None:
            return self._apply(batch, counts, pairs, norm)
        add = functools.partial(self._accumulate, batch, counts, pairs)
        # A batch without any label has nothing to teach, and is none of those to take the mean of.
        return add() if self._has_any(batch) else tf.cond(tf.reduce_any(counts > 0), add, tf.no_op)

    def _accumulate(self, batch: tuple, counts: tf.Tensor, pairs: Pairs) -> tf.Operation:
        accumulator = self.accumulator
        assert accumulator
        accumulator.add(pairs, counts)

        def apply_mean() -> tf.Operation:
            means, counts = accumulator.take(pairs)
            return self._apply(batch, counts, means, norm_of(means))

        tf.cond(accumulator.full, apply_mean, tf.no_op)
        return tf.no_op()

    def _has_any(self, batch: tuple) -> bool:
        return self.objective.surely_has(frozenset(self.objective.sources), batch)

    def _apply(
        self, batch: tuple, counts: tf.Tensor, pairs: Pairs, norm: tf.Tensor
    ) -> tf.Operation:
        pairs = self._clipped(pairs, norm)
        if self.masks:
            variables = [v for _, v in pairs]
            self.masks.keeping(variables, lambda: self._apply_by_owner(batch, counts, pairs))
        else:
            self._apply_by_owner(batch, counts, pairs)
        return tf.no_op()

    def _clipped(self, pairs: Pairs, norm: tf.Tensor) -> Pairs:
        gradients, variables = [g for g, _ in pairs], [v for _, v in pairs]
        if self.settings.clip_value is not None:
            limit = self.settings.clip_value
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
            norm = tf.linalg.global_norm(gradients)
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm, use_norm=norm)
        return list(zip(gradients, variables, strict=True))

    def _apply_by_owner(self, batch: tuple, counts: tf.Tensor, pairs: Pairs) -> None:
        """Updates what the batch has something to teach."""
        rate = tf.convert_to_tensor(self.optimizer.learning_rate) if self.is_shared else None
        has_rows = counts > 0
        for owner, of_owner in zip(self.owners, self._of_owners(pairs), strict=True):
            if not of_owner:
                continue

            def update(owner: Owner = owner, of_owner: Pairs = of_owner) -> tf.Operation:
                if owner.is_shared:
                    owner.optimizer.learning_rate = rate
                return self._hand_over(owner, of_owner)

            due = [on > 0 for on in owner.conditions]
            if not self.objective.surely_has(owner.sources, batch):
                due.append(_any(has_rows, self.places(owner)))
            all_due = functools.reduce(tf.logical_and, due) if due else None
            update() if all_due is None else tf.cond(all_due, update, tf.no_op)
        if self.is_shared:
            taken = True if self._has_any(batch) else tf.reduce_any(counts > 0)
            self.optimizer.iterations.assign_add(tf.cast(taken, self.optimizer.iterations.dtype))

    def _of_owners(self, pairs: Pairs) -> list[Pairs]:
        gradient_of = {id(v): g for g, v in pairs}
        return [
            [(gradient_of[id(v)], v) for v in owner.variables if id(v) in gradient_of]
            for owner in self.owners
        ]

    def _hand_over(self, owner: Owner, pairs: Pairs) -> tf.Operation:
        scale = self.objective.scale
        if scale.on and owner.optimizer is self.optimizer:
            pairs = [(scale.rescaled(g), v) for g, v in pairs]
        self.objective.replicas.update(lambda pairs: apply(owner.optimizer, pairs), pairs)
        return tf.no_op()


def _any(truths: tf.Tensor, places: list[int]) -> tf.Tensor:
    """Returns whether any of the truths at these places is one, bool []."""
    if len(places) == 1:
        return truths[places[0]]
    return tf.reduce_any(tf.gather(truths, places))


def norm_of(pairs: Pairs) -> tf.Tensor:
    """Returns the global norm of gradients, float32 []."""
    return tf.cast(tf.linalg.global_norm([g for g, _ in pairs]), tf.float32)
