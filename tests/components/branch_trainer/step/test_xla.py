"""XLA and float16 by option: the same training, compiled or in half precision."""

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
from branchline.components.branch_trainer.step.gate import hardest

ADAM, SGD = keras.optimizers.Adam, keras.optimizers.SGD


def settings():
    mask = np.array([1.0, 0.0, 1.0])
    return {
        "vector": PathSettings(ADAM(0.01), clip_norm=0.5, accumulate=2),
        "token": PathSettings(
            SGD(0.1, 0.9), embeddings="dense", mask_fn=lambda v: mask if "trunk" in v.path else None
        ),
    }


def test_compiled_steps_train_as_others_do(typed_model, typed_batches, stream_of):
    results = []
    for jit_compile in (False, True):
        model = typed_model()
        trainer = Trainer(
            model,
            streams={p: stream_of(b) for p, b in typed_batches().items()},
            settings=settings(),
            steps=12,
            steps_per_loop=5,
            jit_compile=jit_compile,
        )
        history = trainer.run()
        assert trainer.loop.num_traces == 1 and history.step == 12
        compiled = [step._compiled.experimental_get_tracing_count() for step in trainer.path_steps]
        assert compiled == [int(jit_compile)] * 2
        results.append([np.array(v) for v in model.variables])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)


def test_a_compiled_step_that_is_not_finite_updates_nothing(typed_model, typed_batches, stream_of):
    batches = typed_batches()
    batches["token"][2][1][:] = np.nan
    trainer = Trainer(
        typed_model(),
        streams={p: stream_of(b) for p, b in batches.items()},
        steps=12,
        jit_compile=True,
    )
    history = trainer.run()
    assert history.stopped["token"].startswith("loss or gradient not finite")
    assert history.steps == {"vector": 10, "token": 2}
    assert all(np.all(np.isfinite(v)) for v in trainer.model.variables)
    np.testing.assert_array_equal(trainer.failed_batch("token")[0], batches["token"][2][0])


@pytest.mark.parametrize("conflicts", ["sum", "pcgrad"])
def test_mixed_batches_are_compiled_where_they_are_multiplexed(conflicts):
    def model(mixed):
        keras.utils.set_random_seed(4)
        return BranchedModel(
            [Switch("s", a=keras.layers.Dense(3), b=keras.layers.Dense(3, "tanh"))],
            heads=[Head("y", keras.layers.Dense(1), loss="mse")],
            paths={p: Path(s=p) for p in "ab"},
            mixed=mixed,
        )

    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    ids = np.tile([0, 1], 4)
    stream = tf.data.Dataset.from_tensors(((x, ids), x.sum(1, keepdims=True)))
    results = []
    for mixed, jit_compile in (("partition", False), ("multiplex", True)):
        made = model(mixed)
        chosen = {"all": PathSettings(ADAM(0.05), conflicts=conflicts)}
        streams = {"all": stream}
        Trainer(made, streams=streams, settings=chosen, steps=9, jit_compile=jit_compile).run()
        results.append([np.array(v) for v in made.variables])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="made with mixed='multiplex'"):
        Trainer(model("partition"), streams={"all": stream}, steps=1, jit_compile=True)


def test_what_xla_cannot_compile_is_refused(typed_model, typed_batches, stream_of):
    streams = {"vector": stream_of(typed_batches()["vector"])}
    gated = {"vector": PathSettings(gate=hardest(0.5))}
    with pytest.raises(ValueError, match="gate of path 'vector' makes batches of varying size"):
        Trainer(typed_model(), streams=streams, settings=gated, steps=1, jit_compile=True)


def half_precision_model(typed_model):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return typed_model()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_float16_with_a_scaled_loss_trains_as_float32(
    typed_model, typed_batches, stream_of, accumulate
):
    results = []
    for half in (False, True):
        model = half_precision_model(typed_model) if half else typed_model()
        optimizers = {p: SGD(0.05) for p in ("vector", "token")}
        if half:
            optimizers = {
                p: keras.optimizers.LossScaleOptimizer(o, initial_scale=1024.0)
                for p, o in optimizers.items()
            }
        trainer = Trainer(
            model,
            streams={p: stream_of(b) for p, b in typed_batches().items()},
            settings={
                p: PathSettings(o, clip_norm=1.0, accumulate=accumulate, embeddings="dense")
                for p, o in optimizers.items()
            },
            steps=16,
        )
        trainer.run()
        results.append([np.array(v) for v in model.variables])
    for single, halved in zip(*results, strict=True):
        np.testing.assert_allclose(halved, single, atol=5e-3)


def test_a_gradient_that_overflows_in_float16_is_left_out_and_the_scale_lowered(
    typed_model, typed_batches, stream_of
):
    model = half_precision_model(typed_model)
    before = [np.array(v) for v in model.variables_of("vector")]
    optimizer = keras.optimizers.LossScaleOptimizer(SGD(0.05), initial_scale=2.0**40)
    trainer = Trainer(
        model,
        streams={"vector": stream_of(typed_batches()["vector"])},
        settings={"vector": PathSettings(optimizer)},
        steps=2,
        steps_per_loop=2,
    )
    history = trainer.run()
    assert history.stopped == {"vector": "all steps taken"}
    assert float(optimizer.dynamic_scale) == 2.0**38
    for was, now in zip(before, model.variables_of("vector"), strict=True):
        np.testing.assert_array_equal(was, now)
