"""Turns the training part of a recipe into what the training core takes."""

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
        weight_decay=training.weight_decay or None,
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
    rate, warmup = training.learning_rate, training.warmup_steps
    decay_steps = max(1, updates - warmup)
    if training.decay == "cosine":
        ramp = {"warmup_target": rate, "warmup_steps": warmup} if warmup else {}
        return keras.optimizers.schedules.CosineDecay(0.0 if warmup else rate, decay_steps, **ramp)
    if training.decay == "linear" or warmup:
        return WarmupLinear(rate, warmup, decay_steps if training.decay == "linear" else None)
    return rate


@keras.saving.register_keras_serializable(package="branchline")
class WarmupLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to `rate` in `warmup` updates, then stays, or falls to 0 in `decay` more."""

    def __init__(self, rate: float, warmup: int, decay: int | None) -> None:
        super().__init__()
        self.rate, self.warmup, self.decay = rate, warmup, decay

    def __call__(self, step):
        """Gives the learning rate of an update, counted from 0."""
        step = keras.ops.cast(step, "float32")
        rise = keras.ops.minimum(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        after = keras.ops.maximum(0.0, step - self.warmup)
        fall = keras.ops.maximum(0.0, 1 - after / self.decay) if self.decay else 1.0
        return self.rate * rise * fall

    def get_config(self) -> dict:
        """Returns its arguments."""
        return {"rate": self.rate, "warmup": self.warmup, "decay": self.decay}
