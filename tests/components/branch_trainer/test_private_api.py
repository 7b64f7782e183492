"""What is used of Keras and TensorFlow without a public name is there, and what is done without."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import private_api as module
from branchline.components.branch_trainer.model.selective import Conditional
from branchline.components.branch_trainer.step.apply_gradients import is_plain

layers = keras.layers


class Holder(layers.Layer):
    """Layers as attributes, in a list, and in a dict."""

    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.many = [layers.Dense(2), keras.Sequential([layers.Dense(2), layers.Dropout(0.5)])]
        self.named = {"one": layers.Dense(2)}

    def call(self, inputs):
        return self.norm(self.many[0](inputs)) + self.named["one"](self.many[1](inputs))


def functional():
    inputs = keras.Input([2])
    return keras.Model(inputs, Holder()(layers.Dense(2)(inputs)))


def switched():
    layer = layers.Dense(2)
    layer.build([None, 2])
    return Conditional(layer)


def made(layer_fn):
    layer = layer_fn()
    layer(tf.ones([3, 2]))
    return layer


LAYERS = [Holder, functional, switched, lambda: layers.Dense(2)]


@pytest.mark.parametrize("layer_fn", LAYERS)
def test_layers_are_found_with_and_without_keras_list(layer_fn):
    layer = made(layer_fn)
    assert hasattr(layer, "_flatten_layers")
    theirs, found = module.sublayers_of(layer), list(module.layers_among_attributes(layer))
    assert {id(sub) for sub in theirs} <= {id(sub) for sub in found}
    # And of a Sequential the model that it is made into, with the same layers.
    weights = {id(v) for sub in theirs for v in sub.variables}
    assert weights == {id(v) for sub in found for v in sub.variables}


class Without:
    """An object that lacks some attributes of another."""

    def __init__(self, whole, *lacking):
        self._whole, self._lacking = whole, lacking

    def __getattr__(self, name):
        if name in self._lacking:
            raise AttributeError(name)
        return getattr(self._whole, name)


def test_statistics_are_found_with_and_without_keras_list():
    norm = made(layers.BatchNormalization)
    assert hasattr(norm, "_non_trainable_variables")
    expected = [norm.moving_mean, norm.moving_variance]
    for found in (module.own_statistics_of(norm), module.own_untrained_weights_of(norm)):
        assert [id(v) for v in found] == [id(v) for v in expected]
    assert module.own_untrained_weights_of(made(Holder)) == []


def test_losses_that_a_layer_added_are_its_own_list():
    layer = made(lambda: layers.ActivityRegularization(0.5))
    told = [float(loss) for loss in layer.losses]
    assert len(told) == 1 and [float(loss) for loss in module.losses_added_to(layer)] == told
    module.set_losses_added_to(layer, [])
    assert layer.losses == []
    assert module.losses_added_to(Without(layer, "_losses")) == []


@pytest.mark.parametrize(
    ("optimizer", "number"),
    [(keras.optimizers.Adam(), 2), (keras.optimizers.SGD(momentum=0.9), 1)],
    ids=["adam", "momentum"],
)
def test_slots_are_those_that_keras_updates(optimizer, number):
    variables = [keras.Variable([1.0, 2.0]), keras.Variable([3.0])]
    optimizer.build(variables)
    assert module.has_known_slots(optimizer)
    before = [[np.array(slot) for slot in module.slots_of(optimizer, v)] for v in variables]
    gradient = keras.ops.convert_to_tensor([1.0])
    optimizer.apply([keras.ops.zeros(2), gradient], variables)
    for still, slot in zip(before[0], module.slots_of(optimizer, variables[0]), strict=True):
        np.testing.assert_array_equal(still, slot)
    moved = zip(before[1], module.slots_of(optimizer, variables[1]), strict=True)
    assert [bool(np.any(was != np.array(slot))) for was, slot in moved] == [True] * number
    assert not module.has_known_slots(Without(optimizer, "_get_variable_index"))


def test_an_optimizer_whose_slots_are_not_known_is_left_to_keras():
    variable = keras.Variable([1.0])
    optimizer = keras.optimizers.RMSprop()
    optimizer.build([variable])
    assert not module.has_known_slots(optimizer) and not is_plain(optimizer, variable)


def test_rates_and_exclusions_are_told():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    assert module.rate_of(keras.optimizers.Adam(schedule)) is schedule
    assert module.rate_of(Without(keras.optimizers.Adam(), "_learning_rate")) is None
    first, second = (keras.optimizers.AdamW(weight_decay=0.1) for _ in range(2))
    assert not any(module.excluded_from_decay(first))
    first.exclude_from_weight_decay(var_names=["bias"])
    assert any(module.excluded_from_decay(first))
    module.copy_exclusion(first, second)
    assert module.excluded_from_decay(first) == module.excluded_from_decay(second)


def test_a_variable_is_read_without_the_cast_of_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = made(lambda: layers.Dense(2))
    finally:
        keras.config.set_dtype_policy("float32")
    value = module.uncast_value(layer.kernel)
    assert hasattr(layer.kernel, "_value") and value.dtype == tf.float32
    np.testing.assert_array_equal(value, np.array(layer.kernel))
    np.testing.assert_array_equal(module.uncast_value(Without(layer.kernel, "_value")), value)


@pytest.mark.parametrize("has_graphs", [True, False])
def test_shapes_are_traced_with_and_without_graphs_of_functions(monkeypatch, has_graphs):
    assert hasattr(tf.__internal__, "FuncGraph")
    if not has_graphs:
        monkeypatch.delattr(tf.__internal__, "FuncGraph")
    layer = layers.Dense(2)

    def run(pair):
        return {"y": layer(pair[0]), "ids": pair[1]}

    spec = (tf.TensorSpec([None, 3]), tf.TensorSpec([None], tf.int32))
    shapes = module.traced_shapes(run, spec)
    assert {name: shape.as_list() for name, shape in shapes.items()} == {
        "y": [None, 2],
        "ids": [None],
    }
    assert layer.kernel.shape == (3, 2) and np.all(np.isfinite(np.array(layer.kernel)))


def test_the_inputs_of_a_dataset_are_told():
    first = tf.data.Dataset.range(3)
    assert module.inputs_of(first.map(lambda x: x)) == [first]
    assert module.inputs_of(object()) == []


def test_the_gradients_of_an_optimizer_are_summed_by_the_name_that_is_replaced():
    optimizer = keras.optimizers.SGD()
    assert hasattr(optimizer, "_all_reduce_sum_gradients")
    module.sum_no_gradients(optimizer)
    pairs = [(1, 2)]
    assert optimizer._all_reduce_sum_gradients(pairs) is pairs
