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
from branchline.components.branch_trainer.step.batch_loss import batch_loss, route_losses
from branchline.components.branch_trainer.step.conflicts import pcgrad_factors, random_orders


def pcgrad_by_hand(gradients, orders):
    """Algorithm 1 of the paper, on NumPy vectors."""
    projected = []
    for i, gradient in enumerate(gradients):
        gradient = gradient.copy()
        for j in orders[i]:
            along = gradient @ gradients[j]
            if j != i and along < 0:
                gradient -= along / (gradients[j] @ gradients[j]) * gradients[j]
        projected.append(gradient)
    return np.sum(projected, axis=0)


@pytest.mark.parametrize("num_routes", [1, 2, 4])
def test_pcgrad_is_as_in_the_paper(num_routes):
    rng = np.random.default_rng(num_routes)
    gradients = rng.normal(size=(num_routes, 3)).astype(np.float32)
    orders = np.array([rng.permutation(num_routes) for _ in range(num_routes)], np.int32)
    factors = pcgrad_factors(tf.constant(gradients @ gradients.T), tf.constant(orders))
    expected = pcgrad_by_hand(gradients, orders)
    np.testing.assert_allclose(factors.numpy() @ gradients, expected, rtol=1e-4, atol=1e-5)


def test_a_route_without_rows_changes_nothing():
    products = tf.constant([[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(pcgrad_factors(products, tf.constant([[0, 1], [1, 0]])), [1, 1])


def test_orders_are_permutations_that_differ_by_step_and_can_be_had_again():
    orders = [random_orders(5, tf.constant(step, tf.int64)).numpy() for step in (0, 1, 0)]
    assert all(sorted(row) == [0, 1, 2, 3, 4] for row in orders[0])
    np.testing.assert_array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])


def make_model():
    keras.utils.set_random_seed(3)
    model = BranchedModel(
        [
            keras.layers.Dense(3, name="trunk"),
            Switch("s", a=keras.layers.Dense(2), b=keras.layers.Dense(2)),
        ],
        heads=[Head("y", keras.layers.Dense(1), loss="mse")],
        paths={"a": Path(s="a"), "b": Path(s="b")},
    )
    model.build_path("a", tf.TensorSpec([None, 4]))
    model.build_path("b", tf.TensorSpec([None, 4]))
    branches = model.switches[0].branches
    branches["b"].set_weights(branches["a"].get_weights())  # opposite labels then pull apart
    return model


def make_batch(ids):
    rng = np.random.default_rng(8)
    x = np.abs(rng.normal(size=(len(ids), 4))).astype(np.float32)
    y = np.where(np.array(ids)[:, None] == 0, 5.0, -5.0).astype(np.float32)
    return (tf.constant(x), tf.constant(ids)), tf.constant(y)


def test_the_parts_of_the_routes_add_up_to_the_loss():
    model, batch = make_model(), make_batch([0, 1, 1, 0, 1])
    batch = (*batch, tf.constant([1.0, 2.0, 0.5, 0.0, 1.0]))
    parts = route_losses(model, batch, training=True)
    np.testing.assert_allclose(sum(parts), batch_loss(model, None, batch, training=True), rtol=1e-6)


def test_gradients_are_projected_per_route_and_on_shared_variables_only():
    model, ids = make_model(), [0, 1, 1, 0, 1]
    batch = make_batch(ids)
    variables = model.trainable_variables
    before = [np.array(v) for v in variables]
    shared = [
        v for v in variables if all(v is not own for p in "ab" for own in model.own_state_of(p))
    ]
    (x, _), y = batch
    of_routes = []
    for number, path in enumerate("ab"):
        mine = np.array(ids) == number
        with tf.GradientTape() as tape:
            output = model(x[mine], path=path)["y"]
            loss = tf.reduce_sum((output - y[mine]) ** 2) / len(ids)
        of_routes.append(tape.gradient(loss, [v.value for v in variables]))
    flat = [
        np.concatenate([g.numpy().ravel() for g, v in zip(of_route, variables, strict=True)
                        if any(v is s for s in shared)])
        for of_route in of_routes
    ]  # fmt: skip
    assert flat[0] @ flat[1] < 0
    expected = pcgrad_by_hand(flat, [[0, 1], [0, 1]])
    step = step_of(model, "both", PathSettings(keras.optimizers.SGD(1.0), conflicts="pcgrad"))
    tf.function(step, autograph=False)(batch)
    moved = {id(v): was - np.array(v) for v, was in zip(variables, before, strict=True)}
    np.testing.assert_allclose(
        np.concatenate([moved[id(v)].ravel() for v in shared]), expected, rtol=1e-3, atol=1e-5
    )
    for number, path in enumerate("ab"):
        for v, g in zip(variables, of_routes[number], strict=True):
            if any(v is own for own in model.own_state_of(path)):
                np.testing.assert_allclose(moved[id(v)], g, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", ["pcgrad", "famo"])
def test_conflicts_are_for_mixed_batches(rule):
    with pytest.raises(ValueError, match=f"conflicts='{rule}' for path 'a', .* mixed batches"):
        step_of(make_model(), "a", PathSettings(conflicts=rule))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="expected 'sum', 'pcgrad' or 'famo'"):
        PathSettings(conflicts="surgery")


def test_f47_the_orders_in_which_routes_meet_are_drawn_from_the_seed():
    """Three routes, each against the others, so that the order tells in the weights."""
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    y = rng.normal(size=(30, 1)).astype(np.float32)

    def trained(seed):
        trunk = keras.layers.Dense(1, kernel_initializer="zeros")
        model = BranchedModel(
            [trunk],
            heads=[Head("y", keras.layers.Identity(), loss="mse")],
            paths={path: Path() for path in "abc"},
        )
        settings = PathSettings(keras.optimizers.SGD(0.1), conflicts="pcgrad")
        streams = {"all": tf.data.Dataset.from_tensors(((x, ids), y))}
        Trainer(model, streams=streams, settings={"all": settings}, steps=20, seed=seed).run()
        return np.array(trunk.kernel)

    one, other = trained(0), trained(1)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, trained(0))
    np.testing.assert_array_equal(other, trained(1))
