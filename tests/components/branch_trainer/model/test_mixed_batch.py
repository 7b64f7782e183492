import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch
from branchline.components.branch_trainer.step.batch_loss import batch_loss


@keras.saving.register_keras_serializable(package="tests")
class Reciprocal(keras.layers.Layer):
    """1/x: not finite, and its gradient neither, in rows of the other branch, where x is 0."""

    def call(self, inputs):
        return 1.0 / inputs


def make_model(mixed, **branches):
    keras.utils.set_random_seed(5)
    branches = {"a": keras.layers.Dense(3), "b": keras.layers.Dense(3, "tanh")} | branches
    return BranchedModel(
        [Switch("s", **branches), keras.layers.Dense(2, name="trunk")],
        heads=[
            Head("x", keras.layers.Dense(1), loss="mse"),
            Head("y", keras.layers.Dense(2), loss="mse"),
        ],
        paths={"a": Path(s="a", heads=["x"], features="u"), "b": Path(s="b", features="v")},
        mixed=mixed,
    )


def features_of(rows):
    rng = np.random.default_rng(1)
    return {
        "u": rng.uniform(1, 2, size=(rows, 3)).astype(np.float32),
        "v": rng.normal(size=(rows, 4)).astype(np.float32),
    }


MODES = pytest.mark.parametrize("mixed", ["partition", "multiplex"])
IDS = pytest.mark.parametrize(
    "ids", [[0, 1, 1, 0, 1], [0, 0, 0], [1], []], ids=["both", "only a", "only b", "no rows"]
)
GRAPH = pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])


@GRAPH
@IDS
@MODES
def test_each_row_comes_out_as_in_a_batch_of_its_own_path(mixed, ids, graph):
    model = make_model(mixed)
    features, ids = features_of(len(ids)), np.array(ids, np.int64)
    call = tf.function(model) if graph else model
    outputs = call(features, path=tf.constant(ids))
    a, b = model(features, path="a"), model(features, path="b")
    on_a = (ids == 0)[:, None]
    np.testing.assert_allclose(outputs["x"], np.where(on_a, a["x"], b["x"]), rtol=1e-5)
    np.testing.assert_allclose(outputs["y"], np.where(on_a, 0.0, b["y"]), rtol=1e-5)


@MODES
def test_gradients_of_a_mixed_batch_are_those_of_its_uniform_parts(mixed):
    model = make_model(mixed)
    features, ids = features_of(4), np.array([1, 0, 1, 1])
    with tf.GradientTape(persistent=True) as tape:
        together = tf.reduce_sum(model(features, path=tf.constant(ids))["x"] ** 2)
        apart = sum(
            tf.reduce_sum(model({k: v[ids == i] for k, v in features.items()}, path=p)["x"] ** 2)
            for i, p in enumerate(model.paths)
        )
    variables = [v.value for v in model.trainable_variables]
    for one, other in zip(
        tape.gradient(together, variables), tape.gradient(apart, variables), strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-4)


@MODES
def test_a_branch_that_is_not_finite_on_other_rows_has_finite_gradients(mixed):
    model = make_model(
        mixed, a=keras.Sequential([keras.layers.Dense(3, use_bias=False), Reciprocal()])
    )
    features = features_of(3)
    features["u"][1:] = 0.0
    run = tf.function(lambda f, ids: model(f, path=ids)["x"])
    with tf.GradientTape() as tape:
        output = run(features, tf.constant([0, 1, 1]))
    variables = [v.value for v in model.variables_of("a")]
    assert np.all(np.isfinite(output))
    assert all(np.all(np.isfinite(g)) for g in tape.gradient(output, variables))


def test_statistics_see_their_own_rows_and_none_when_there_are_none():
    norm = {p: keras.layers.BatchNormalization(momentum=0.0) for p in "ab"}
    model = BranchedModel(
        [Switch("s", **norm)],
        heads=[Head("x", keras.layers.Dense(1), loss="mse")],
        paths={p: Path(s=p) for p in "ab"},
    )
    x = tf.constant([[1.0], [3.0], [1000.0]])
    run = tf.function(lambda x, ids: model(x, path=ids, training=True))
    run(x, tf.constant([0, 0, 1]))
    assert norm["a"].moving_mean.numpy() == [2.0] and norm["b"].moving_mean.numpy() == [1000.0]
    run(x, tf.constant([1, 1, 1]))
    assert norm["a"].moving_mean.numpy() == [2.0]


def test_statistics_cannot_be_trained_multiplexed():
    model = make_model(
        "multiplex", a=keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(3)])
    )
    model.build_path("a", {k: tf.TensorSpec([None, v.shape[1]]) for k, v in features_of(1).items()})
    with pytest.raises(ValueError, match="'s' would mix all rows into the statistics"):
        model(features_of(2), path=tf.constant([0, 1]), training=True)


def test_the_multiplexed_form_compiles_with_xla():
    model = make_model("multiplex")
    features, ids = features_of(4), tf.constant([0, 1, 1, 0])
    model(features, path=ids)
    compiled = tf.function(lambda f, i: model(f, path=i)["x"], jit_compile=True)
    np.testing.assert_allclose(compiled(features, ids), model(features, path=ids)["x"], rtol=1e-4)


@MODES
def test_branches_of_different_width_cannot_be_mixed(mixed):
    model = make_model(mixed, a=keras.layers.Dense(4))
    with pytest.raises(ValueError, match="branches at 's' give .*same shape"):
        model(features_of(2), path=tf.constant([0, 1]))


@MODES
@pytest.mark.parametrize("ids", [[0, 2], [-1, 0]])
def test_a_path_id_out_of_range_is_an_error(mixed, ids):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the model has 2 paths"):
        make_model(mixed)(features_of(2), path=tf.constant(ids))


def test_a_batch_without_rows_has_a_loss_of_zero_though_a_head_is_of_some_paths_only():
    model = make_model("partition")
    labels = {"x": tf.zeros([0, 1]), "y": tf.zeros([0, 2])}
    batch = (features_of(0), tf.constant([], tf.int32)), labels
    assert batch_loss(model, None, batch, training=True) == 0
