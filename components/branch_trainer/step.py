"""One step on one path: its gradient, and one update of its variables by its own optimizer."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.accumulator import Accumulator
from branchline.components.branch_trainer.alike import Alike, path_likeness
from branchline.components.branch_trainer.distribute import OneReplica
from branchline.components.branch_trainer.layer_state import LayerState
from branchline.components.branch_trainer.learning_rate import facts_of, optimizer_config
from branchline.components.branch_trainer.losses import example_losses, label_of, path_loss
from branchline.components.branch_trainer.masks import Masks
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.selective import conditions_in
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.streams import rows_of
from branchline.components.branch_trainer.updates import is_plain, sum_of_rows, update

Pairs = list[tuple[tf.Tensor | tf.IndexedSlices, keras.Variable]]


NOT_FINITE = "The loss or the gradient is not finite"


def checked(
    loss: tf.Tensor,
    norm: tf.Tensor,
    rows: tf.Tensor,
    put_back: Callable[[], tf.Operation] | None = None,
) -> tf.Tensor:
    """Returns a step's figures; what may happen only if they are finite has to depend on them.

    Args:
        loss: float32 [], before `loss_weight` and without leaks.
        norm: float32 [], the gradient's global norm before clipping.
        rows: number [], of the batch.
        put_back: undoes what the forward pass did to the layers' state, if they are not finite.

    Returns:
        float32 [3]: loss, norm, and the number of examples.

    Raises, where it runs:
        tf.errors.InvalidArgumentError: they are not finite; says NOT_FINITE.
    """
    figures = tf.stack([loss, norm, tf.cast(rows, tf.float32)])
    if put_back is None:
        return tf.debugging.check_numerics(figures, NOT_FINITE)
    finite = tf.reduce_all(tf.math.is_finite(figures))
    with tf.control_dependencies([tf.cond(finite, lambda: True, lambda: _false_after(put_back))]):
        # First, because an error ends what goes on beside it.
        return tf.debugging.check_numerics(figures, NOT_FINITE)


def _false_after(put_back: Callable[[], tf.Operation]) -> tf.Tensor:
    put_back()
    return tf.constant(False)


class PathStep:
    """Updates the variables of one path; those of other paths keep values and slots.

    All slots are made here, before the first step.

    Args:
        model: built on this path.
        path: its name.
        settings: of this path.
        jit_compile: whether XLA compiles the step.
        replicas: what runs it; None: it runs once, here.

    Raises:
        ValueError: nothing is left to train, `freeze` names an unknown part, a mask does not
            broadcast, the optimizer is in use, `conflicts` is set, or a gate is with XLA.
        KeyError: `leak` names an unknown path.
    """

    def __init__(
        self,
        model: BranchedModel,
        path: str,
        settings: PathSettings,
        *,
        jit_compile: bool = False,
        replicas: OneReplica | None = None,
    ):
        self.model = model
        self.path = path
        self.settings = settings
        self.replicas = replicas or OneReplica()
        self.frozen = tuple(settings.freeze)
        self.leaks = {other: share for other, share in settings.leak.items() if share > 0}
        if settings.conflicts != "sum":
            raise ValueError(
                f"conflicts={settings.conflicts!r} for path {path!r}, whose batches hold one route "
                "only; it is for streams of mixed batches"
            )
        if jit_compile and settings.gate:
            raise ValueError(
                f"The gate of path {path!r} makes batches of varying size, which XLA would compile "
                "one by one; train without jit_compile"
            )
        self.trained = self._trained()
        run = [path, *self.leaks]
        self.layer_state = LayerState([v for p in run for v in model.state_of(p)], self.replicas)
        self.conditions = conditions_in(model.parts_of(path).values())
        self.masks = Masks(settings.mask_fn, self.trained) if settings.mask_fn else None
        self.optimizer = settings.optimizer or keras.optimizers.Adam()
        self.loss_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if self.optimizer.built:
            raise ValueError(
                f"The optimizer of path {path!r} is already in use; "
                "give each path, and each Trainer, a new one"
            )
        self.optimizer.build(self.trained)
        self.replicas.take_over(self.optimizer)
        self.jit_compile = jit_compile
        self._compiled = tf.function(self._compiled_step, autograph=False, jit_compile=True)
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

    def alike(self, batch: Any) -> Alike:
        """Tells with which other paths' steps this one may share a trace.

        Args:
            batch: The `tf.TypeSpec`s of its stream's batches.
        """
        settings, optimizer = self.settings, self.optimizer
        own_code = settings.mask_fn or settings.gate or self.conditions or self.loss_scaled
        one_device = type(self.replicas) is OneReplica
        if own_code or self.leaks or self.frozen or self.jit_compile or not one_device:
            return Alike(None, [])
        computed = path_likeness(self.model, self.path, batch[0])
        config = optimizer_config(optimizer)
        if computed is None or config is None:
            return Alike(None, [])
        chosen = (
            settings.loss_weight,
            settings.clip_norm,
            settings.clip_value,
            settings.accumulate,
            settings.embeddings,
        )
        variables = [v.value for v in (*self.model.state_of(self.path), *facts_of(optimizer))]
        kind = (computed, config, chosen, self._taken_labels(batch), len(batch))
        return Alike(kind, [v.handle for v in (*variables, *self.state)])

    def _taken_labels(self, batch: Any) -> tuple[int, ...]:
        """Tells which of the labels the heads take, counted as `tf.nest.flatten` gives them."""
        labels = batch[1]
        places = tf.nest.pack_sequence_as(labels, list(range(len(tf.nest.flatten(labels)))))
        return tuple(label_of(head, places) for head in self.model.heads_of(self.path))

    def __call__(self, batch: tuple) -> tf.Tensor:
        """Takes one step.

        Args:
            batch: (features, labels) or (features, labels, sample_weight).

        Returns:
            Its figures, as `checked`.

        Raises:
            ValueError: the loss depends on none of the path's variables.
            tf.errors.InvalidArgumentError: loss or gradient is not finite; says NOT_FINITE, and
                all variables are as before, statistics and random state too.
        """
        if self.jit_compile:
            loss, norm = self._compiled(batch)
            return checked(loss, norm, rows_of(batch))
        if self.settings.gate is None:
            return self._step_on(batch, batch)
        losses = example_losses(self.model, self.path, batch)
        rows = tf.where(self.settings.gate(losses))[:, 0]
        through = tf.nest.map_structure(lambda t: tf.gather(t, rows), batch)
        return tf.cond(
            tf.size(rows) > 0,
            lambda: self._step_on(through, batch),
            lambda: checked(tf.reduce_mean(losses), tf.constant(0.0), rows_of(batch)),
        )

    def _step_on(self, through: tuple, batch: tuple) -> tf.Tensor:
        """Steps on the examples of a batch that a gate lets through."""
        put_back = self.layer_state.remember()
        rows, loss, gradients = self.replicas.sum_of(self._gradients, through, batch)
        pairs = self._pairs(gradients)
        norm = _norm(pairs)
        # An optimizer that scales the loss leaves out a step whose gradient is not finite.
        figures = checked(loss, self._seen(norm), rows, put_back)
        with tf.control_dependencies([figures]):
            self._update(pairs, norm)
        return figures

    def _seen(self, norm: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.math.is_finite(norm), norm, 0.0) if self.loss_scaled else norm

    def _compiled_step(self, batch: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        """Steps if loss and gradient are finite; what XLA compiles raises nothing."""
        put_back = self.layer_state.remember()
        _, loss, gradients = self._gradients(batch, batch)
        pairs = self._pairs(gradients)
        norm = _norm(pairs)
        finite = tf.math.is_finite(loss + self._seen(norm))
        tf.cond(finite, lambda: self._update(pairs, norm), put_back or tf.no_op)
        return loss, self._seen(norm)

    def _gradients(self, through: tuple, batch: tuple) -> tuple[tf.Tensor, tf.Tensor, list]:
        """Returns the batch's number of rows, the loss, and gradients as the tape gives them."""
        variables = [v.value for v in self.trained]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = path_loss(self.model, self.path, through, training=True, frozen=self.frozen)
            objective = loss
            for other, share in self.leaks.items():
                objective += share * path_loss(self.model, other, through, training=True)
            objective *= self.settings.loss_weight
            if self.loss_scaled:
                objective = self.optimizer.scale_loss(objective)
        rows = tf.cast(rows_of(batch), tf.float32)
        return rows, loss, tape.gradient(objective, variables)

    def _pairs(self, gradients: list) -> Pairs:
        if self.loss_scaled:
            gradients = [g if g is None else self._times_scale(g, -1) for g in gradients]
        pairs = [(g, v) for g, v in zip(gradients, self.trained, strict=True) if g is not None]
        if not pairs:
            raise ValueError(f"The loss of path {self.path!r} depends on none of its variables")
        pairs = [(self._summed(g, v), v) for g, v in pairs]
        if self.masks:
            pairs = [(self.masks.masked(g, v), v) for g, v in pairs]
        return pairs

    def _summed(self, gradient, variable: keras.Variable):
        """Returns the gradient with a row that occurs several times summed.

        Keras does not: its Adam squares the occurrences one by one.
        """
        by_rows = self._by_rows(gradient, variable)
        return sum_of_rows(gradient) if by_rows else tf.convert_to_tensor(gradient)

    def _times_scale(self, gradient, power: int) -> tf.Tensor:
        scale = tf.cast(self.optimizer.dynamic_scale.value, gradient.dtype)
        return tf.convert_to_tensor(gradient) * (scale if power > 0 else 1 / scale)

    def _update(self, pairs: Pairs, norm: tf.Tensor) -> tf.Operation:
        if not self.loss_scaled:
            return self._take(pairs, norm)
        # Handed a gradient that is not finite, the optimizer lowers its scale.
        return tf.cond(
            tf.math.is_finite(norm),
            lambda: self._take(pairs, norm),
            lambda: self._hand_over(pairs),
        )

    def _take(self, pairs: Pairs, norm: tf.Tensor) -> tf.Operation:
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
        ours: Any = [pair for pair in pairs if self._by_rows(*pair) or self._by_us(pair[1])]
        keras_own = [pair for pair in pairs if not any(pair is our for our in ours)]
        if ours:
            self.replicas.update(lambda pairs: update(self.optimizer, pairs), ours)
        if not keras_own:
            self.optimizer.iterations.assign_add(1)
        elif not self.conditions:
            self._hand_over(keras_own)
        else:
            self._apply_by_condition(keras_own)

    def _hand_over(self, pairs: Pairs) -> tf.Operation:
        if self.loss_scaled:
            pairs = [(self._times_scale(g, 1), v) for g, v in pairs]
        self.replicas.update(
            lambda pairs: self.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs]), pairs
        )
        return tf.no_op()

    def _apply_by_condition(self, pairs: Pairs) -> None:
        clock = tf.identity(self.optimizer.iterations.value)
        for conditions, pairs_of_one in self._by_condition(pairs):
            self.optimizer.iterations.assign(clock)  # `apply` counts, once per update
            if not conditions:
                self._hand_over(pairs_of_one)
                continue
            on = tf.reduce_all([on > 0 for on in conditions])
            tf.cond(on, lambda p=pairs_of_one: self._hand_over(p), tf.no_op)
        self.optimizer.iterations.assign(clock + 1)

    def _by_condition(self, pairs: Pairs) -> list[tuple]:
        """Returns (conditions, pairs): those of a switched-off layer have zeros for gradients."""
        groups: dict[tuple[int, ...], tuple] = {}
        for gradient, variable in pairs:
            conditions = self.conditions.get(id(variable), ())
            key = tuple(id(on) for on in conditions)
            groups.setdefault(key, (conditions, []))[1].append((gradient, variable))
        return list(groups.values())

    def _by_rows(self, gradient, variable: keras.Variable) -> bool:
        if self.settings.embeddings != "rows" or self.jit_compile:
            return False
        return isinstance(gradient, tf.IndexedSlices) and is_plain(self.optimizer, variable)

    def _by_us(self, variable: keras.Variable) -> bool:
        is_adam = isinstance(self.optimizer, keras.optimizers.Adam)
        return is_adam and is_plain(self.optimizer, variable) and not self.conditions


def _norm(pairs: Pairs) -> tf.Tensor:
    return tf.cast(tf.linalg.global_norm([g for g, _ in pairs]), tf.float32)
