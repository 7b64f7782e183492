"""Optimizers of paths: schedules of learning rates, what two may share, and copies.

Which optimizer and learning rate a path has is set in `PathSettings.optimizer`, and for the route
of a recipe in `recipe/path_settings.py`.
"""

import json
import math
from typing import Any

import keras
import numpy as np

from branchline.components.branch_trainer.private_api import (
    copy_exclusion,
    excluded_from_decay,
    rate_of,
)

_TOLD = (
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adagrad,
    keras.optimizers.Lion,
)


@keras.saving.register_keras_serializable(package="branchline")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to `rate` in `warmup` updates, then stays, or falls to 0 in `decay_updates` more.

    The numbers are held in a variable, so that one trace serves paths with others.
    """

    def __init__(self, rate: float, warmup: int, decay: str, decay_updates: int) -> None:
        super().__init__()
        self.rate, self.warmup, self.decay = rate, warmup, decay
        self.decay_updates = decay_updates
        self.facts = keras.Variable([rate, warmup, decay_updates], trainable=False, dtype="float32")

    def __call__(self, step):
        """Gives the learning rate of an update, counted from 0."""
        step = keras.ops.cast(step, "float32")
        facts = keras.ops.unstack(keras.ops.convert_to_tensor(self.facts))
        return self._at(keras.ops, step, *facts)

    def now(self, step: int) -> float:
        """Gives the same as a number, in a twentieth of the time."""
        numbers = np.array([step, self.rate, self.warmup, self.decay_updates], np.float32)
        return float(self._at(np, *numbers))

    def _at(self, ops: Any, step: Any, rate: Any, warmup: Any, decay_updates: Any) -> Any:
        # Keras' own CosineDecay starts its warm-up at 0, so its first update changes nothing.
        if self.warmup:
            rate = rate * ops.minimum(1.0, (step + 1) / warmup)
        done = ops.clip((step - warmup) / decay_updates, 0.0, 1.0)
        if self.decay == "cosine":
            return rate * (1 + ops.cos(math.pi * done)) / 2
        return rate * (1 - done) if self.decay == "linear" else rate

    def get_config(self) -> dict:
        """Returns its arguments."""
        return {
            "rate": self.rate,
            "warmup": self.warmup,
            "decay": self.decay,
            "decay_updates": self.decay_updates,
        }


def facts_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the variables of the optimizer's learning-rate schedule, if it has some."""
    schedule = rate_of(optimizer)
    return [schedule.facts] if isinstance(schedule, WarmupDecay) else []


def rate_now(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the optimizer's next update."""
    schedule = rate_of(optimizer)
    if isinstance(schedule, WarmupDecay):
        return schedule.now(int(optimizer.iterations.numpy()))
    return float(np.array(optimizer.learning_rate))


def optimizer_config(optimizer: keras.optimizers.Optimizer) -> str | None:
    """Describes what an optimizer of Keras's does, but for the numbers in `facts_of`.

    Returns:
        None where its configuration need not tell: as for an optimizer of somebody's own, one that
        goes by the names of variables, as Muon does, or one told to leave out some of them.
    """
    if type(optimizer) not in _TOLD or any(excluded_from_decay(optimizer)):
        return None
    config: dict[str, Any] = optimizer.get_config() | {"name": type(optimizer).__name__}
    rate = rate_of(optimizer)
    if isinstance(rate, WarmupDecay):
        config["learning_rate"] = ["WarmupDecay", bool(rate.warmup), rate.decay]
    elif isinstance(rate, keras.Variable):
        config["learning_rate"] = "variable"
    elif not type(rate).__module__.startswith("keras.src."):
        return None
    try:
        return json.dumps(config, sort_keys=True)
    except TypeError:
        return None


def copy_of(optimizer: keras.optimizers.Optimizer, **changed: Any) -> keras.optimizers.Optimizer:
    """Returns a new optimizer that does the same; of one that scales the loss, the one inside.

    Args:
        optimizer: whose configuration is taken.
        **changed: what is different.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return copy_of(optimizer.inner_optimizer, **changed)
    copy = type(optimizer).from_config(optimizer.get_config() | changed)
    copy_exclusion(optimizer, copy)
    return copy


def same_but_for_rate(one: keras.optimizers.Optimizer, other: keras.optimizers.Optimizer) -> bool:
    """Returns whether two optimizers do the same at the same learning rate."""

    def told(optimizer: Any) -> list:
        config = optimizer.get_config() | {"learning_rate": None, "name": None}
        return [type(optimizer), config, excluded_from_decay(optimizer)]

    return told(one) == told(other)
