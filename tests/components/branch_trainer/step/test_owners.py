"""Who owns the optimizer's state of a variable; F45 and F46 of the list of failures."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import (
    BranchedModel,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.step.optimizers import WarmupDecay

ADAM, ADAMW, SGD = keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.SGD
WIDTH, ROWS, STEPS = 3, 8, 6
layers = keras.layers


def make_model(paths="ab", trunk=(), units=WIDTH):
    """Paths over float [batch, 3]: a branch each, a trunk, a head, and one with few labels."""
    keras.utils.set_random_seed(5)
    branches = {path: layers.Dense(units, "tanh") for path in paths}
    model = BranchedModel(
        [Switch("s", **branches), layers.Dense(units, "tanh", name="trunk"), *trunk],
        heads=[
            Head("y", layers.Dense(1), loss="mse"),
            Head("rare", layers.Dense(1), loss="mse", missing=np.nan),
        ],
        paths={path: Path(s=path) for path in paths},
    )
    for path in paths:
        model.build_path(path, tf.TensorSpec([None, WIDTH]))
    return model


def make_batches(count=STEPS):
    """Of every second batch no row has the label of `rare`."""
    rng = np.random.default_rng(2)
    batches = []
    for number in range(count):
        x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        y = rng.normal(size=(ROWS, 1)).astype(np.float32)
        batches.append((x, {"y": y, "rare": y * (np.nan if number % 2 else 1)}))
    return batches


def stream_of(batches):
    columns = tf.nest.map_structure(lambda *parts: np.stack(parts), *batches)
    return tf.data.Dataset.from_tensor_slices(columns)


ROUTES = "aababb"  # of the steps


def train_uniform(settings_fn, model=None, *, owner="shared", steps=STEPS, **more):
    model = model or make_model()
    batches = dict(zip("ab", [[], []], strict=True))
    for route, batch in zip(ROUTES, make_batches(), strict=True):
        batches[route].append(batch)
    trainer = Trainer(
        model,
        streams={route: stream_of(of_route) for route, of_route in batches.items()},
        settings={route: settings_fn() for route in "ab"},
        schedule=lambda step: ROUTES[step],
        steps=steps,
        optimizer_state=owner,
        **more,
    )
    trainer.run()
    return trainer


def train_mixed(settings_fn, model=None, **more):
    """On the same batches, each of which takes one path."""
    model = model or make_model()
    batches = [
        ((x, np.full(ROWS, "ab".index(route))), labels)
        for route, (x, labels) in zip(ROUTES, make_batches(), strict=True)
    ]
    trainer = Trainer(
        model,
        streams={"all": stream_of(batches)},
        settings={"all": settings_fn()},
        steps=STEPS,
        **more,
    )
    trainer.run()
    return trainer


def assert_close(ours, theirs, tolerance=1e-6):
    for mine, other in zip(ours.model.variables, theirs.model.variables, strict=True):
        np.testing.assert_allclose(mine, other, tolerance, tolerance, err_msg=mine.path)


SETTINGS = {
    "adam": lambda: PathSettings(ADAM(0.05)),
    "momentum": lambda: PathSettings(SGD(0.05, momentum=0.9, nesterov=True)),
    "weight decay": lambda: PathSettings(ADAMW(0.05, weight_decay=0.1)),
    "clipped": lambda: PathSettings(ADAM(0.05), clip_value=0.05, clip_norm=0.1, loss_weight=3.0),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_f45_uniform_and_mixed_batches_follow_one_trajectory_where_owners_are_shared(case):
    uniform, mixed = train_uniform(SETTINGS[case]), train_mixed(SETTINGS[case])
    assert_close(uniform, mixed)
    a_path_each = train_uniform(SETTINGS[case], owner="path")
    with pytest.raises(AssertionError):
        assert_close(a_path_each, mixed, tolerance=1e-3)


def test_f45_statistics_and_masks_too():
    def settings():
        return PathSettings(ADAM(0.05), mask_fn=mask_fn)

    def mask_fn(variable):
        return (
            np.arange(WIDTH) > 0 if "trunk" in variable.path and "bias" in variable.path else None
        )

    norms = [layers.BatchNormalization(momentum=0.5) for _ in range(2)]
    uniform, mixed = (
        train(settings, make_model(trunk=[norm]))
        for train, norm in zip((train_uniform, train_mixed), norms, strict=True)
    )
    assert_close(uniform, mixed, tolerance=1e-5)
    trunk: Any = mixed.model.stages[1]
    assert np.array(trunk.bias)[0] == 0 and np.all(np.array(trunk.bias)[1:] != 0)


def train_by_hand(rate):
    """One Adam for each part, on a clock of its own."""
    model = make_model()
    parts: list[Any] = [*model.stages[0].branches.values(), model.stages[1]]
    parts += [head.layer for head in model.heads]
    optimizers = [ADAM(rate) for _ in parts]
    for optimizer, part in zip(optimizers, parts, strict=True):
        optimizer.build(part.trainable_variables)
    for route, (x, labels) in zip(ROUTES, make_batches(), strict=True):
        with tf.GradientTape() as tape:
            outputs = model(tf.constant(x), path=route, training=True)
            loss = tf.reduce_mean(tf.square(outputs["y"] - labels["y"]))
            has_rare = not np.isnan(labels["rare"]).any()
            if has_rare:
                loss += tf.reduce_mean(tf.square(outputs["rare"] - labels["rare"]))
        variables = model.variables_of(route)
        gradients = dict(
            zip(map(id, variables), tape.gradient(loss, [v.value for v in variables]), strict=True)
        )
        used = ["ab".index(route), 2, 3, *([4] if has_rare else [])]
        for part, optimizer in ((parts[i], optimizers[i]) for i in used):
            of_part = part.trainable_variables
            optimizer.apply([gradients[id(v)] for v in of_part], of_part)
    return model


def test_shared_owners_are_one_optimizer_for_each_part_that_learns_from_the_same_rows():
    ours, by_hand = train_uniform(SETTINGS["adam"]).model, train_by_hand(0.05)
    for mine, theirs in zip(ours.variables, by_hand.variables, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=mine.path)


def test_the_learning_rate_is_that_of_the_stream_on_its_own_clock():
    """Without momentum a step of SGD is its gradient times its rate, of whatever owner."""
    rates = {"a": [0.5, 0.25, 0.125], "b": [1.0, 0.0, 0.0]}
    decay = keras.optimizers.schedules.PiecewiseConstantDecay

    def settings():
        values = rates["ab"[len(made)]]
        made.append(PathSettings(SGD(decay([0, 1], values))))
        return made[-1]

    made: list = []
    model, by_hand = make_model(), make_model()
    trainer = train_uniform(settings, model)
    taken = dict.fromkeys("ab", 0)
    for route, (x, labels) in zip(ROUTES, make_batches(), strict=True):
        with tf.GradientTape() as tape:
            outputs = by_hand(tf.constant(x), path=route, training=True)
            loss = tf.reduce_mean(tf.square(outputs["y"] - labels["y"]))
            if not np.isnan(labels["rare"]).any():
                loss += tf.reduce_mean(tf.square(outputs["rare"] - labels["rare"]))
        variables = [v.value for v in by_hand.variables_of(route)]
        rate = rates[route][min(taken[route], 2)]
        gradients: Any = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is not None:
                variable.assign_sub(rate * gradient)
        taken[route] += 1
    for mine, theirs in zip(model.variables, by_hand.variables, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, err_msg=mine.path)
    assert {p: int(o.iterations) for p, o in trainer.optimizers.items()} == {"a": 3, "b": 3}


def slot_entries(owner, paths="abcdefghij", units=64):
    model = make_model(paths, units=units)
    stream = tf.data.Dataset.from_tensors(make_batches(1)[0])
    trainer = Trainer(model, streams=dict.fromkeys(paths, stream), steps=1, optimizer_state=owner)
    state = {id(v): v for step in trainer.path_steps for v in step.state}
    weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return sum(int(tf.size(v)) for v in state.values()), weights


def test_f46_ten_paths_hold_one_pair_of_slots_of_their_trunk():
    """Adam's pair, and beside it clocks and rates: a handful of numbers for each owner."""
    entries, weights = slot_entries("shared")
    assert 2 * weights <= entries <= 2 * weights + 100
    of_paths, _ = slot_entries("path")
    trunk = 64 * 64 + 64
    assert of_paths >= 2 * weights + 2 * 9 * trunk


