"""The loss of a batch whose rows take different paths, and what becomes of their conflicts."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.balance import Famo
from branchline.components.branch_trainer.step.batch_loss import (
    batch_loss,
    route_losses,
    route_means,
)
from branchline.components.branch_trainer.step.conflicts import (
    inner_products,
    pcgrad_factors,
    random_orders,
)
from branchline.components.branch_trainer.step.layer_state import LayerState
from branchline.components.branch_trainer.step.objective import BatchGradient, Objective
from branchline.components.branch_trainer.step.owners import Sources, source_of, sources_of
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.source_counts import label_counts
from branchline.components.branch_trainer.streams.seekable import rows_of

_NOT_TAKEN = ("freeze", "leak", "gate", "early_stop")


class MixedObjective(Objective):
    """The heads' losses, each a mean over the rows that have it, weighted and summed.

    Args:
        model: built.
        name: of the stream.
        settings: of the stream.
        replicas: what runs it.

    Raises:
        ValueError: a setting is given that is for batches of one path.
    """

    def __init__(
        self, model: BranchedModel, name: str, settings: PathSettings, replicas: OneReplica
    ):
        super().__init__(model, name, settings, replicas)
        given = [f for f in _NOT_TAKEN if getattr(settings, f) != getattr(PathSettings(), f)]
        if given:
            raise ValueError(f"The stream {name!r} is of mixed batches, which take no {given}")
        if isinstance(settings.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(f"The stream {name!r} is of mixed batches, which take no loss scaling")
        self._sources_of = sources_of(model, model.paths)
        unique = {id(v): v for path in model.paths for v in model.variables_of(path)}
        self.trained = list(unique.values())
        self._heads_of = {path: model.heads_of(path) for path in model.paths}
        sources = [source_of(path, head) for path in model.paths for head in self._heads_of[path]]
        self.sources = list(dict.fromkeys(sources))
        self.layers = [*model.stages, *model.heads]
        self.layer_variables = model.variables

    def sources_of(self, variable: keras.Variable) -> Sources:
        """Returns the rows from which a variable learns."""
        return self._sources_of[id(variable)]

    def surely_has(self, sources: Sources, batch: Any) -> bool:
        """Returns whether any row will do, and the batch has one."""
        path_ids = batch[0][1]  # under a strategy not a tensor, but one for each replica
        never_empty = isinstance(path_ids, tf.Tensor) and bool(path_ids.shape[0])
        return never_empty and all((path, None) in sources for path in self.model.paths)

    def gradient(self, batch: tuple, through: tuple) -> BatchGradient:
        """Computes the gradient, as the class says."""
        return self.replicas.sum_of(self._gradient, batch)

    def _gradient(self, batch: tuple) -> BatchGradient:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.values)
            loss = batch_loss(self.model, None, batch, training=True)
            objective = loss * self.settings.loss_weight
        return self._of(batch, loss, tape.gradient(objective, self.values))

    def _of(self, batch: tuple, loss: Any, gradient: list) -> BatchGradient:
        (_, path_ids), labels = batch[:2]
        taken = tf.equal(tf.cast(path_ids, tf.int32)[:, None], tf.range(len(self._heads_of)))
        if [source.head for source in self.sources] == [None] * len(self._heads_of):
            counts = tf.reduce_sum(tf.cast(taken, tf.float32), 0)
        else:
            of_paths = []
            for number, heads in enumerate(self._heads_of.values()):
                of_sources = {source_of("", head): head for head in heads}
                of_paths.append(label_counts(list(of_sources.values()), labels, taken[:, number]))
            counts = tf.concat(of_paths, 0)
        return BatchGradient(tf.cast(rows_of(batch), tf.float32), counts, loss, gradient)


class ProjectedObjective(MixedObjective):
    """The same, with the routes' gradients of shared variables freed of what is opposed (PCGrad).

    Args:
        model, name, settings, replicas: as of `MixedObjective`.
        seed: of the orders in which routes meet.
    """

    def __init__(
        self,
        model: BranchedModel,
        name: str,
        settings: PathSettings,
        replicas: OneReplica,
        seed: int,
    ):
        super().__init__(model, name, settings, replicas)
        self._seed = seed
        self._num_steps = tf.Variable(tf.constant(0, tf.int64), trainable=False)

    @property
    def state(self) -> list[tf.Variable]:
        """The number of steps, by which orders are drawn."""
        return [self._num_steps]

    def gradient(self, batch: tuple, through: tuple) -> BatchGradient:
        """Computes the gradient, as the class says."""
        of_all = self.replicas.sum_of(self._by_route, batch)
        *of_routes, of_penalties = of_all.gradient
        shared = [len({s.path for s in self.sources_of(v)}) > 1 for v in self.trained]
        products = inner_products(
            [[g for g, s in zip(of_route, shared, strict=True) if s] for of_route in of_routes]
        )
        factors = pcgrad_factors(
            products, random_orders(len(of_routes), self._num_steps, self._seed)
        )
        gradients = []
        for k, is_shared in enumerate(shared):
            each = [of_route[k] for of_route in of_routes]
            if is_shared:
                each = [tf.cast(factors[i], g.dtype) * g for i, g in enumerate(each)]
            gradients.append(tf.add_n([*each, of_penalties[k]]))
        loss: Any = of_all.loss
        return of_all._replace(
            loss=tf.add_n(loss), gradient=gradients, after_update=self._count_step
        )

    def _count_step(self) -> None:
        self._num_steps.assign_add(1)

    def _by_route(self, batch: tuple) -> BatchGradient:
        """Returns losses and gradients of each route, and those of the penalties last."""
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            tape.watch(self.values)
            losses = route_losses(self.model, batch, training=True)
            objectives = [loss * self.settings.loss_weight for loss in losses]
        gradients = [
            [
                tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(tape.gradient(objective, self.values), self.values, strict=True)
            ]
            for objective in objectives
        ]
        return self._of(batch, losses, gradients)


class BalancedObjective(MixedObjective):
    """The routes' losses weighted so that all fall equally fast (FAMO)."""

    def __init__(
        self, model: BranchedModel, name: str, settings: PathSettings, replicas: OneReplica
    ):
        super().__init__(model, name, settings, replicas)
        if settings.accumulate > 1:
            raise ValueError(
                f"conflicts='famo' of {name!r} learns from what each update did, and accumulate="
                f"{settings.accumulate} makes one of several batches; use one of them"
            )
        self.famo = Famo(len(model.paths))
        self._layer_state = LayerState(self.layer_variables, replicas)

    @property
    def state(self) -> list[tf.Variable]:
        """FAMO's logits, with slots and clocks."""
        return self.famo.state

    def gradient(self, batch: tuple, through: tuple) -> BatchGradient:
        """Computes the gradient, as the class says."""
        to_first = self._layer_state.remember()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.values)
            loss, means, penalties = route_means(self.model, batch, training=True)
            weights = tf.stop_gradient(self.famo.weights(means))
            objective = self.settings.loss_weight * (tf.tensordot(weights, means, 1) + penalties)
        gradient = self._of(batch, loss, tape.gradient(objective, self.values))
        return gradient._replace(after_update=lambda: self._learn(batch, means, to_first))

    def _learn(self, batch: tuple, means: tf.Tensor, to_first: Callable | None) -> None:
        """Updates the logits by what the update did to the losses of the same batch.

        As FAMO's authors do, at the cost of a second forward pass. The next batch would do without,
        but a route's loss differs more between batches than by one update: its logarithm by 0.8
        against 0.2 (`test_s07…`, batches of 32, first 60 steps). The second pass begins with the
        random and other state of the first, so that only the update is between them, and leaves no
        trace of its own in that state.
        """
        to_last = self._layer_state.remember()
        if to_first:
            to_first()
        _, means_after, _ = route_means(self.model, batch, training=True)
        if to_last:
            to_last()
        self.famo.update(means, means_after)
