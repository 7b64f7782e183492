"""What a step asks of the model: the loss of a batch, and its gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step.loss_scale import LossScale
from branchline.components.branch_trainer.step.owners import Source, Sources
from branchline.components.branch_trainer.step.replicas import OneReplica


class BatchGradient(NamedTuple):
    """What a batch gives, all replicas together.

    Attributes:
        rows: float32 [], number of examples.
        counts: float32 [sources], rows of each source, as in `Objective.sources`.
        loss: float32 [], before `loss_weight` and without leaks.
        gradient: of each variable in `Objective.trained`, as of the tape: a tensor, IndexedSlices,
            or None.
        after_update: to run when the update is made; None: nothing.
    """

    rows: tf.Tensor
    counts: tf.Tensor
    loss: tf.Tensor
    gradient: list[Any]
    after_update: Callable[[], None] | None = None


class Objective:
    """The loss that one stream's batches have.

    Args:
        model: built.
        name: of the stream.
        settings: of the stream.
        replicas: what runs it.
    """

    optimizer: keras.optimizers.Optimizer
    # Variables that a step may change, and the rows from which they may learn.
    trained: list[keras.Variable]
    sources: list[Source]
    # Layers that a batch runs through, and variables of them that no optimizer changes.
    layers: list[keras.Layer]
    layer_variables: list[keras.Variable]

    def __init__(
        self, model: BranchedModel, name: str, settings: PathSettings, replicas: OneReplica
    ):
        self.model = model
        self.name = name
        self.settings = settings
        self.replicas = replicas
        self.optimizer = settings.optimizer or keras.optimizers.Adam()
        self.scale = LossScale(self.optimizer)

    @property
    def values(self) -> list[tf.Variable]:
        """The trained variables, as a tape takes them."""
        return [v.value for v in self.trained]

    @property
    def state(self) -> list[tf.Variable]:
        """What the objective itself learns, for checkpoints."""
        return []

    def sources_of(self, variable: keras.Variable) -> Sources:
        """Returns the rows of this stream's batches from which a variable learns."""
        raise NotImplementedError

    def surely_has(self, sources: Sources, batch: Any) -> bool:
        """Returns whether any batch of this shape has rows of one of the sources."""
        raise NotImplementedError

    def gradient(self, batch: tuple, through: tuple) -> BatchGradient:
        """Computes the gradient.

        Args:
            batch: as the stream gives it.
            through: the examples of it that a gate lets through.
        """
        raise NotImplementedError
