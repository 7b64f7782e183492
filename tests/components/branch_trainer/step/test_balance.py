from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import step_of

from branchline.components.branch_trainer import (
    BranchedModel,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.step.balance import Famo, famo_gradient, famo_weights
from branchline.components.branch_trainer.step.batch_loss import batch_loss, route_means

PATHS = "abc"
START = [0.5, -1.0, 1.5]
SPEC = (tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)), tf.TensorSpec([None, 1])
RATE, LOGIT_RATE, DECAY = 0.05, 0.025, 0.01  # the last two as in FAMO's authors' code


def make_model(penalty=0.0, *, scale=1.0, loss="mse", behind_trunk=()):
    """Paths a, b, c: trunk → own branch → one head; b also has a head of its own, times `scale`."""
    keras.utils.set_random_seed(3)
    l2 = keras.regularizers.L2(penalty)
    trunk = keras.layers.Dense(3, "tanh", name="trunk", kernel_regularizer=l2)
    model = BranchedModel(
        [trunk, *behind_trunk, Switch("s", **{p: keras.layers.Dense(2) for p in PATHS})],
        heads=[
            Head("y", keras.layers.Dense(1), loss=loss),
            Head("z", keras.layers.Dense(1), loss="mse", loss_weight=scale),
        ],
        paths={p: Path(s=p, heads=["y", "z"] if p == "b" else ["y"]) for p in PATHS},
    )
    for path in PATHS:
        model.build_path(path, tf.TensorSpec([None, 4]))
    return model


def make_batch(ids, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(len(ids), 4)), rng.normal(size=(len(ids), 1))
    return (tf.constant(x, tf.float32), tf.constant(ids, tf.int32)), tf.constant(y, tf.float32)


def losses_of(model, batch):
    """Path number → the loss of its rows as a batch of their own, for paths with rows."""
    (x, ids), y = batch
    losses = {}
    for i in sorted(set(np.array(ids).tolist())):
        mine = np.array(ids) == i
        outputs = model(x[mine], path=PATHS[i], training=True)
        heads = model.heads_of(PATHS[i])
        losses[i] = tf.add_n(
            [h.loss_weight * tf.reduce_mean((outputs[h.name] - y[mine]) ** 2) for h in heads]
        )
    return losses


class FamoByHand:
    """Algorithm 1 of the paper, over the routes in the batch, with plain SGD on the weights."""

    def __init__(self, logits):
        self.logits = np.array(logits)
        self.mean, self.square, self.clock = np.zeros((3, len(PATHS)))

    def step(self, model, batch):
        variables = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            losses = losses_of(model, batch)
            here = list(losses)
            z = np.exp(self.logits[here]) / np.exp(self.logits[here]).sum()
            before = np.array([losses[i].numpy() for i in here])
            c = 1 / (z / before).sum()
            objective = tf.add_n([c * z[k] * tf.math.log(losses[i]) for k, i in enumerate(here)])
            objective += tf.add_n(model.losses) if model.losses else 0.0
        for variable, gradient in zip(variables, tape.gradient(objective, variables), strict=True):
            if gradient is not None:
                variable.assign_sub(RATE * tf.convert_to_tensor(gradient))
        after = np.array([loss.numpy() for loss in losses_of(model, batch).values()])
        jacobian = np.diag(z) - np.outer(z, z)
        gradient = jacobian @ (np.log(before) - np.log(after)) + DECAY * self.logits[here]
        self.clock[here] += 1
        self.mean[here] = 0.9 * self.mean[here] + 0.1 * gradient
        self.square[here] = 0.999 * self.square[here] + 0.001 * gradient**2
        unbiased = self.mean[here] / (1 - 0.9 ** self.clock[here])
        scale = np.sqrt(self.square[here] / (1 - 0.999 ** self.clock[here])) + 1e-7
        self.logits[here] -= LOGIT_RATE * unbiased / scale


def famo_step(model, optimizer=None) -> Any:
    optimizer = optimizer or keras.optimizers.SGD(RATE)
    return step_of(model, "all", PathSettings(optimizer, conflicts="famo"))


