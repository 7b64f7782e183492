import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import step_of

from branchline.components.branch_trainer import Embedding, PathSettings
from branchline.components.branch_trainer.step.gate import between, hardest, without_outliers


def step_once(model, path, settings, *batches):
    """Takes a step per batch, in a graph, and returns the results."""
    step = step_of(model, path, settings)
    run = tf.function(lambda *batch: step(batch), autograph=False)
    return step, [run(*tf.nest.map_structure(tf.constant, batch)) for batch in batches]


def gradients_by_hand(model, path, batch):
    features, labels = batch
    variables = [v.value for v in model.variables_of(path)]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(features, path=path, training=True)["out"] - labels) ** 2)
    return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]


def test_a_step_reports_loss_gradient_norm_and_rows(typed_model, typed_batches):
    batch = typed_batches()["token"][0]
    loss, gradients = gradients_by_hand(typed_model(), "token", batch)
    _, [result] = step_once(typed_model(), "token", PathSettings(), batch)
    expected = [loss, tf.linalg.global_norm(gradients), 5]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "by_hand"),
    [
        ({"clip_norm": 0.01}, lambda g: tf.clip_by_global_norm(g, 0.01)[0]),
        ({"clip_value": 0.01}, lambda g: [tf.clip_by_value(x, -0.01, 0.01) for x in g]),
        ({"loss_weight": 3.0}, lambda g: [3.0 * x for x in g]),
        (
            {"clip_value": 0.01, "clip_norm": 0.02},
            lambda g: tf.clip_by_global_norm([tf.clip_by_value(x, -0.01, 0.01) for x in g], 2e-2)[
                0
            ],
        ),
    ],
    ids=["clip_norm", "clip_value", "loss_weight", "value, then norm"],
)
@pytest.mark.parametrize("path", ["vector", "token"])
def test_gradients_are_scaled_and_clipped_as_set(
    typed_model, typed_batches, path, settings, by_hand
):
    batch = typed_batches()[path][0]
    model, other = typed_model(), typed_model()
    _, gradients = gradients_by_hand(other, path, batch)
    step_once(model, path, PathSettings(keras.optimizers.SGD(1.0), **settings), batch)
    for now, was, gradient in zip(
        model.variables_of(path), other.variables_of(path), by_hand(gradients), strict=True
    ):
        np.testing.assert_allclose(now, was - gradient, rtol=1e-5, atol=1e-7)


def test_accumulated_steps_equal_one_large_batch(typed_model, typed_batches):
    batches = typed_batches(num_batches=3)["vector"]
    large = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    ours, other = typed_model(), typed_model()
    before = [np.array(v) for v in ours.variables]
    step, _ = step_once(ours, "vector", PathSettings(accumulate=3), *batches[:2])
    for was, now in zip(before, ours.variables, strict=True):
        np.testing.assert_array_equal(was, now)
    assert int(step.optimizer.iterations) == 0
    step([tf.constant(x) for x in batches[2]])
    assert int(step.optimizer.iterations) == 1
    step_once(other, "vector", PathSettings(), large)
    for one, big in zip(ours.variables, other.variables, strict=True):
        np.testing.assert_allclose(one, big, rtol=1e-4, atol=1e-6)


OPTIMIZERS = pytest.mark.parametrize(
    "make_optimizer",
    [
        keras.optimizers.Adam,
        lambda: keras.optimizers.SGD(0.1),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    ],
    ids=["Adam", "SGD", "momentum", "nesterov"],
)


@OPTIMIZERS
def test_rows_that_are_always_touched_are_updated_as_by_keras(
    typed_model, typed_batches, make_optimizer
):
    batch = (np.array([[0], [1], [2], [3], [4], [5], [1]]), np.ones([7, 1], np.float32))
    by_rows, dense = typed_model(), typed_model()
    step_once(by_rows, "token", PathSettings(make_optimizer()), *[batch] * 4)
    step_once(dense, "token", PathSettings(make_optimizer(), embeddings="dense"), *[batch] * 4)
    for one, other in zip(by_rows.variables, dense.variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-7, err_msg=one.path)


@OPTIMIZERS
def test_rows_that_are_not_touched_stay_and_so_do_their_slots(typed_model, make_optimizer):
    model = typed_model()
    table = model.own_state_of("token")[0]
    label = np.ones([2, 1], np.float32)
    step, _ = step_once(
        model, "token", PathSettings(make_optimizer()), (np.array([[1], [4]]), label)
    )
    slots = [table, *(v for v in step.optimizer.variables if v.shape == table.shape)]
    before = [np.array(v) for v in slots]
    step((tf.constant([[2], [2]]), tf.constant(label)))
    for was, now in zip(before, slots, strict=True):
        np.testing.assert_array_equal(np.delete(was, 2, 0), np.delete(now, 2, 0))
        assert not np.array_equal(was[2], now[2])