@pytest.mark.parametrize("owner", ["path", "shared"])
def test_a_step_leaves_the_other_branch_and_its_slots_bit_for_bit(owner):
    trainer = train_uniform(SETTINGS["weight decay"], steps=3, owner=owner)
    own = trainer.model.own_state_of("b")
    owners = [o for step in trainer.path_steps for o in step.update.owners]
    slots = [
        v
        for o in owners
        if {id(v) for v in o.variables} <= {id(v) for v in own}
        for v in o.optimizer.variables
    ]
    state = [np.array(v) for v in (*own, *slots)]
    trainer.loop.run(np.array([0], np.int32))
    for before, now in zip(state, (*own, *slots), strict=True):
        np.testing.assert_array_equal(before, now)


def test_a_training_with_shared_owners_is_resumed_exactly(tmp_path):
    train_uniform(SETTINGS["adam"], steps=3, checkpoint_dir=tmp_path)
    resumed = train_uniform(SETTINGS["adam"], checkpoint_dir=tmp_path)
    whole = train_uniform(SETTINGS["adam"])
    for mine, theirs in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert resumed.history.steps == whole.history.steps == {"a": 3, "b": 3}
    with pytest.raises(ValueError, match="optimizer state .*shared.*path"):
        train_uniform(SETTINGS["adam"], checkpoint_dir=tmp_path, owner="path")


