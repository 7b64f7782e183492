"""One step on a mixed batch, whose rows take different paths through the model."""

from collections.abc import Iterator

import keras
import tensorflow as tf

from branchline.components.branch_trainer.losses import mixed_loss, rows_of
from branchline.components.branch_trainer.model import BranchedModel
from branchline.components.branch_trainer.settings import PathSettings
from branchline.components.branch_trainer.step import StepResult

_TAKEN = ("optimizer", "loss_weight", "clip_norm", "clip_value", "embeddings")


class MixedStep:
    """Updates the parts of the model that rows of the batch went through, and no others.

    Variables that the same paths use have an optimizer of their own, a copy of the one in the
    settings, so that a branch without rows in a batch is left alone by momentum and weight decay,
    and has its own clock.

    Args:
        model: built.
        name: of the stream.
        settings: of the stream; of them `optimizer`, `loss_weight`, `clip_norm` and `clip_value`.

    Raises:
        ValueError: another setting is given.
    """

    def __init__(self, model: BranchedModel, name: str, settings: PathSettings):
        defaults = PathSettings()
        given = [f for f in vars(defaults) if getattr(settings, f) != getattr(defaults, f)]
        unfit = sorted(set(given) - set(_TAKEN))
        if unfit:
            raise ValueError(f"The stream {name!r} is of mixed batches, which take no {unfit}")
        self.model = model
        self.path = name
        self.settings = settings
        self.groups = _by_users(model)
        template = settings.optimizer or keras.optimizers.Adam()
        self.optimizers = []
        for variables in self.groups.values():
            self.optimizers.append(type(template).from_config(template.get_config()))
            self.optimizers[-1].build(variables)

    @property
    def state(self) -> list[tf.Variable]:
        """Slots and clocks of all optimizers."""
        return [v.value for optimizer in self.optimizers for v in optimizer.variables]

    def __call__(self, batch: tuple) -> StepResult:
        """Takes one step.

        Args:
            batch: ((features, path ids), labels) or ((features, path ids), labels, sample_weight).
        """
        variables = [v for of_group in self.groups.values() for v in of_group]
        values = [v.value for v in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = mixed_loss(self.model, batch, training=True)
            objective = loss * self.settings.loss_weight
        found = zip(tape.gradient(objective, values), variables, strict=True)
        gradients = {id(v): tf.convert_to_tensor(g) for g, v in found if g is not None}
        norm = tf.cast(tf.linalg.global_norm(list(gradients.values())), tf.float32)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        gradients = dict(zip(gradients, self._clipped(list(gradients.values())), strict=True))
        (_, path_ids), *_ = batch
        for users, optimizer, pairs in self._updates(gradients):
            has_rows = tf.reduce_any(tf.cast(path_ids, tf.int32)[:, None] == list(users))
            tf.cond(
                finite & has_rows,
                lambda optimizer=optimizer, pairs=pairs: _apply(optimizer, pairs),
                tf.no_op,
            )
        return StepResult(finite, loss, norm, rows_of(batch))

    def _updates(self, gradients: dict[int, tf.Tensor]) -> Iterator[tuple]:
        for (users, of_group), optimizer in zip(self.groups.items(), self.optimizers, strict=True):
            pairs = [(gradients[id(v)], v) for v in of_group if id(v) in gradients]
            if pairs:
                yield users, optimizer, pairs

    def _clipped(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        limit = self.settings.clip_value
        if limit is not None:
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm)
        return gradients


def _apply(optimizer: keras.optimizers.Optimizer, pairs: list[tuple]) -> tf.Operation:
    optimizer.apply([g for g, _ in pairs], [v for _, v in pairs])
    return tf.no_op()


def _by_users(model: BranchedModel) -> dict[tuple[int, ...], list[keras.Variable]]:
    """Returns path ids → the trainable variables that exactly these paths use."""
    users: dict[int, list[int]] = {}
    variables: dict[int, keras.Variable] = {}
    for number, path in enumerate(model.paths):
        for variable in model.variables_of(path):
            users.setdefault(id(variable), []).append(number)
            variables[id(variable)] = variable
    groups: dict[tuple[int, ...], list[keras.Variable]] = {}
    for key, paths in users.items():
        groups.setdefault(tuple(paths), []).append(variables[key])
    return groups
