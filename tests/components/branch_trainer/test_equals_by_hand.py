"""Random small models, schedules and settings: training equals a loop written out by hand."""

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    Head,
    Path,
    PathSettings,
    Sequential,
    Switch,
    Trainer,
)

ROWS, WIDTH, BATCHES = 4, 3, 2
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
}


class Plan(NamedTuple):
    """One training: choices of the model's paths, its schedule, and the settings per path."""

    choices: list[tuple[str, ...]]
    schedule: Any
    routes: list[str]
    optimizers: dict[str, str]
    settings: dict[str, dict]


@st.composite
def plans(draw):
    num_switches = draw(st.integers(1, 2))
    all_choices = list(itertools.product("xyz" if num_switches == 1 else "xy", repeat=num_switches))
    num_paths = draw(st.integers(2, min(4, len(all_choices))))
    choices = draw(st.permutations(all_choices))[:num_paths]
    names = [f"p{i}" for i in range(num_paths)]
    of_turns = st.lists(
        st.tuples(st.sampled_from(names), st.integers(1, 3)), min_size=1, max_size=4
    )
    turns = draw(of_turns)
    routes = [name for name, steps in turns for _ in range(steps)]
    kind = draw(st.sampled_from(["pattern", "sequential", "function"]))
    if kind == "sequential":
        schedule = Sequential(turns)
    else:
        pattern, routes = routes, (routes * 2)[:8]
        schedule = Alternate(pattern)
        if kind == "function":
            schedule = lambda step: pattern[step % len(pattern)]  # noqa: E731
    per_path = st.fixed_dictionaries(
        {
            "loss_weight": st.sampled_from([1.0, 0.3, 2.0]),
            "clip_norm": st.sampled_from([None, 0.1, 1.0]),
            "clip_value": st.sampled_from([None, 0.01]),
            "accumulate": st.integers(1, 3),
            "freeze": st.sampled_from([(), ("trunk",), ("out",), ("s0",)]),
        }
    )
    return Plan(
        choices,
        schedule,
        routes,
        {name: draw(st.sampled_from(sorted(OPTIMIZERS))) for name in names},
        {name: draw(per_path) for name in names},
    )


def make_model(plan):
    keras.utils.set_random_seed(11)
    stages: list = [
        Switch(
            f"s{number}",
            x=keras.layers.Dense(WIDTH, "relu"),
            y=keras.layers.Dense(WIDTH, "tanh"),
            z=keras.layers.Dense(WIDTH),
        )
        for number in range(len(plan.choices[0]))
    ]
    stages.insert(1, keras.layers.Dense(WIDTH, "tanh", name="trunk"))
    model = BranchedModel(
        stages,
        heads=[Head("out", keras.layers.Dense(1), loss="mse")],
        paths={
            f"p{i}": Path(**{f"s{number}": branch for number, branch in enumerate(of_path)})
            for i, of_path in enumerate(plan.choices)
        },
    )
    for path in model.paths:
        model.build_path(path, tf.TensorSpec([None, WIDTH]))
    return model


def make_batches(names):
    rng = np.random.default_rng(5)
    return {
        name: [
            tuple(rng.normal(size=(ROWS, n)).astype(np.float32) for n in (WIDTH, 1))
            for _ in range(BATCHES)
        ]
        for name in names
    }


def make_step_by_hand(model, path, optimizer, chosen):
    """Returns (gradient function, update function) of one path: no library but the layers."""
    variables = [
        v
        for name, layer in model.parts_of(path).items()
        if name not in chosen["freeze"]
        for v in layer.trainable_variables
    ]
    optimizer.build(variables)

    @tf.function
    def gradients_of(features, labels):
        with tf.GradientTape() as tape:
            output = model(features, path=path, training=True)["out"]
            objective = tf.reduce_mean(tf.square(output - labels)) * chosen["loss_weight"]
        return tape.gradient(objective, [v.value for v in variables])

    @tf.function
    def update(gradients):
        if chosen["accumulate"] > 1:
            gradients = [g / tf.cast(chosen["accumulate"], g.dtype) for g in gradients]
        if chosen["clip_value"] is not None:
            limit = chosen["clip_value"]
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
        if chosen["clip_norm"] is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, chosen["clip_norm"])
        optimizer.apply(gradients, variables)

    return gradients_of, update


def train_by_hand(model, plan, batches):
    steps = {
        path: make_step_by_hand(model, path, OPTIMIZERS[plan.optimizers[path]](), chosen)
        for path, chosen in plan.settings.items()
    }
    taken = dict.fromkeys(steps, 0)
    sums: dict[str, Any] = {}
    for path in plan.routes:
        gradients_of, update = steps[path]
        features, labels = batches[path][taken[path] % BATCHES]
        taken[path] += 1
        gradients = gradients_of(tf.constant(features), tf.constant(labels))
        if path in sums:
            gradients = [s + g for s, g in zip(sums.pop(path), gradients, strict=True)]
        if taken[path] % plan.settings[path]["accumulate"]:
            sums[path] = gradients
        else:
            update(gradients)


def stream_of(batches):
    columns = tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
    return tf.data.Dataset.from_tensor_slices(columns).batch(ROWS)


@settings(
    max_examples=6,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(plan=plans())
def test_training_equals_the_loop_written_by_hand_bit_for_bit(plan):
    ours, by_hand = make_model(plan), make_model(plan)
    batches = make_batches(plan.settings)
    trainer = Trainer(
        ours,
        streams={path: stream_of(of_path) for path, of_path in batches.items()},
        schedule=plan.schedule,
        settings={
            path: PathSettings(OPTIMIZERS[plan.optimizers[path]](), **chosen)
            for path, chosen in plan.settings.items()
        },
        steps=len(plan.routes),
        steps_per_loop=3,
    )
    trainer.run()
    train_by_hand(by_hand, plan, batches)
    for mine, theirs in zip(ours.variables, by_hand.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=mine.path)
