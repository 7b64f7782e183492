"""One test per fault that a step can have; the number is the row's in the list F26 to F47."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import step_of

from branchline.components.branch_trainer import (
    BranchedModel,
    Embedding,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.model.selective import Conditional, Selective
from branchline.components.branch_trainer.step.batch_loss import batch_loss

SGD, ADAM, ADAMW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW
layers = keras.layers


def make_model(*stages, mixed="partition", heads=(), **branches):
    """Paths `a` and `b` over float [batch, 2], each with its branch, then `stages`, then heads."""
    keras.utils.set_random_seed(3)
    branches = {"a": layers.Dense(2), "b": layers.Dense(2)} | branches
    model = BranchedModel(
        [Switch("s", **branches), *stages],
        heads=list(heads) or [Head("y", layers.Dense(1), loss="mse")],
        paths={path: Path(s=path) for path in "ab"},
        mixed=mixed,
    )
    for path in "ab":
        model.build_path(path, tf.TensorSpec([None, 2]))
    return model


def make_rows(count=4, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 2)), rng.normal(size=(count, 1))
    return tf.constant(x, tf.float32), tf.constant(y, tf.float32)


def graph_of(step):
    return tf.function(step, autograph=False)


def assert_as_before(before, variables):
    for was, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(was, variable, err_msg=getattr(variable, "path", None))


@pytest.mark.parametrize("kind", ["uniform", "gate", "xla", "sum", "pcgrad", "famo"])
def test_f28_a_batch_that_is_not_finite_leaves_statistics_and_random_state(kind, values_of):
    model = make_model(layers.BatchNormalization(), layers.Dropout(0.5))
    (x, y), ids = make_rows(), tf.constant([0, 0, 1, 1])
    if kind in ("uniform", "gate", "xla"):
        gate = (lambda losses: tf.fill([4], True)) if kind == "gate" else None
        step = step_of(model, "a", PathSettings(gate=gate), jit_compile=kind == "xla")
        good, bad = (x, y), (x, y * np.nan)
    else:
        step = step_of(model, "all", PathSettings(conflicts=kind))
        good, bad = ((x, ids), y), ((x, ids), y * np.nan)
    run = graph_of(step)
    run(good)
    state = [*model.variables, *step.state]
    before = values_of(state)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        run(bad)
    assert_as_before(before, state)
    run(good)
    assert any(np.any(was != np.array(v)) for was, v in zip(before, state, strict=True))


class Wrapped(layers.Layer):
    """A layer of somebody who did not think of `training`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.parametrize("mixed", ["partition", "multiplex"])
def test_f26_heads_and_trunk_run_as_in_training_after_a_branch_without_rows(mixed):
    """Of which there is a trace as in inference, in the same call of the model."""
    (x, _), ids = make_rows(), tf.constant([0, 1, 0, 1])
    branches = {path: keras.Sequential([Wrapped(layers.Dense(2))]) for path in "ab"}
    head = Head("y", layers.Dropout(0.5), loss="mse")
    model = make_model(heads=[head], mixed=mixed, **branches)
    run = tf.function(lambda training: model(x, path=ids, training=training)["y"])
    assert np.any(np.array(run(True)) == 0)
    assert np.all(np.array(run(False)) != 0)


def test_f26_a_made_up_row_does_not_reach_the_statistics():
    norm = layers.BatchNormalization(momentum=0.5)
    model = make_model(a=Wrapped(norm))
    (x, _), before = make_rows(), np.array(norm.moving_variance)
    run = tf.function(lambda ids: model(x, path=ids, training=True)["y"])
    run(tf.constant([1, 1, 1, 1]))
    np.testing.assert_array_equal(norm.moving_variance, before)
    run(tf.constant([0, 1, 0, 1]))
    assert np.all(np.array(norm.moving_variance) != before)


def test_f26_freeze_reaches_a_layer_inside_another(values_of):
    norm = layers.BatchNormalization(momentum=0.5)
    model = make_model(Wrapped(norm))
    stage = model.stages[1].name
    before = values_of(norm.variables)
    graph_of(step_of(model, "a", PathSettings(freeze=[stage])))(make_rows())
    assert_as_before(before, norm.variables)
    graph_of(step_of(model, "b", PathSettings()))(make_rows())
    assert np.all(np.array(norm.moving_mean) != before[2])


def built(layer, width=2):
    layer.build([None, width])
    return layer


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


def optional(name, layer=None):
    return Head(name, layer or layers.Dense(1), loss="mse", missing=np.nan)


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


