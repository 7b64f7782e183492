"""The small weights of a SavedModel lie in one variable, and are found there again."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.recipe.packed_weights import PackedWeights, read_weights


def _variables(rng):
    shapes = [(3, 4), (), (200, 100), (7,), (2, 2)]
    made = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
    return [*made, keras.Variable(np.arange(5), dtype="int64", trainable=False)]


def test_small_weights_lie_in_one_variable_for_each_dtype():
    variables = _variables(np.random.default_rng(0))

    packed = PackedWeights(variables)

    assert [each.shape for each in packed.large] == [(200, 100)]
    assert {name: int(each.shape[0]) for name, each in packed.small.items()} == {
        "float32": 12 + 1 + 7 + 4,
        "int64": 5,
    }
    assert packed.large[0] is variables[2].value  # not a copy


def test_keras_finds_the_values_in_what_is_packed_not_in_the_variables():
    variables = _variables(np.random.default_rng(1))
    want = [variable.numpy() for variable in variables]
    packed = PackedWeights(variables)
    for variable in variables[:2] + variables[3:]:
        variable.assign(variable * 0 - 1)
    some = [variables[4], variables[1], variables[5], variables[2], variables[0]]

    with packed.unpacked(some, packed.places(some), list(packed.small.values())):
        found = [tf.identity(variable.value).numpy() for variable in some]

    for number, each in zip((4, 1, 5, 2, 0), found, strict=True):
        np.testing.assert_array_equal(each, want[number])


def test_all_weights_are_read_from_the_saved_model_by_their_names(tmp_path):
    variables = _variables(np.random.default_rng(2))
    saved: Any = tf.Module()
    saved.weights = PackedWeights(variables)
    tf.saved_model.save(saved, str(tmp_path))

    found = read_weights(str(tmp_path))

    assert [name for name, _ in found] == [variable.path for variable in variables]
    for variable, (_, value) in zip(variables, found, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())
        assert value.dtype == variable.dtype


def test_what_a_layer_reads_in_its_own_way_is_kept_as_it_is():
    variables = _variables(np.random.default_rng(4))
    packed = PackedWeights(variables)

    packed.keep(variables, [variables[3].value.handle, variables[2].value.handle])

    assert [each is variables[3].value for each in packed.direct] == [True]
