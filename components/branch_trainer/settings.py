"""What can be set for each path: optimizer, loss weight, clipping, accumulation, early stop."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras


@dataclasses.dataclass(frozen=True)
class EarlyStop:
    """When a path has learned enough.

    Args:
        patience: validations without improvement after which the path stops; those before which
            it was not updated since the last one are not counted.
        min_delta: by how much the validation loss has to fall to count as an improvement.

    Raises:
        ValueError: patience below 1 or negative min_delta.
    """

    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self):
        """Checks the values."""
        if self.patience < 1 or self.min_delta < 0:
            raise ValueError(f"{self}: expected patience ≥ 1 and min_delta ≥ 0")


@dataclasses.dataclass(frozen=True)
class PathSettings:
    """How one path is trained.

    Args:
        optimizer: a Keras optimizer that no other path uses; None: Adam(1e-3). Its clock counts
            this path's updates only, so a learning-rate schedule in it runs on them. A head whose
            labels may be missing, and a layer in `Selective` or `Conditional`, have a copy of it,
            whose clock counts the updates in which they had a part. For the policy
            mixed_float16 a `keras.optimizers.LossScaleOptimizer` (streams of one path): the loss is
            scaled, and a step whose gradient overflows is left out; at a scale of 1
            or less it is no overflow, and ends the path.
        loss_weight: factor of the path's loss, and so of its gradient; how often the path is
            trained is the schedule's sampling weight. Optimizers that divide the gradient by its
            usual size (Adam, AdamW, RMSprop, Lion) take the same steps at any factor,
            unless `clip_norm` or `clip_value` bounds it, or the state is shared with other paths
            (`Trainer(optimizer_state="shared")`).
        clip_norm: largest global norm of a gradient.
        clip_value: largest absolute value of a gradient's entry; applied before `clip_norm`.
        accumulate: number of steps whose mean gradient makes one update. A remainder at the end of
            training is kept in the accumulator and not applied.
        freeze: names of stages and heads that steps on this path leave as they are, statistics
            included.
        mask_fn: variable → gradient mask that broadcasts to it, or None for all of it; entries
            whose mask is 0 stay bit for bit. Of those between 0 and 1, the same holds as of
            `loss_weight`: with SGD they are trained so much, with Adam fully.
        leak: other path → share of its loss, on this path's batches, in this path's objective. Its
            branches are then trained here too, by so much, but for what its own settings freeze.
            Their statistics stay those of their own rows. It needs no stream of its own.
        gate: losses float32 [batch] → which examples take part in the update, bool [batch]; see
            `step/gate.py`.
        embeddings: "rows": Adam and SGD update tables, and their slots, in the rows of the batch
            only; "dense": as Keras does, in all rows at every step.
        early_stop: needs validation data for this path.
        conflicts: for streams of mixed batches, what becomes of routes that compete for the layers
            that they share. "sum": nothing; "pcgrad": their gradients are freed of what points
            against each other's, see `step/conflicts.py`; takes a backward pass per path of the
            model. "famo": their losses are weighted so that all fall equally fast, see
            `step/balance.py`; takes a second forward pass, and losses that are not negative.

    Raises:
        ValueError: a value is out of range.
        TypeError: the optimizer is not a Keras optimizer.
    """

    optimizer: keras.optimizers.Optimizer | None = None
    loss_weight: float = 1.0
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    freeze: Sequence[str] = ()
    mask_fn: Callable | None = None
    leak: Mapping[str, float] = dataclasses.field(default_factory=dict)
    gate: Callable | None = None
    embeddings: str = "rows"
    early_stop: EarlyStop | None = None
    conflicts: str = "sum"

    def __post_init__(self):
        """Checks the values."""
        optimizer = self.optimizer
        if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
            raise TypeError(f"optimizer={optimizer!r}, expected a keras.optimizers.Optimizer")
        if self.embeddings not in ("rows", "dense"):
            raise ValueError(f"embeddings={self.embeddings!r}, expected 'rows' or 'dense'")
        if self.conflicts not in ("sum", "pcgrad", "famo"):
            raise ValueError(f"conflicts={self.conflicts!r}, expected 'sum', 'pcgrad' or 'famo'")
        if any(not share >= 0 for share in self.leak.values()):
            raise ValueError(f"leak={self.leak}, expected shares ≥ 0")
        if self.accumulate < 1:
            raise ValueError(f"accumulate={self.accumulate}, expected at least 1")
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}, expected a positive number or None")
        if isinstance(self.freeze, str):
            raise ValueError(f"freeze={self.freeze!r}, expected a sequence of names")
        if optimizer is not None:
            _check_optimizer(optimizer)


def _check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "The optimizer has gradient_accumulation_steps; use PathSettings(accumulate=…)"
        )
    if optimizer.loss_scale_factor:
        raise ValueError(
            f"The optimizer has loss_scale_factor={optimizer.loss_scale_factor}, by which it would "
            "divide gradients of a loss that nothing multiplies; use PathSettings(loss_weight=…), "
            "or a keras.optimizers.LossScaleOptimizer"
        )
    if optimizer.use_ema and not optimizer.ema_overwrite_frequency:
        raise ValueError(
            "The optimizer has use_ema without ema_overwrite_frequency, so that its averages would "
            "never become the weights; give it ema_overwrite_frequency=…, or leave use_ema out"
        )
