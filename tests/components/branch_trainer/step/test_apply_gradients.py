"""Embedding tables are updated in the rows of the batch, whichever way is quicker."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import BranchedModel, Embedding, Head, Path, PathSettings
from branchline.components.branch_trainer.step import update
from tests.helpers.training_steps import step_of

VOCABULARY, ROWS = 12, 4
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.1),
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
}


def trained(optimizer, **settings):
    """The table and its slots before and after each step, and the ids of each step."""
    keras.utils.set_random_seed(2)
    model = BranchedModel(
        [keras.Sequential([Embedding(VOCABULARY, 3), keras.layers.Flatten()])],
        heads=[Head("y", keras.layers.Dense(1), loss="mse")],
        paths={"a": Path()},
    )
    model.build_path("a", tf.TensorSpec([ROWS, 1], tf.int64))
    step = step_of(model, "a", PathSettings(OPTIMIZERS[optimizer](), **settings))
    table = model.variables_of("a")[0].value
    slots = [v for v in step.state if v.shape == table.shape]
    run = tf.function(step, autograph=False)
    rng = np.random.default_rng(0)
    states = [[np.array(v) for v in (table, *slots)]]
    steps = [np.array([3, 3, 3, 5]), *rng.integers(0, VOCABULARY, size=(5, ROWS))]
    for ids in steps:
        run((tf.constant(ids[:, None]), tf.constant(rng.normal(size=(ROWS, 1)), tf.float32)))
        states.append([np.array(v) for v in (table, *slots)])
    kinds = {op.type for op in run.get_concrete_function(*run_args()).graph.get_operations()}
    return states, steps, "Unique" in kinds


def run_args():
    return [(tf.TensorSpec([ROWS, 1], tf.int64), tf.TensorSpec([ROWS, 1], tf.float32))]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1}], ids=["plain", "clipped"])
def test_a_small_table_is_updated_whole_where_it_was_touched(monkeypatch, optimizer, settings):
    whole, steps, looks_for_rows = trained(optimizer, **settings)
    assert not looks_for_rows
    monkeypatch.setattr(update, "_FEW", 0)
    by_rows, _, looks_for_rows = trained(optimizer, **settings)
    assert looks_for_rows
    for mine, other in zip(whole, by_rows, strict=True):
        for one, two in zip(mine, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)
    for ids, before, after in zip(steps, whole[:-1], whole[1:], strict=True):
        others = sorted(set(range(VOCABULARY)) - set(ids.tolist()))
        for was, now in zip(before, after, strict=True):
            np.testing.assert_array_equal(was[others], now[others])
            assert np.all(np.any(was[ids] != now[ids], axis=1))