def mask_of_trunk(variable):
    """The trunk's kernel without its middle column, its bias by half."""
    if "trunk/kernel" in variable.path:
        return [1.0, 0.0, 1.0]
    return 0.5 if "trunk/bias" in variable.path else None


@pytest.mark.parametrize("accumulate", [1, 2])
def test_masked_entries_stay_bit_for_bit_through_momentum_and_weight_decay(
    typed_model, typed_batches, accumulate
):
    model = typed_model()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.3)
    kernel = model.stages[1].kernel
    before = np.array(kernel)
    settings = PathSettings(optimizer, mask_fn=mask_of_trunk, accumulate=accumulate)
    step_once(model, "vector", settings, *typed_batches()["vector"])
    np.testing.assert_array_equal(kernel[:, 1], before[:, 1])
    assert np.all(np.array(kernel)[:, [0, 2]] != before[:, [0, 2]])


def test_a_mask_between_0_and_1_scales_the_gradient(typed_model, typed_batches):
    batch = typed_batches()["vector"][0]
    half, full = typed_model(), typed_model()
    before = np.array(half.stages[1].bias)
    for model, mask_fn in ((half, mask_of_trunk), (full, None)):
        step_once(model, "vector", PathSettings(keras.optimizers.SGD(0.1), mask_fn=mask_fn), batch)
    np.testing.assert_allclose(
        2 * (half.stages[1].bias - before), full.stages[1].bias - before, rtol=1e-5
    )


def test_a_mask_that_does_not_broadcast_names_variable_and_shapes(typed_model):
    settings = PathSettings(mask_fn=lambda v: np.ones(7) if "trunk/kernel" in v.path else None)
    with pytest.raises(ValueError, match=r"trunk/kernel' has shape \(7,\), .* \(3, 3\)"):
        step_of(typed_model(), "vector", settings)


@pytest.mark.parametrize(
    ("gate", "let_through"),
    [
        (hardest(0.5), [False, True, False, True]),
        (hardest(0.01), [False, True, False, False]),
        (without_outliers(0.25), [True, False, True, True]),
        (between(0.5, 2.5), [True, False, False, True]),
    ],
    ids=["hardest half", "at least one", "without outliers", "between"],
)
def test_gates_select_by_loss(gate, let_through):
    np.testing.assert_array_equal(gate(tf.constant([1.0, 9.0, 0.1, 2.0])), let_through)


def test_ties_do_not_let_more_through():
    assert int(tf.reduce_sum(tf.cast(hardest(0.5)(tf.zeros([6])), tf.int32))) == 3


def test_gated_examples_have_no_influence(typed_model, typed_batches):
    features, labels = typed_batches()["vector"][0]
    labels[3] = 100.0
    kept = np.array([0, 1, 2, 4])
    ours, other = typed_model(), typed_model()
    gated = PathSettings(gate=without_outliers(0.2))
    _, [result] = step_once(ours, "vector", gated, (features, labels))
    step_once(other, "vector", PathSettings(), (features[kept], labels[kept]))
    for one, same in zip(ours.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, same)
    assert float(result[2]) == 5


def test_a_gate_that_lets_nothing_through_changes_nothing(typed_model, typed_batches):
    model = typed_model()
    before = [np.array(v) for v in model.variables]
    gated = PathSettings(gate=between(1e6, 1e7))
    step, _ = step_once(model, "vector", gated, typed_batches()["vector"][0])
    assert int(step.optimizer.iterations) == 0
    for was, now in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accumulate": 0}, "accumulate=0"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"clip_value": -1.0}, "clip_value=-1.0"),
        ({"freeze": "trunk"}, "expected a sequence"),
        ({"embeddings": "lazy"}, "embeddings='lazy'"),
        ({"leak": {"a": -0.1}}, "expected shares ≥ 0"),
        (
            {"optimizer": keras.optimizers.SGD(gradient_accumulation_steps=2)},
            "use PathSettings.accumulate",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PathSettings(**arguments)


def test_our_embedding_is_keras_embedding_to_save_and_to_call(tmp_path):
    ours = keras.Sequential([keras.Input([2], dtype="int32"), Embedding(5, 3)])
    theirs = keras.layers.Embedding(5, 3)
    theirs.build()
    theirs.set_weights(ours.get_weights())
    ids = np.array([[1, 4], [0, 1]])
    np.testing.assert_array_equal(ours(ids), theirs(ids))
    ours.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(ids), theirs(ids))
    ragged = tf.ragged.constant([[1], [4, 0]])
    np.testing.assert_array_equal(ours.layers[0](ragged)[1], theirs(np.array([4, 0])))
