"""One step on one path: its gradient, and one update of its variables by its own optimizer."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from branchline.components.branch_trainer.accumulator import Accumulator
from branchline.components.branch_trainer.losses import example_losses, path_loss, rows_of
from branchline.components.branch_trainer.masks import Masks
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.rows import sum_of_rows, update_rows, updates_rows
from branchline.components.branch_trainer.selective import conditions_in
from branchline.components.branch_trainer.settings import PathSettings

Pairs = list[tuple[tf.Tensor | tf.IndexedSlices, keras.Variable]]


class StepResult(NamedTuple):
    """What a step reports.

    Attributes:
        finite: bool [], whether loss and gradient were finite; if not, nothing was updated.
        loss: float32 [], before `loss_weight` and without leaks.
        gradient_norm: float32 [], global norm before clipping.
        rows: int64 [], examples in the batch.
    """

    finite: tf.Tensor
    loss: tf.Tensor
    gradient_norm: tf.Tensor
    rows: tf.Tensor


class PathStep:
    """Updates the variables of one path; those of other paths keep values and slots.

    All slots are made here, before the first step.

    Args:
        model: built on this path.
        path: its name.
        settings: of this path.

    Raises:
        ValueError: nothing is left to train, `freeze` names an unknown part, a mask does not
            broadcast, the optimizer is in use, or `conflicts` is set.
        KeyError: `leak` names an unknown path.
    """

    def __init__(self, model: BranchedModel, path: str, settings: PathSettings):
        self.model = model
        self.path = path
        self.settings = settings
        self.frozen = tuple(settings.freeze)
        self.leaks = {other: share for other, share in settings.leak.items() if share > 0}
        if settings.conflicts != "sum":
            raise ValueError(
                f"conflicts={settings.conflicts!r} for path {path!r}, whose batches hold one route "
                "only; it is for streams of mixed batches"
            )
        self.trained = self._trained()
        self.conditions = conditions_in(model.parts_of(path).values())
        self.masks = Masks(settings.mask_fn, self.trained) if settings.mask_fn else None
        self.optimizer = settings.optimizer or keras.optimizers.Adam()
        if self.optimizer.built:
            raise ValueError(
                f"The optimizer of path {path!r} is already in use; "
                "give each path, and each Trainer, a new one"
            )
        self.optimizer.build(self.trained)
        self.accumulator = None
        if settings.accumulate > 1:
            self.accumulator = Accumulator(self.trained, settings.accumulate)

    def _trained(self) -> list[keras.Variable]:
        trained = self.model.variables_of(self.path, without=self.frozen)
        if not trained:
            raise ValueError(
                f"Path {self.path!r} has nothing to train; frozen: {list(self.frozen)}"
            )
        for other in self.leaks:
            known = {id(v) for v in [*trained, *self.model.variables_of(self.path)]}
            trained += [v for v in self.model.variables_of(other) if id(v) not in known]
        return trained

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The path's optimizer, alone in a list, as a `MixedStep` has several."""
        return [self.optimizer]

    @property
    def state(self) -> list[tf.Variable]:
        """Optimizer slots and clock, and accumulated gradients."""
        accumulated = self.accumulator.variables if self.accumulator else []
        return [v.value for v in self.optimizer.variables] + accumulated

    def __call__(self, batch: tuple) -> StepResult:
        """Takes one step.

        Args:
            batch: (features, labels) or (features, labels, sample_weight).

        Raises:
            ValueError: the loss depends on none of the path's variables.
        """
        if self.settings.gate is None:
            return self._step_on(batch)
        losses = example_losses(self.model, self.path, batch)
        rows = tf.where(self.settings.gate(losses))[:, 0]
        through = tf.nest.map_structure(lambda t: tf.gather(t, rows), batch)
        nothing = StepResult(
            tf.constant(True), tf.reduce_mean(losses), tf.constant(0.0), rows_of(batch)
        )
        return tf.cond(
            tf.size(rows) > 0,
            lambda: self._step_on(through)._replace(rows=rows_of(batch)),
            lambda: StepResult(*(tf.convert_to_tensor(value) for value in nothing)),
        )

    def _step_on(self, batch: tuple) -> StepResult:
        loss, pairs = self._gradients(batch)
        norm = _norm(pairs)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        tf.cond(finite, lambda: self._update(pairs, norm), tf.no_op)
        return StepResult(finite, loss, norm, rows_of(batch))

    def _gradients(self, batch: tuple) -> tuple[tf.Tensor, Pairs]:
        variables = [v.value for v in self.trained]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = path_loss(self.model, self.path, batch, training=True, frozen=self.frozen)
            objective = loss
            for other, share in self.leaks.items():
                objective += share * path_loss(self.model, other, batch, training=True)
            objective *= self.settings.loss_weight
        gradients = tape.gradient(objective, variables)
        pairs = [(g, v) for g, v in zip(gradients, self.trained, strict=True) if g is not None]
        if not pairs:
            raise ValueError(f"The loss of path {self.path!r} depends on none of its variables")
        pairs = [(self._summed(g, v), v) for g, v in pairs]
        if self.masks:
            pairs = [(self.masks.masked(g, v), v) for g, v in pairs]
        return loss, pairs

    def _summed(self, gradient, variable: keras.Variable):
        """Returns the gradient with a row that occurs several times summed.

        Keras does not: its Adam squares the occurrences one by one.
        """
        by_rows = self._by_rows(gradient, variable)
        return sum_of_rows(gradient) if by_rows else tf.convert_to_tensor(gradient)

    def _update(self, pairs: Pairs, norm: tf.Tensor) -> tf.Operation:
        if self.accumulator:
            self.accumulator.add(pairs)
            tf.cond(self.accumulator.full, self._apply_accumulated, tf.no_op)
        else:
            self._apply(pairs, norm)
        return tf.no_op()

    def _apply_accumulated(self) -> tf.Operation:
        assert self.accumulator
        pairs: Pairs = [*self.accumulator.take()]
        self._apply(pairs, _norm(pairs))
        return tf.no_op()

    def _apply(self, pairs: Pairs, norm: tf.Tensor) -> None:
        pairs = self._clipped(pairs, norm)
        if self.masks:
            self.masks.keeping([v for _, v in pairs], lambda: self._optimize(pairs))
        else:
            self._optimize(pairs)

    def _clipped(self, pairs: Pairs, norm: tf.Tensor) -> Pairs:
        gradients, variables = [g for g, _ in pairs], [v for _, v in pairs]
        if self.settings.clip_value is not None:
            limit = self.settings.clip_value
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
            norm = tf.linalg.global_norm(gradients)
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm, use_norm=norm)
        return list(zip(gradients, variables, strict=True))

    def _optimize(self, pairs: Pairs) -> None:
        by_rows: list[Any] = [pair for pair in pairs if self._by_rows(*pair)]
        whole = [pair for pair in pairs if not self._by_rows(*pair)]
        for gradient, variable in by_rows:
            update_rows(self.optimizer, gradient, variable)
        if not whole:
            self.optimizer.iterations.assign_add(1)
        elif not self.conditions:
            _apply(self.optimizer, whole)
        else:
            self._apply_by_condition(whole)

    def _apply_by_condition(self, pairs: Pairs) -> None:
        clock = tf.identity(self.optimizer.iterations.value)
        for on, pairs_of_one in self._by_condition(pairs):
            self.optimizer.iterations.assign(clock)  # `apply` counts, once per update
            if on is None:
                _apply(self.optimizer, pairs_of_one)
            else:
                tf.cond(on > 0, lambda p=pairs_of_one: _apply(self.optimizer, p), tf.no_op)
        self.optimizer.iterations.assign(clock + 1)

    def _by_condition(self, pairs: Pairs) -> list[tuple]:
        """Returns (condition, pairs): those of a switched-off layer have zeros for gradients."""
        groups: dict[int, tuple] = {}
        for gradient, variable in pairs:
            on = self.conditions.get(id(variable))
            groups.setdefault(id(on), (on, []))[1].append((gradient, variable))
        return list(groups.values())

    def _by_rows(self, gradient, variable: keras.Variable) -> bool:
        wanted = self.settings.embeddings == "rows" and _is_sparse(gradient)
        return wanted and updates_rows(self.optimizer, variable)


def _apply(optimizer: keras.optimizers.Optimizer, pairs: Pairs) -> tf.Operation:
    optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])
    return tf.no_op()


def _norm(pairs: Pairs) -> tf.Tensor:
    return tf.cast(tf.linalg.global_norm([g for g, _ in pairs]), tf.float32)


def _is_sparse(gradient) -> bool:
    return isinstance(gradient, tf.IndexedSlices)
