"""The loss of a batch whose rows all take one path, with what leaks to other paths."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.model.statistics import statistics_of
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.batch_loss import batch_loss
from branchline.components.branch_trainer.step.layer_state import LayerState
from branchline.components.branch_trainer.step.objective import BatchGradient, Objective
from branchline.components.branch_trainer.step.owners import Sources, source_of, sources_of
from branchline.components.branch_trainer.step.replicas import OneReplica
from branchline.components.branch_trainer.step.source_counts import label_counts
from branchline.components.branch_trainer.streams.seekable import rows_of


class PathObjective(Objective):
    """The loss of one path, and shares of those of paths to which it leaks.

    Args:
        model: built on this path.
        name: of the path.
        settings: of this path.
        replicas: what runs it.
        others: path → its settings, of those to which this one leaks: what they freeze stays.

    Raises:
        ValueError: nothing is left to train, `freeze` names an unknown part, `conflicts` is set, or
            layers of a path in `leak` are not built.
        KeyError: `leak` names an unknown path.
    """

    def __init__(
        self,
        model: BranchedModel,
        name: str,
        settings: PathSettings,
        replicas: OneReplica,
        others: Mapping[str, PathSettings],
    ):
        super().__init__(model, name, settings, replicas)
        if settings.conflicts != "sum":
            raise ValueError(
                f"conflicts={settings.conflicts!r} for path {name!r}, whose batches hold one route "
                "only; it is for streams of mixed batches"
            )
        self._frozen = tuple(settings.freeze)
        self._leaks = {other: share for other, share in settings.leak.items() if share > 0}
        self._frozen_of = {o: tuple(others[o].freeze) if o in others else () for o in self._leaks}
        self.trained = self._trained()
        paths = [name, *self._leaks]
        self._sources_of = sources_of(model, paths)
        self._heads = {source_of(p, head): head for p in paths for head in model.heads_of(p)}
        self.sources = list(self._heads)
        self.layers = [part for p in paths for part in model.parts_of(p).values()]
        self.layer_variables = [v for p in paths for v in model.state_of(p)]
        # The other branches keep the statistics of their own rows; put back within a replica.
        leaked = [part for other in self._leaks for part in model.parts_of(other).values()]
        statistics = [v for part in leaked for v in statistics_of(part)]
        self._leak_state = LayerState(statistics, OneReplica())

    def _trained(self) -> list[keras.Variable]:
        model, path = self.model, self.name
        trained = model.variables_of(path, without=self._frozen)
        if not trained:
            raise ValueError(f"Path {path!r} has nothing to train; frozen: {list(self._frozen)}")
        for other in self._leaks:
            parts = model.parts_of(other)
            unbuilt = [name for name, part in parts.items() if not part.built]
            if unbuilt:
                raise ValueError(
                    f"Path {path!r} leaks to path {other!r}, whose {unbuilt} are not built; "
                    "call model.build_path for it first"
                )
            known = {id(v) for v in [*trained, *model.variables_of(path)]}
            theirs = model.variables_of(other, without=self._frozen_of[other])
            trained += [v for v in theirs if id(v) not in known]
        return trained

    def sources_of(self, variable: keras.Variable) -> Sources:
        """Returns the rows from which a variable learns; leaks make one source of all rows."""
        sources = self._sources_of[id(variable)]
        always = next((s for s in self.sources if s.head is None), None)
        return frozenset([always]) if always and self.surely_has(sources, None) else sources

    def surely_has(self, sources: Sources, batch: Any) -> bool:
        """Returns whether there is a source of all rows: they all take the path, and its leaks."""
        return any(source.head is None for source in sources & set(self.sources))

    def gradient(self, batch: tuple, through: tuple) -> BatchGradient:
        """Computes the gradient, as the class says."""
        return self.replicas.sum_of(self._gradient, batch, through)

    def _gradient(self, batch: tuple, through: tuple) -> BatchGradient:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.values)
            loss = batch_loss(self.model, self.name, through, training=True, frozen=self._frozen)
            objective = loss
            for other, share in self._leaks.items():
                put_back = self._leak_state.remember()
                frozen = self._frozen_of[other]
                leaked = batch_loss(self.model, other, through, training=True, frozen=frozen)
                objective += share * leaked
                if put_back:
                    put_back()
            objective = self.scale.scaled(objective * self.settings.loss_weight)
        taken = tf.fill([rows_of(through)], True)
        counts = label_counts(list(self._heads.values()), through[1], taken)
        rows = tf.cast(rows_of(batch), tf.float32)
        return BatchGradient(rows, counts, loss, tape.gradient(objective, self.values))
