"""What a batch has nothing to teach is left alone: F30, F34, and of F42 averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import (
    assert_as_before,
    built,
    graph_of,
    make_model,
    make_rows,
    optional,
    step_of,
)

from branchline.components.branch_trainer import BranchedModel, Head, Path, PathSettings
from branchline.components.branch_trainer.model.selective import Conditional, Selective

ADAM, ADAMW = keras.optimizers.Adam, keras.optimizers.AdamW
layers = keras.layers


@pytest.mark.parametrize("kind", [Selective, Conditional])
@pytest.mark.parametrize("stream", ["uniform", "mixed"])
def test_f30_a_layer_that_is_switched_off_is_not_moved(kind, stream, values_of):
    """Neither by momentum nor by weight decay, and it stays the only one."""
    switched = kind(built(layers.Dense(2)))
    model = make_model(switched)
    (x, y), settings = make_rows(), PathSettings(ADAMW(0.1, weight_decay=0.1))
    if stream == "mixed":
        step, batch = step_of(model, "all", settings), ((x, tf.constant([0, 1, 0, 1])), y)
    else:
        step, batch = step_of(model, "a", settings), (x, y)
    run = graph_of(step)
    run(batch)
    switched.on.assign(0)
    off, other = switched.layer.variables, model.heads[0].layer.kernel
    before, other_before = values_of(off), np.array(other)
    run(batch)
    assert_as_before(before, off)
    assert np.all(np.array(other) != other_before)
    switched.on.assign(1)
    run(batch)
    assert np.all(np.array(off[0]) != before[0])


def test_f30_a_table_that_is_switched_off_is_not_moved_in_its_rows(values_of):
    table = Selective(built(layers.Embedding(3, 2)))
    model = BranchedModel(
        [keras.Sequential([table, layers.Flatten()])],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={"a": Path()},
    )
    model.build_path("a", tf.TensorSpec([None, 1], tf.int64))
    step = step_of(model, "a", PathSettings(ADAM(0.1)))
    run, batch = graph_of(step), (tf.constant([[0], [1]], tf.int64), tf.ones([2, 1]))
    run(batch)
    table.on.assign(0)
    before = values_of(table.layer.variables)
    run(batch)
    assert_as_before(before, table.layer.variables)
    assert int(step.optimizer.iterations) == 2


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer_fn", [lambda: ADAMW(0.1, weight_decay=0.1), lambda: ADAM(0.1)])
@pytest.mark.parametrize("stream", ["uniform", "mixed", "xla"])
def test_f34_a_head_without_a_label_in_the_batch_stays(stream, optimizer_fn, accumulate, values_of):
    """Its first step after three without labels is its first: Adam's is as long as its rate."""
    model = make_model(heads=[Head("y", layers.Dense(1), loss="mse"), optional("rare")])
    (x, y), settings = make_rows(), PathSettings(optimizer_fn(), accumulate=accumulate)
    if stream == "mixed":
        run, x = graph_of(step_of(model, "all", settings)), (x, tf.constant([0, 1, 0, 1]))
    else:
        run = graph_of(step_of(model, "a", settings, jit_compile=stream == "xla"))
    always, rare = (head.layer.variables for head in model.heads)
    before, always_before = values_of(rare), values_of(always)
    for _ in range(3 * accumulate):
        run((x, {"y": y, "rare": y * np.nan}))
    assert_as_before(before, rare)
    assert np.all(np.array(always[0]) != always_before[0])
    one_label = tf.concat([[[1.0]], y[1:] * np.nan], 0)
    for label in [one_label, *[y * np.nan] * (accumulate - 1)]:  # one of several is enough
        run((x, {"y": y, "rare": label}))
    decay = 0.1 * 0.1 * np.abs(before[0]) if isinstance(settings.optimizer, ADAMW) else 0
    moved = np.abs(np.array(rare[0]) - before[0])
    assert np.all(np.abs(moved - 0.1) <= decay + 1e-4)


@pytest.mark.parametrize("stream", ["uniform", "mixed"])
def test_f34_a_batch_without_any_label_moves_nothing(stream, values_of):
    model = make_model(layers.Dense(2), heads=[optional("one"), optional("two")])
    (x, y), settings = make_rows(), PathSettings(ADAMW(0.1, weight_decay=0.1))
    if stream == "mixed":
        step, x = step_of(model, "all", settings), (x, tf.constant([0, 1, 0, 1]))
    else:
        step = step_of(model, "a", settings)
    run = graph_of(step)
    run((x, {"one": y, "two": y}))
    state = [*model.variables, *step.state]
    before = values_of(state)
    run((x, {"one": y * np.nan, "two": y * np.nan}))
    assert_as_before(before, state)
    run((x, {"one": y * np.nan, "two": y}))
    first, second = (head.layer.kernel for head in model.heads)
    assert not np.array_equal(second, before[[v is second for v in state].index(True)])
    np.testing.assert_array_equal(first, before[[v is first for v in state].index(True)])


def test_f34_of_the_rows_of_a_mixed_batch_only_labelled_ones_move_their_branch(values_of):
    model = make_model(heads=[optional("y")])
    step = step_of(model, "all", PathSettings(ADAMW(0.1, weight_decay=0.1)))
    run, ((x, y), ids) = graph_of(step), (make_rows(), tf.constant([0, 1, 0, 1]))
    run(((x, ids), y))
    own = model.own_state_of("b")
    before, other = values_of(own), values_of(model.own_state_of("a"))
    run(((x, ids), tf.where(ids[:, None] == 0, y, np.nan)))
    assert_as_before(before, own)
    assert np.all(np.array(model.own_state_of("a")[0]) != other[0])


def test_f42_averages_do_not_move_a_head_at_rest(values_of):
    """Its optimizer is its own, and so are its averages, which would have moved it."""
    model = make_model(heads=[Head("y", layers.Dense(1), loss="mse"), optional("rare")])
    step = step_of(model, "a", PathSettings(ADAM(0.1, use_ema=True, ema_overwrite_frequency=2)))
    run, (x, y) = graph_of(step), make_rows()
    run((x, {"y": y, "rare": y}))
    rare, always = (model.heads[i].layer.variables for i in (1, 0))
    before, others = values_of(rare), values_of(always)
    for _ in range(3):
        run((x, {"y": y, "rare": y * np.nan}))
    assert_as_before(before, rare)
    assert np.all(np.array(always[0]) != others[0])
