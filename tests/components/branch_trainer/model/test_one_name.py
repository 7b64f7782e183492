"""Variables that share a name in TensorFlow are as apart as any others."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.model.one_name import one_name


def dense(name):
    layer = keras.layers.Dense(2, name=name)
    layer.build((None, 3))
    return layer


@pytest.fixture
def layers():
    with one_name():
        return [dense("first"), dense("second")]


def test_keras_keeps_its_names_and_each_variable_its_values(layers):
    assert [v.path for v in layers[1].variables] == ["second/kernel", "second/bias"]
    assert len({v.value.name for layer in layers for v in layer.variables}) == 1
    layers[0].bias.assign([1.0, 2.0])
    assert layers[1].bias.numpy().tolist() == [0.0, 0.0]
    assert dense("third").bias.value.name == "third/bias:0"


def test_optimizer_slots_are_of_their_own_variable(layers):
    with one_name():
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build([layer.bias for layer in layers])
    optimizer.apply([tf.ones([2]), tf.zeros([2])], [layer.bias for layer in layers])
    assert [layer.bias.numpy().tolist() for layer in layers] == [
        pytest.approx([-0.1, -0.1], rel=1e-3),
        [0.0, 0.0],
    ]


def test_a_saved_model_holds_each_one_also_for_loaders_that_go_by_names(layers, tmp_path):
    module: Any = tf.Module()
    module.weights = [layer.kernel.value for layer in layers]
    add = tf.function(lambda: {"sum": module.weights[0] + 10 * module.weights[1]})
    tf.saved_model.save(module, str(tmp_path), signatures=add.get_concrete_function())
    due = layers[0].kernel.numpy() + 10 * layers[1].kernel.numpy()
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]()["sum"]
    np.testing.assert_array_equal(loaded, due)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        output = graph.signature_def["serving_default"].outputs["sum"].name
        np.testing.assert_array_equal(session.run(output), due)


def test_variables_of_a_strategy_are_left_alone():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), one_name():
        assert dense("mirrored").bias.value.name.startswith("mirrored/bias")
