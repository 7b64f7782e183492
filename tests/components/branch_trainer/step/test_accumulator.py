"""Several steps that make one update: F31."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import graph_of, step_of

from branchline.components.branch_trainer import (
    BranchedModel,
    Embedding,
    Head,
    Path,
    PathSettings,
    Trainer,
)

SGD, ADAM = keras.optimizers.SGD, keras.optimizers.Adam
layers = keras.layers


def make_table(vocabulary=6):
    keras.utils.set_random_seed(4)
    model = BranchedModel(
        [keras.Sequential([Embedding(vocabulary, 3), layers.Flatten()])],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={"a": Path()},
    )
    model.build_path("a", tf.TensorSpec([None, 1], tf.int64))
    return model


def batch_of(*ids):
    return tf.constant([[i] for i in ids], tf.int64), tf.ones([len(ids), 1])


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.01}, {"clip_value": 0.001}], ids=str)
@pytest.mark.parametrize("optimizer_fn", [ADAM, lambda: SGD(0.1, momentum=0.9)])
def test_f31_accumulated_steps_update_a_table_in_the_rows_of_their_batches(optimizer_fn, clip):
    """As one step on all of their rows does, with rows of earlier updates left as they are."""
    accumulated, large = make_table(), make_table()
    ours = graph_of(step_of(accumulated, "a", PathSettings(optimizer_fn(), accumulate=2, **clip)))
    other = graph_of(step_of(large, "a", PathSettings(optimizer_fn(), **clip)))
    for first, second in [((0, 1), (1, 1)), ((2, 3), (3, 2)), ((1, 3), (5, 5))]:
        tables = [model.variables_of("a")[0] for model in (accumulated, large)]
        before = np.array(tables[0])
        ours(batch_of(*first))
        np.testing.assert_array_equal(tables[0], before)
        ours(batch_of(*second))
        other(batch_of(*first, *second))
        np.testing.assert_allclose(*map(np.array, tables), rtol=1e-5, atol=1e-7)
        moved = np.any(np.array(tables[0]) != before, axis=1)
        assert set(np.where(moved)[0]) == {*first, *second}


def test_f31_an_accumulator_in_the_middle_is_resumed_exactly(tmp_path):
    def train(steps, directory=None):
        model = make_table()
        batches = tf.data.Dataset.from_tensor_slices(batch_of(*range(6))).batch(2)
        trainer = Trainer(
            model,
            streams={"a": batches},
            settings={"a": PathSettings(accumulate=3)},
            steps=steps,
            checkpoint_dir=directory,
        )
        trainer.run()
        return [np.array(v) for v in [*model.variables, *trainer.path_steps[0].state]]

    train(5, tmp_path)
    for resumed, whole in zip(train(10, tmp_path), train(10), strict=True):
        np.testing.assert_array_equal(resumed, whole)


def test_f31_an_accumulated_step_on_a_large_table_costs_no_more_than_on_a_small_one():
    def seconds_per_step(vocabulary):
        step = step_of(make_table(vocabulary), "a", PathSettings(accumulate=2))
        batch = batch_of(*range(32))
        run = graph_of(lambda: [step(batch) for _ in range(2)])
        run()
        times = []
        for _ in range(20):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds_per_step(1_000_000) < 5 * seconds_per_step(1_000)