def logits_of(step):
    return np.array([np.array(logit) for logit in step.objective.famo.logits])


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("penalty", [0.0, 0.1], ids=["no penalty", "penalty"])
def test_steps_are_as_in_the_paper_whichever_routes_a_batch_has(graph, penalty):
    model, model_by_hand, by_hand = make_model(penalty), make_model(penalty), FamoByHand(START)
    step = famo_step(model)
    np.testing.assert_array_equal(logits_of(step), np.zeros(3))
    for logit, value in zip(step.objective.famo.logits, START, strict=True):
        logit.assign(value)  # the decay then counts from the start
    run = tf.function(step, autograph=False, input_signature=[SPEC]) if graph else step
    of_steps = [[0, 1, 1, 2, 1], [0, 0, 2], [0, 1, 2, 2], [1], [2, 1, 0, 0], [0, 2]]
    for number, ids in enumerate(of_steps):
        batch = make_batch(ids, seed=number)
        run(batch)
        by_hand.step(model_by_hand, batch)
        np.testing.assert_allclose(logits_of(step), by_hand.logits, rtol=2e-3, atol=1e-5)
    assert np.all(np.abs(by_hand.logits - START) > 0.02)
    for now, expected in zip(model.variables, model_by_hand.variables, strict=True):
        np.testing.assert_allclose(now, expected, rtol=1e-4, atol=1e-5, err_msg=now.path)