def leaking(norm, freeze=(), steps=4):
    """Trains `a`, which leaks half of the loss of `b`, whose branch keeps statistics."""
    rows = {"a": make_rows(), "b": make_rows(seed=1)}
    rows["a"] = (1000 * rows["a"][0], rows["a"][1])
    model = make_model(b=norm)
    trainer = Trainer(
        model,
        streams={path: tf.data.Dataset.from_tensors(batch) for path, batch in rows.items()},
        settings={"a": PathSettings(leak={"b": 0.5}), "b": PathSettings(freeze=freeze)},
        schedule=lambda step: "b" if step < 2 else "a",
        steps=steps,
    )
    trainer.run()
    return model


def test_f32_a_leak_leaves_the_statistics_of_the_other_branch():
    norms = [layers.BatchNormalization(momentum=0.5) for _ in range(2)]
    leaking(norms[0], steps=2)
    leaking(norms[1])
    assert_as_before([np.array(v) for v in norms[0].non_trainable_variables],
                     norms[1].non_trainable_variables)  # fmt: skip
    assert np.all(np.array(norms[0].gamma) != np.array(norms[1].gamma)), "but it is trained"


def test_f32_a_leak_leaves_what_the_other_path_freezes():
    norm = layers.BatchNormalization()
    leaking(norm, freeze=["s"])
    assert_as_before([[1, 1], [0, 0], [0, 0], [1, 1]], norm.variables)


def test_f33_a_leak_trains_a_path_that_has_no_stream():
    keras.utils.set_random_seed(3)
    model = BranchedModel(
        [Switch("s", a=layers.Dense(2), b=layers.Dense(2))],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={path: Path(s=path) for path in "ab"},
    )
    with pytest.raises(ValueError, match=r"'a' leaks to path 'b', whose \['s'\] are not built"):
        model.build_path("a", tf.TensorSpec([None, 2]))
        step_of(model, "a", PathSettings(leak={"b": 0.5}))
    trainer = Trainer(
        model,
        streams={"a": tf.data.Dataset.from_tensors(make_rows())},
        settings={"a": PathSettings(SGD(0.1), leak={"b": 0.5})},
        steps=2,
    )
    before = [np.array(v) for v in model.own_state_of("b")]
    trainer.run()
    assert len(before) == 2
    for was, now in zip(before, model.own_state_of("b"), strict=True):
        assert np.all(was != np.array(now))


def test_f33_a_leak_to_a_path_that_takes_other_features_says_so():
    model = BranchedModel(
        [Switch("s", a=layers.Dense(2), b=layers.Dense(2))],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={path: Path(s=path, features=path) for path in "ab"},
    )
    x, y = make_rows()
    with pytest.raises(KeyError, match="takes features .'b'., which are not among"):
        Trainer(
            model,
            streams={"a": tf.data.Dataset.from_tensors(({"a": x}, y))},
            settings={"a": PathSettings(leak={"b": 0.5})},
            steps=1,
        )