def test_paths_that_compute_alike_share_a_trace_with_shared_owners_too():
    """Adam's rates are variables, and each path's goes with it."""
    settings = lambda: PathSettings(ADAM(WarmupDecay(0.1, 2, "cosine", 9)))  # noqa: E731
    trainer = train_uniform(settings)
    kinds = {
        step.alike(tf.data.DatasetSpec.from_value(stream).element_spec).kind
        for step, stream in zip(trainer.path_steps, [stream_of(make_batches())] * 2, strict=True)
    }
    assert len(kinds) == 1 and None not in kinds


@pytest.mark.parametrize("owner", ["path", "shared"])
def test_an_optimizer_in_use_is_refused(owner):
    used = [PathSettings(ADAM()), PathSettings(ADAM())]
    settings = iter([*used, *used])
    train_uniform(lambda: next(settings), owner=owner, steps=1)
    with pytest.raises(ValueError, match="'a' is already in use; give each path, and each Trainer"):
        train_uniform(lambda: next(settings), owner=owner)


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [
        ([ADAM(), SGD()], "'a' and 'b', which both train '.*trunk.*optimizers that differ"),
        ([ADAM(), ADAM(beta_1=0.5)], "differ in more than the learning rate"),
        ([keras.optimizers.LossScaleOptimizer(SGD()), SGD()], "'a' scales the loss"),
    ],
    ids=["kinds", "settings", "scale"],
)
def test_optimizers_that_cannot_share_are_refused(optimizers, message):
    given = iter(optimizers)
    with pytest.raises(ValueError, match=f"optimizer_state='shared', .*{message}"):
        train_uniform(lambda: PathSettings(next(given)))
    with pytest.raises(
        ValueError, match="optimizer_state='each', expected one of 'path', 'shared'"
    ):
        train_uniform(SETTINGS["adam"], owner="each")


@pytest.mark.parametrize(
    ("owner", "optimizer_fn", "matters"),
    [
        ("path", lambda: ADAM(0.05, epsilon=1e-12), False),
        ("path", lambda: SGD(0.05), True),
        ("shared", lambda: ADAM(0.05, epsilon=1e-12), True),
    ],
)
def test_a_loss_weight_matters_where_the_optimizer_does_not_divide_it_away(
    owner, optimizer_fn, matters
):
    """To Adam, for the layers that others train with another weight."""
    trained = []
    for weight in (1.0, 5.0):
        weights = iter([weight, 1.0])  # of a, of b
        settings_fn = lambda weights=weights: PathSettings(  # noqa: E731
            optimizer_fn(), loss_weight=next(weights)
        )
        trained.append(train_uniform(settings_fn, owner=owner).model.stages[1].kernel)
    difference = np.max(np.abs(np.array(trained[0]) - np.array(trained[1])))
    assert (difference > 1e-3) == matters
    assert matters or difference < 1e-5