def test_what_is_reported_is_the_loss_of_the_batch():
    model, batch = make_model(0.1), make_batch([0, 1, 1, 2, 1])
    batch = (*batch, tf.constant([1.0, 2.0, 0.5, 0.0, 1.0]))
    expected = batch_loss(model, None, batch, training=True)
    np.testing.assert_allclose(famo_step(model)(batch)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("ids", [[0, 0, 1], [2], []], ids=["two", "one", "none"])
def test_a_route_without_rows_keeps_everything_and_gives_nothing(ids):
    model = make_model()
    step = famo_step(model, keras.optimizers.Adam(0.1))
    run = tf.function(step, autograph=False, input_signature=[SPEC])
    run(make_batch([0, 1, 2]))
    absent = [i for i in range(3) if i not in ids]

    def kept():
        slots = [step.objective.famo.optimizers[i].variables for i in absent]
        own = [model.own_state_of(PATHS[i]) for i in absent]
        return [np.array(v) for vs in (*slots, *own) for v in vs] + [logits_of(step)[absent]]

    before = kept()
    run(make_batch(ids, seed=1))
    for now, was in zip(kept(), before, strict=True):
        np.testing.assert_array_equal(now, was)
    assert all(np.all(np.isfinite(v)) for v in [*model.variables, *step.state])


def test_weights_and_gradient_of_routes_present_do_not_depend_on_one_that_is_not():
    logits, before, after = (
        tf.constant(values) for values in ([0.3, 90.0, -1.0], [2.0, 0.0, 0.1], [1.5, 0.0, 0.09])
    )
    present = [0, 2]
    alone = [tf.gather(t, present) for t in (logits, before, after)]
    weights, gradient = famo_weights(logits, before), famo_gradient(logits, before, after)
    np.testing.assert_allclose(tf.gather(weights, present), famo_weights(*alone[:2]), rtol=1e-6)
    np.testing.assert_allclose(tf.gather(gradient, present), famo_gradient(*alone), rtol=1e-5)
    assert weights[1] == 0
    np.testing.assert_array_equal(famo_weights(logits, tf.zeros([3])), np.zeros(3))


def with_dropout_and_statistics():
    return make_model(behind_trunk=[keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])


def test_only_the_update_is_between_the_two_looks_at_a_batch():
    """With a rate of 0 there is no progress, though each step draws another dropout."""
    step = famo_step(with_dropout_and_statistics(), keras.optimizers.SGD(0.0))
    run = tf.function(step, autograph=False)
    losses = [float(run(make_batch([0, 1, 2, 1, 0, 2]))[0]) for _ in range(3)]
    assert len(set(losses)) == 3
    np.testing.assert_array_equal(logits_of(step), np.zeros(3))


def test_the_second_look_leaves_statistics_and_random_state_to_the_first():
    states = []
    for rule in ("sum", "famo"):
        model = with_dropout_and_statistics()
        step = step_of(model, "all", PathSettings(keras.optimizers.SGD(0.5), conflicts=rule))
        tf.function(step, autograph=False)(make_batch([0, 1, 2, 1, 0, 2]))
        states.append([np.array(v) for v in model.non_trainable_variables])
    for famo, plain in zip(*states, strict=True):
        np.testing.assert_array_equal(famo, plain)


def test_negative_losses_are_refused():
    model = make_model(scale=-100.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="FAMO takes the logarithm of losses"):
        tf.function(famo_step(model), autograph=False)(make_batch([0, 1, 2]))


def steep(_, output):
    return 1.0 + tf.sqrt(0.0 * output)


@pytest.mark.parametrize(
    ("loss", "label"),
    [("mse", np.inf), ("mse", np.nan), (steep, 0.0)],
    ids=["loss inf", "loss nan", "gradient nan"],
)
def test_an_update_that_is_not_finite_leaves_the_logits(loss, label):
    step = famo_step(make_model(loss=loss))
    before = [np.array(v) for v in step.objective.famo.state]
    features, y = make_batch([0, 1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        tf.function(step, autograph=False)((features, y * label))
    for now, was in zip(step.objective.famo.state, before, strict=True):
        np.testing.assert_array_equal(now, was)


def test_an_update_after_which_a_loss_is_not_finite_leaves_the_logits():
    famo = Famo(2)
    famo.update(tf.constant([1.0, 1.0]), tf.constant([np.inf, 0.5]))
    assert [float(logit) for logit in famo.logits] == [0.0, 0.0]


def progress(rule, scale):
    """How much the logarithms of two routes' losses fell, the first's times `scale`.

    The routes want different things of the one layer they share, which can give neither both.
    """
    keras.utils.set_random_seed(3)

    def loud(label, output):
        return scale * keras.losses.mean_squared_error(label, output)

    def as_it_is():
        return keras.layers.Dense(1, trainable=False, kernel_initializer="ones")

    model = BranchedModel(
        [keras.layers.Dense(1, use_bias=False)],
        heads=[Head("a", as_it_is(), loss=loud), Head("b", as_it_is(), loss="mse")],
        paths={"a": Path(heads=["a"]), "b": Path(heads=["b"])},
    )
    for path in "ab":
        model.build_path(path, tf.TensorSpec([None, 4]))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    wanted = np.array([[2, 1, 1, 0], [-2, 1, 1, 0]] * 8, np.float32)
    ids, y = np.tile([0, 1], 8), (x * wanted).sum(axis=1, keepdims=True)
    batch = (tf.constant(x), tf.constant(ids)), tf.constant(y)
    settings = PathSettings(keras.optimizers.Adam(0.02), conflicts=rule)
    run = tf.function(step_of(model, "all", settings), autograph=False)
    before = route_means(model, batch, training=False)[1]
    for _ in range(200):
        run(batch)
    return np.log(before / route_means(model, batch, training=False)[1])


def test_the_scale_of_a_loss_does_not_decide_which_route_learns():
    summed, summed_loud = progress("sum", 1.0), progress("sum", 1000.0)
    assert np.all(summed > 0) and summed_loud[1] < 0
    famo, famo_loud = progress("famo", 1.0), progress("famo", 1000.0)
    assert np.all(famo > 0)
    np.testing.assert_allclose(famo_loud, famo, atol=0.2)


class Killed(Exception):
    pass


def kill_at_step_6(progress):
    if progress.step >= 6:
        raise Killed


def test_training_resumed_equals_training_never_interrupted(tmp_path):
    def trainer(directory, **changes):
        keras.utils.set_random_seed(0)
        model = make_model(behind_trunk=[keras.layers.Dropout(0.3)])
        batch = make_batch(np.random.default_rng(1).integers(0, 3, 40))
        stream = tf.data.Dataset.from_tensor_slices(batch).shuffle(40, seed=4).batch(4)
        return Trainer(
            model,
            streams={"all": stream},
            settings={"all": PathSettings(conflicts="famo")},
            steps=9,
            steps_per_loop=2,
            checkpoint_dir=directory,
            checkpoint_every=4,
            **changes,
        )

    whole = trainer(tmp_path / "whole")
    whole.run()
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", on_progress=kill_at_step_6).run()
    resumed = trainer(tmp_path / "cut")
    assert resumed.history.step == 4
    resumed.run()
    steps = [trainer.path_steps[0] for trainer in (resumed, whole)]
    assert np.all(logits_of(steps[0]) != 0)
    np.testing.assert_array_equal(*(logits_of(step) for step in steps))
    for now, never in zip(*(step.state for step in steps), strict=True):
        np.testing.assert_array_equal(now, never)
    for now, never in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(now, never, err_msg=now.path)


def test_batches_that_make_one_update_together_are_refused():
    settings = PathSettings(conflicts="famo", accumulate=2)
    with pytest.raises(ValueError, match="conflicts='famo' of 'all' .* accumulate=2 makes one"):
        step_of(make_model(), "all", settings)
