"""Sets how a route is trained, as its recipe says: optimizer, learning rate, clipping, end."""

import keras

from branchline.components.branch_trainer.settings import EarlyStop, PathSettings
from branchline.components.branch_trainer.step.optimizers import WarmupDecay
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