class Root(layers.Layer):
    """The root of its weights: 0, with a slope that is not finite."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(2,), initializer="zeros")

    def call(self, inputs):
        return inputs + tf.sqrt(self.scale)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_f44_a_gradient_that_no_scale_makes_finite_ends_the_path(jit_compile):
    model = make_model(a=Root())
    optimizer = keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=8.0)
    trainer = Trainer(
        model,
        streams={"a": tf.data.Dataset.from_tensors(make_rows())},
        settings={"a": PathSettings(optimizer)},
        steps=40,
        jit_compile=jit_compile,
    )
    history = trainer.run()
    assert history.stopped["a"] == "loss or gradient not finite at step 3"  # 8, 4, 2
    assert float(optimizer.dynamic_scale) == 1.0


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


def test_f42_copies_of_an_optimizer_leave_out_of_decay_what_the_first_does(values_of):
    model = make_model(heads=[Head("y", layers.Dense(1), loss=lambda y, o: 0.0 * (o - y))])
    optimizer = ADAMW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([model.heads[0].layer.kernel], ["bias"])
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    (x, y), settings = make_rows(), PathSettings(optimizer)
    graph_of(step_of(model, "all", settings))(((x, tf.constant([0, 1, 0, 1])), y))
    kept = {v.path for v in model.trainable_variables if np.all(np.array(v) == 1)}
    biases = {v.path for v in model.trainable_variables if "bias" in v.path}
    assert kept == biases | {model.heads[0].layer.kernel.path}


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_f42_a_reduction_that_is_not_the_heads_is_refused(reduction):
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    with pytest.raises(ValueError, match=f"head 'y' has reduction='{reduction}'; a head takes"):
        Head("y", layers.Dense(1), loss=loss)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"loss_scale_factor": 8.0}, "loss_scale_factor=8.0.*use PathSettings.loss_weight"),
        ({"use_ema": True}, "use_ema without ema_overwrite_frequency"),
    ],
    ids=["scale", "ema"],
)
def test_f42_an_optimizers_option_that_would_do_half_is_refused(option, message):
    with pytest.raises(ValueError, match=message):
        PathSettings(ADAM(**option))
    PathSettings(ADAM(use_ema=True, ema_overwrite_frequency=2))


@pytest.mark.parametrize("ids", [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], ids=str)
@pytest.mark.parametrize("mixed", ["partition", "multiplex"])
def test_f43_a_branch_of_any_length_may_have_no_rows(mixed, ids):
    """Series of 5 steps, of a number that the graph does not know."""
    conv = [keras.Sequential([layers.Conv1D(2, 3, padding="same")]) for _ in "ab"]
    model = BranchedModel(
        [Switch("s", a=conv[0], b=conv[1]), layers.GlobalAveragePooling1D()],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={path: Path(s=path) for path in "ab"},
        mixed=mixed,
    )
    series = tf.constant(np.random.default_rng(0).normal(size=(4, 5, 3)), tf.float32)
    spec = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None], tf.int32)]
    run = tf.function(lambda x, ids: model(x, path=ids)["y"], input_signature=spec)
    output = run(series, tf.constant(ids))
    for row, number in enumerate(ids):
        expected = model(series[row : row + 1], path="ab"[number])["y"][0]
        np.testing.assert_allclose(output[row], expected, rtol=1e-5, atol=1e-6)


class Adds(layers.Layer):
    """Adds the sum of what comes in to the loss."""

    def call(self, inputs):
        self.add_loss(tf.reduce_sum(inputs))
        return inputs


@pytest.mark.parametrize("ids", [[0, 1, 0, 1], [1, 1, 1, 1]], ids=["both", "none on it"])
@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eager"])
def test_f43_losses_that_a_branch_adds_count_once_and_for_its_rows(graph, ids):
    model = make_model(a=keras.Sequential([Adds(), layers.Dense(2)]))
    (x, y), ids = make_rows(), tf.constant(ids)

    def losses():
        return batch_loss(model, None, ((x, ids), y), training=True), batch_loss(
            model, None, ((x, ids), y), training=True
        )

    first, second = tf.function(losses)() if graph else losses()
    plain = np.mean((np.array(model(x, path=ids)["y"]) - np.array(y)) ** 2)
    added = np.sum(np.array(x)[np.array(ids) == 0])
    np.testing.assert_allclose([first, second], [plain + added] * 2, rtol=1e-5)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("stream", ["uniform", "mixed"])
def test_f43_losses_that_a_conditional_layer_adds_count_where_it_runs(on, stream):
    layer = Conditional(built(Adds()), on=on)
    (x, y), model = make_rows(), make_model(layer)
    if stream == "mixed":
        ids = tf.constant([0, 1, 0, 1])
        loss = tf.function(lambda: batch_loss(model, None, ((x, ids), y), training=True))()
    else:
        ids = "a"
        loss = tf.function(lambda: batch_loss(model, ids, (x, y), training=True))()
    through = model.stages[0].branches
    rows = [through["b" if stream == "mixed" and i % 2 else "a"](x[i : i + 1]) for i in range(4)]
    plain = np.mean((np.array(model(x, path=ids)["y"]) - np.array(y)) ** 2)
    np.testing.assert_allclose(loss, plain + on * np.sum(rows), rtol=1e-5)


def test_f43_a_trainer_takes_branches_that_add_losses():
    model = make_model(a=keras.Sequential([layers.Dense(2), layers.ActivityRegularization(0.1)]))
    (x, y), ids = make_rows(), tf.constant([0, 1, 0, 1])
    stream = tf.data.Dataset.from_tensors(((x, ids), y))
    trainer = Trainer(model, streams={"all": stream}, steps=2, validation={"all": stream})
    assert trainer.run().steps == {"all": 2}


def test_f43_frozen_weights_and_conditions_are_no_statistics():
    frozen = built(layers.Dense(2))
    frozen.trainable = False
    switched = Conditional(built(layers.Dense(2)))
    at_rest = built(layers.BatchNormalization())
    at_rest.trainable = False
    branch = keras.Sequential([frozen, switched, at_rest])
    model = make_model(a=branch, mixed="multiplex")
    assert model(make_rows()[0], path=tf.constant([0, 1, 0, 1]), training=True)["y"].shape == [4, 1]
    at_rest.trainable = True
    with pytest.raises(ValueError, match="'s' would mix all rows into the statistics .*moving"):
        model(make_rows()[0], path=tf.constant([0, 1, 0, 1]), training=True)


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
