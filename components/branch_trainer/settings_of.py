"""Turns the training part of a recipe into what the training core takes."""

import math

import keras

from branchline.components.branch_trainer.settings import EarlyStop, PathSettings
from branchline.schemas import PathTraining

_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "lion": keras.optimizers.Lion,
}


def path_settings(training: PathTraining, steps: int) -> PathSettings:
    """Makes one path's settings, with an optimizer of its own.

    Args:
        training: The path's part of the recipe.
        steps: How many steps the path is due, for learning rates that decay to 0.
    """
    rule = training.early_stopping
    updates = max(1, steps // training.accumulate)
    kwargs = {"momentum": 0.9} if training.optimizer == "momentum" else {}
    name = "sgd" if training.optimizer == "momentum" else training.optimizer
    optimizer = _OPTIMIZERS[name](
        learning_rate=_learning_rate(training, updates),
        # AdamW alone takes no None.
        weight_decay=training.weight_decay or (0.0 if name == "adamw" else None),
        **kwargs,
    )
    return PathSettings(
        optimizer=optimizer,
        loss_weight=training.loss_weight,
        clip_norm=training.clip_norm,
        clip_value=training.clip_value,
        accumulate=training.accumulate,
        early_stop=EarlyStop(rule.patience, rule.min_delta) if rule else None,
    )


def _learning_rate(
    training: PathTraining, updates: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    warmup = -(-training.warmup_steps // training.accumulate)  # in updates
    if training.decay == "constant" and not warmup:
        return training.learning_rate
    return WarmupDecay(training.learning_rate, warmup, training.decay, max(1, updates - warmup))


@keras.saving.register_keras_serializable(package="branchline")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to `rate` in `warmup` updates, then stays, or falls to 0 in `decay_updates` more."""

    def __init__(self, rate: float, warmup: int, decay: str, decay_updates: int) -> None:
        super().__init__()
        self.rate, self.warmup, self.decay = rate, warmup, decay
        self.decay_updates = decay_updates

    def __call__(self, step):
        """Gives the learning rate of an update, counted from 0."""
        step = keras.ops.cast(step, "float32")
        # Keras' own CosineDecay starts its warm-up at 0, so its first update changes nothing.
        rise = keras.ops.minimum(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        done = keras.ops.clip((step - self.warmup) / self.decay_updates, 0.0, 1.0)
        if self.decay == "cosine":
            return self.rate * rise * (1 + keras.ops.cos(math.pi * done)) / 2
        return self.rate * rise * (1 - done if self.decay == "linear" else 1.0)

    def get_config(self) -> dict:
        """Returns its arguments."""
        return {
            "rate": self.rate,
            "warmup": self.warmup,
            "decay": self.decay,
            "decay_updates": self.decay_updates,
        }
