"""One step on one path: its gradient, and one update of its variables by its own optimizer."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.alike import Alike, path_likeness
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.layer_state import LayerState, statistics_of
from branchline.components.branch_trainer.model.selective import conditions_in
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.accumulator import Accumulator
from branchline.components.branch_trainer.step.losses import example_losses, label_of, path_loss
from branchline.components.branch_trainer.step.masks import Masks
from branchline.components.branch_trainer.step.optimizers import facts_of, optimizer_config
from branchline.components.branch_trainer.step.optional_heads import heads_alone, label_counts
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.updates import is_plain, sum_of_rows, update
from branchline.components.branch_trainer.streams.seekable import rows_of

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
        others: path → its settings, of those to which this one leaks: what they freeze stays.
        jit_compile: whether XLA compiles the step.
        replicas: what runs it; None: it runs once, here.

    Raises:
        ValueError: nothing is left to train, `freeze` names an unknown part, a mask does not
            broadcast, the optimizer is in use, `conflicts` is set, a gate is with XLA, layers of a
            path in `leak` are not built, or averages of weights meet a condition.
        KeyError: `leak` names an unknown path.
    """

    def __init__(
        self,
        model: BranchedModel,
        path: str,
        settings: PathSettings,
        *,
        others: Mapping[str, PathSettings] | None = None,
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
        self.frozen_of = {
            other: tuple(others[other].freeze) if others and other in others else ()
            for other in self.leaks
        }
        self.trained = self._trained()
        # The other branches keep the statistics of their own rows; put back within a replica.
        leaked = [part for other in self.leaks for part in model.parts_of(other).values()]
        statistics = [v for part in leaked for v in statistics_of(part)]
        self.leak_state = LayerState(statistics, OneReplica())
        run = [path, *self.leaks]
        self.layer_state = LayerState([v for p in run for v in model.state_of(p)], self.replicas)
        self.conditions = conditions_in(part for p in run for part in model.parts_of(p).values())
        self.heads = list(dict.fromkeys(head for p in run for head in model.heads_of(p)))
        self.all_optional = all(head.missing is not None for head in self.heads)
        self.heads_alone = {
            variable: places
            for variable, places in heads_alone(self.heads, model.stages).items()
            if not (self.all_optional and len(places) == len(self.heads))
        }
        self.masks = Masks(settings.mask_fn, self.trained) if settings.mask_fn else None
        self.optimizer = settings.optimizer or keras.optimizers.Adam()
        self.loss_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if self.optimizer.built:
            raise ValueError(
                f"The optimizer of path {path!r} is already in use; "
                "give each path, and each Trainer, a new one"
            )
        if self.optimizer.use_ema and (self.conditions or self.heads_alone):
            raise ValueError(
                f"The optimizer of path {path!r} has use_ema, whose averages would also move "
                "layers that are switched off and heads without labels; leave use_ema out"
            )
        self.optimizer.build(self.trained)
        self.replicas.take_over(self.optimizer)
        self.jit_compile = jit_compile
        self._compiled = tf.function(self._compiled_step, autograph=False, jit_compile=True)
        # A head that has learned in few steps has taken few.
        self.head_clocks = {
            places: tf.Variable(tf.zeros_like(self.optimizer.iterations.value), trainable=False)
            for places in dict.fromkeys(self.heads_alone.values())
        }
        self.accumulator = None
        if settings.accumulate > 1:
            self.accumulator = Accumulator(self.trained, settings.accumulate, len(self.heads))

    def _trained(self) -> list[keras.Variable]:
        trained = self.model.variables_of(self.path, without=self.frozen)
        if not trained:
            raise ValueError(
                f"Path {self.path!r} has nothing to train; frozen: {list(self.frozen)}"
            )
        for other in self.leaks:
            parts = self.model.parts_of(other)
            unbuilt = [name for name, part in parts.items() if not part.built]
            if unbuilt:
                raise ValueError(
                    f"Path {self.path!r} leaks to path {other!r}, whose {unbuilt} are not built; "
                    "call model.build_path for it first"
                )
            known = {id(v) for v in [*trained, *self.model.variables_of(self.path)]}
            theirs = self.model.variables_of(other, without=self.frozen_of[other])
            trained += [v for v in theirs if id(v) not in known]
        return trained

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The path's optimizer, alone in a list, as a `MixedStep` has several."""
        return [self.optimizer]

    @property
    def state(self) -> list[tf.Variable]:
        """Optimizer slots, clocks of path and heads, and accumulated gradients."""
        accumulated = self.accumulator.variables if self.accumulator else []
        slots = [v.value for v in self.optimizer.variables]
        return [*slots, *self.head_clocks.values(), *accumulated]

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
        sums = self.replicas.sum_of(self._gradients, through, batch)
        rows, labelled, loss, gradients = sums
        pairs = self._pairs(gradients)
        norm = _norm(pairs)
        # An optimizer that scales the loss leaves out a step whose gradient is not finite.
        figures = checked(loss, self._seen(norm), rows, put_back)
        with tf.control_dependencies([figures]):
            self._update_if_labelled(pairs, norm, labelled)
        return figures

    def _seen(self, norm: tf.Tensor) -> tf.Tensor:
        """Leaves an overflow out of the figures, but not what a scale of 1 or less cannot cause."""
        if not self.loss_scaled:
            return norm
        overflow = tf.logical_not(tf.math.is_finite(norm)) & (self.optimizer.dynamic_scale > 1.0)
        return tf.where(overflow, 0.0, norm)

    def _compiled_step(self, batch: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        """Steps if loss and gradient are finite; what XLA compiles raises nothing."""
        put_back = self.layer_state.remember()
        _, labelled, loss, gradients = self._gradients(batch, batch)
        pairs = self._pairs(gradients)
        norm = _norm(pairs)
        seen = tf.identity(self._seen(norm))  # by the scale as it is before the update
        finite = tf.math.is_finite(loss + seen)
        update = functools.partial(self._update_if_labelled, pairs, norm, labelled)
        tf.cond(finite, update, put_back or tf.no_op)
        return loss, seen

    def _gradients(self, through: tuple, batch: tuple) -> tuple[tf.Tensor, tf.Tensor, Any, list]:
        """Returns the batch's rows, labels per head, the loss, and gradients as of the tape."""
        variables = [v.value for v in self.trained]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = path_loss(self.model, self.path, through, training=True, frozen=self.frozen)
            objective = loss
            for other, share in self.leaks.items():
                put_back = self.leak_state.remember()
                frozen = self.frozen_of[other]
                leaked = path_loss(self.model, other, through, training=True, frozen=frozen)
                objective += share * leaked
                if put_back:
                    put_back()
            objective *= self.settings.loss_weight
            if self.loss_scaled:
                objective = self.optimizer.scale_loss(objective)
        rows = tf.cast(rows_of(batch), tf.float32)
        labelled = label_counts(self.heads, through[1], tf.fill([rows_of(through)], True))
        return rows, labelled, loss, tape.gradient(objective, variables)

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

    def _update_if_labelled(self, pairs: Pairs, norm: tf.Tensor, labelled: tf.Tensor):
        """Leaves out a batch without any label, from which there is nothing to learn."""
        if not self.all_optional:
            return self._update(pairs, norm, labelled)
        some = tf.reduce_any(labelled > 0)
        return tf.cond(some, lambda: self._update(pairs, norm, labelled), tf.no_op)

    def _update(self, pairs: Pairs, norm: tf.Tensor, labelled: tf.Tensor) -> tf.Operation:
        if not self.loss_scaled:
            return self._take(pairs, norm, labelled)
        # Handed a gradient that is not finite, the optimizer lowers its scale.
        return tf.cond(
            tf.math.is_finite(norm),
            lambda: self._take(pairs, norm, labelled),
            lambda: self._hand_over_to_keras(pairs),
        )

    def _take(self, pairs: Pairs, norm: tf.Tensor, labelled: tf.Tensor) -> tf.Operation:
        if self.accumulator:
            self.accumulator.add(pairs, labelled)
            tf.cond(self.accumulator.full, self._apply_accumulated, tf.no_op)
        else:
            self._apply(pairs, norm, labelled)
        return tf.no_op()

    def _apply_accumulated(self) -> tf.Operation:
        assert self.accumulator
        means, labelled = self.accumulator.take()
        pairs: Pairs = [*means]
        self._apply(pairs, _norm(pairs), labelled)
        return tf.no_op()

    def _apply(self, pairs: Pairs, norm: tf.Tensor, labelled: tf.Tensor) -> None:
        pairs = self._clipped(pairs, norm)
        if self.masks:
            variables = [v for _, v in pairs]
            self.masks.keeping(variables, lambda: self._optimize(pairs, labelled))
        else:
            self._optimize(pairs, labelled)

    def _clipped(self, pairs: Pairs, norm: tf.Tensor) -> Pairs:
        gradients, variables = [g for g, _ in pairs], [v for _, v in pairs]
        if self.settings.clip_value is not None:
            limit = self.settings.clip_value
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
            norm = tf.linalg.global_norm(gradients)
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm, use_norm=norm)
        return list(zip(gradients, variables, strict=True))

    def _optimize(self, pairs: Pairs, labelled: tf.Tensor) -> None:
        """Updates by the optimizer, and counts once."""
        groups = self._groups(pairs)
        if list(groups) == [((), ())]:
            self._hand_over(pairs)
            return
        path_clock = tf.identity(self.optimizer.iterations.value)
        for (heads, _), (conditions, of_group) in groups.items():
            due = [on > 0 for on in conditions]
            due += [tf.reduce_any(tf.gather(labelled, heads) > 0)] if heads else []
            update = functools.partial(self._hand_over_at, heads, path_clock, of_group)
            tf.cond(tf.reduce_all(due), update, tf.no_op) if due else update()
        self.optimizer.iterations.assign(path_clock + 1)

    def _groups(self, pairs: Pairs) -> dict[tuple, tuple]:
        """Returns a key with heads → conditions, and pairs that are updated if all of them hold.

        What is switched off, and heads without labels, have zeros for gradients, by which momentum
        and weight decay would move them.
        """
        groups: dict[tuple, tuple] = {}
        for gradient, variable in pairs:
            conditions = self.conditions.get(id(variable), ())
            heads = self.heads_alone.get(id(variable), ())
            key = heads, tuple(id(on) for on in conditions)
            groups.setdefault(key, (conditions, []))[1].append((gradient, variable))
        return groups

    def _hand_over_at(self, heads: tuple, path_clock: tf.Tensor, pairs: Pairs) -> tf.Operation:
        """Updates by the clock of the path, or of some heads, which goes on."""
        own = self.head_clocks.get(heads)
        clock = path_clock if own is None else tf.identity(own)
        self.optimizer.iterations.assign(clock)  # an update counts, each of several
        self._hand_over(pairs)
        if own is not None:
            own.assign(clock + 1)
        return tf.no_op()

    def _hand_over(self, pairs: Pairs) -> tf.Operation:
        ours: Any = [pair for pair in pairs if self._by_rows(*pair) or self._by_us(pair[1])]
        done = {id(v) for _, v in ours}
        keras_own = [pair for pair in pairs if id(pair[1]) not in done]
        if ours:
            self.replicas.update(lambda pairs: update(self.optimizer, pairs), ours)
        if keras_own:
            self._hand_over_to_keras(keras_own)
        else:
            self.optimizer.iterations.assign_add(1)
        return tf.no_op()

    def _hand_over_to_keras(self, pairs: Pairs) -> tf.Operation:
        if self.loss_scaled:
            pairs = [(self._times_scale(g, 1), v) for g, v in pairs]
        self.replicas.update(
            lambda pairs: self.optimizer.apply([g for g, _ in pairs], [v for _, v in pairs]), pairs
        )
        return tf.no_op()

    def _by_rows(self, gradient, variable: keras.Variable) -> bool:
        if self.settings.embeddings != "rows" or self.jit_compile:
            return False
        return isinstance(gradient, tf.IndexedSlices) and is_plain(self.optimizer, variable)

    def _by_us(self, variable: keras.Variable) -> bool:
        is_adam = isinstance(self.optimizer, keras.optimizers.Adam)
        return is_adam and is_plain(self.optimizer, variable)


def _norm(pairs: Pairs) -> tf.Tensor:
    return tf.cast(tf.linalg.global_norm([g for g, _ in pairs]), tf.float32)
