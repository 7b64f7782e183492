import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import step_of

from branchline.components.branch_trainer import BranchedModel, Head, Path, PathSettings
from branchline.components.branch_trainer.model.selective import Conditional, Selective


def dense(units=2):
    layer = keras.layers.Dense(units)
    layer.build([None, 2])
    return layer


def gradients(layer, x, **when):
    """Through a graph: of the wrapped layer's kernel, and of the input."""
    kernel = layer.layer.kernel.value

    @tf.function
    def run(x, when):
        with tf.GradientTape() as tape:
            tape.watch([kernel, x])
            y = tf.reduce_sum(layer(x, **when))
        return tape.gradient(y, [kernel, x])

    return run(tf.constant(x), {k: tf.constant(v) for k, v in when.items()})


@pytest.mark.parametrize("how", ["variable", "argument"])
def test_gradients_pass_or_stop_and_the_output_stays(how):
    layer = Selective(dense())
    x = np.array([[1.0, 2.0]], np.float32)
    for on in (True, False):
        if how == "variable":
            layer.on.assign(int(on))
        of_kernel, of_input = gradients(layer, x, **({"when": on} if how == "argument" else {}))
        assert np.any(of_kernel) == np.any(of_input) == on
        np.testing.assert_allclose(layer(x), layer.layer(x))


def test_a_condition_needs_no_second_trace():
    layer = Conditional(dense())
    run = tf.function(layer)
    x = tf.ones([1, 2])
    outputs = []
    for on in (1, 0, 1, 0):
        layer.on.assign(on)
        outputs.append(run(x).numpy())
    assert run.experimental_get_tracing_count() == 1
    np.testing.assert_array_equal(outputs[1], x)
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert not np.array_equal(outputs[0], outputs[1])


def test_a_layer_that_does_not_run_keeps_its_statistics():
    norm = keras.layers.BatchNormalization()
    norm.build([None, 2])
    layer = Conditional(norm, on=False)
    tf.function(lambda x: layer(x, training=True))(100 * tf.ones([4, 2]))
    np.testing.assert_array_equal(norm.moving_mean, [0, 0])


@pytest.mark.parametrize("kind", [Selective, Conditional])
def test_wrapped_layers_save_and_load_inside_a_model(kind, tmp_path):
    model = keras.Sequential([keras.Input([2]), kind(dense(), on=False), keras.layers.Dense(1)])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded, keras.Sequential)
    x = np.ones([3, 2], np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert int(loaded.layers[0].on) == 0


@pytest.mark.parametrize("kind", [Selective, Conditional])
def test_wrapped_layers_compile_with_xla(kind):
    layer = kind(dense())
    x = tf.ones([3, 2])
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_allclose(compiled(x), layer(x), rtol=1e-5)


def test_a_selective_layer_works_in_mixed_precision():
    layer = keras.layers.Dense(2, dtype="mixed_float16")
    layer.build([None, 2])
    wrapped = Selective(layer, on=False, dtype="mixed_float16")
    x = np.ones([1, 2], np.float16)
    assert wrapped(x).dtype == tf.float16
    assert not np.any(gradients(wrapped, x)[0])


@pytest.mark.parametrize("off", ["inner", "outer"])
def test_a_wrapper_in_a_wrapper_is_at_rest_when_either_is_off(off):
    """Weight decay would move its weights, and has before."""
    layer = keras.layers.Dense(3)
    layer.build([None, 3])
    inner = Conditional(layer)
    outer = Selective(inner)
    model = BranchedModel(
        [keras.layers.Dense(3), outer],
        heads=[Head("y", keras.layers.Dense(1), loss="mse")],
        paths={"a": Path()},
    )
    batch = tf.ones([4, 2]), tf.ones([4, 1])
    model.build_path("a", tf.TensorSpec([4, 2]))
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    step = tf.function(step_of(model, "a", PathSettings(optimizer)), autograph=False)
    step(batch)
    {"inner": inner, "outer": outer}[off].on.assign(0)
    before = [np.array(v) for v in layer.variables]
    step(batch)
    for was, now in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(was, now)
    assert int(optimizer.iterations) == 2
