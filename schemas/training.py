"""How the model is trained: for how long, in which turns, and each path by which optimizer."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from branchline.schemas.errors import check_int, check_number, reject
from branchline.schemas.schedules import Proportional, as_schedule

OPTIMIZERS = ("adam", "adamw", "sgd", "momentum", "rmsprop", "adagrad", "lion")
OPTIMIZER_STATES = ("path", "shared")
DECAYS = ("constant", "cosine", "linear")


@dataclass(frozen=True)
class EarlyStopping:
    """Stops a path when its validation loss has not fallen for a while, and keeps its best weights.

    Args:
        patience: Looks without an improvement of more than `min_delta` before the path stops.
        min_delta: In the unit of the path's loss.
    """

    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check_int("EarlyStopping.patience", self.patience)
        check_number("EarlyStopping.min_delta", self.min_delta, least=0)


@dataclass(frozen=True)
class PathTraining:
    """What one path's steps are like. Every path has its own optimizer, on its own clock.

    Args:
        optimizer: One of OPTIMIZERS.
        learning_rate: At the start, after the warm-up.
        decay: "constant", or "cosine" or "linear" down to 0 over the steps the path is due; then it
            takes no more than those, also if others stop early and leave their turns.
        warmup_steps: Steps of the path over which the learning rate rises from 0.
        weight_decay: Decoupled, per step, of the path's weights only.
        clip_norm: Greatest global norm of a step's gradient; None for no limit.
        clip_value: Greatest magnitude of a gradient's entries; None for no limit.
        accumulate: Batches whose mean gradient makes one update.
        loss_weight: Multiplies the path's loss.
        early_stopping: None trains the path for all its steps.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    decay: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    loss_weight: float = 1.0
    early_stopping: EarlyStopping | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.optimizer not in OPTIMIZERS:
            reject(f"{name}.optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        check_number(f"{name}.learning_rate", self.learning_rate, above=0)
        if self.decay not in DECAYS:
            reject(f"{name}.decay", self.decay, f"one of {', '.join(DECAYS)}")
        check_int(f"{name}.warmup_steps", self.warmup_steps, least=0)
        check_number(f"{name}.weight_decay", self.weight_decay, least=0)
        for field_name in ("clip_norm", "clip_value"):
            if getattr(self, field_name) is not None:
                check_number(f"{name}.{field_name}", getattr(self, field_name), above=0)
        check_int(f"{name}.accumulate", self.accumulate)
        check_number(f"{name}.loss_weight", self.loss_weight, above=0)
        if not isinstance(self.early_stopping, EarlyStopping | None):
            reject(f"{name}.early_stopping", self.early_stopping, "EarlyStopping(…) or None")


_PATH_FIELDS = tuple(f.name for f in dataclasses.fields(PathTraining))


@dataclass(frozen=True)
class Training(PathTraining):
    """How the model is trained; the fields of PathTraining hold for every route.

    Args:
        steps: Optimizer updates, of all routes together.
        batch_size: Rows of one route in a batch.
        steps_per_loop: How many of them run in one call of the graph.
        schedule: Which route is trained next: `Alternate`, `Proportional`, `Weighted`,
            `Sequential`, or a function of the recipe file, step → route.
        seed: Of the initial weights, the shuffling and the schedule's draws.
        validate_every: Steps, of all routes together, between two looks at the validation rows.
        validation_share: Share of a route's train rows held back to watch for early stopping;
            taken only from routes that stop early.
        memory_limit: Bytes of transformed training rows that are held in memory, of all routes
            together; rows of routes for which there is no room lie on disk.
        optimizer_state: "path": each route has an optimizer's state of its own for all that it
            trains; "shared": one state of the layers that several routes train, which so take the
            memory of one, however many routes there are. The routes' optimizers have then to be the
            same, but for the learning rate.
        jit_compile: Whether XLA compiles windows of `steps_per_loop` steps, which makes small
            models up to several times as fast and convolutions on a CPU much slower. "auto": the
            first windows are run both ways, and training goes on in the faster one, on which the
            last digits of its figures depend, and random draws, as of dropout.
        routes: Route → the fields of PathTraining in which it differs.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    steps: int = 1000
    batch_size: int = 128
    steps_per_loop: int = 50
    schedule: Any = Proportional(temperature=2.0)
    seed: int = 0
    validate_every: int = 100
    validation_share: float = 0.1
    memory_limit: int = 2 << 30
    optimizer_state: str = "path"
    jit_compile: bool | str = False
    routes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("Training.steps", self.steps)
        check_int("Training.batch_size", self.batch_size)
        check_int("Training.steps_per_loop", self.steps_per_loop)
        try:
            as_schedule(self.schedule)
        except TypeError:
            reject("Training.schedule", self.schedule, "a schedule, or a function step → route")
        check_int("Training.seed", self.seed, least=0)
        check_int("Training.validate_every", self.validate_every)
        check_int("Training.memory_limit", self.memory_limit, least=0)
        check_number("Training.validation_share", self.validation_share, above=0)
        if self.validation_share >= 1:
            reject("Training.validation_share", self.validation_share, "a share below 1")
        if self.optimizer_state not in OPTIMIZER_STATES:
            expected = f"one of {', '.join(OPTIMIZER_STATES)}"
            reject("Training.optimizer_state", self.optimizer_state, expected)
        if not isinstance(self.jit_compile, bool) and self.jit_compile != "auto":
            reject("Training.jit_compile", self.jit_compile, "True, False or 'auto'")
        if not isinstance(self.routes, Mapping):
            reject("Training.routes", self.routes, "a dict of route to the fields that differ")
        for route, fields in self.routes.items():
            if not isinstance(fields, Mapping) or not set(fields) <= set(_PATH_FIELDS):
                reject(f"Training.routes[{route!r}]", fields, f"some of {', '.join(_PATH_FIELDS)}")
            own = self.path(route)
            same = (own.optimizer, own.weight_decay) == (self.optimizer, self.weight_decay)
            if self.optimizer_state == "shared" and not same:
                expected = (
                    "optimizer and weight_decay of all routes, as optimizer_state is 'shared'"
                )
                reject(f"Training.routes[{route!r}]", fields, expected)

    def path(self, route: str) -> PathTraining:
        """The settings of `route`: what holds for all, and over it what is its own."""
        common = {name: getattr(self, name) for name in _PATH_FIELDS}
        return PathTraining(**(common | dict(self.routes.get(route, {}))))
