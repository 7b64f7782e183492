"""One test per failure of multi-branch training; the number is the row's in the list F1–F25.

F10 and F11 run in processes of their own, see tests/helpers/replicas.py.
More of them is in tests/components/branch_trainer/step/test_replicas.py, of F18 in
test_conflicts.py there, of F21 and F23 in tests/components/branch_evaluator.
"""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import accuracy_score, roc_auc_score
from training_steps import step_of

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    EarlyStop,
    Embedding,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
    Weighted,
)
from branchline.components.branch_trainer.step.losses import head_loss
from branchline.schemas.draws import pick

SGD, ADAM, ADAMW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW
layers = keras.layers


@pytest.fixture
def trained(typed_model, typed_batches, stream_of):
    """Trains a typed model by a pattern; returns trainer and model."""

    def train(pattern, steps=None, model=None, batches=None, **arguments):
        model = model or typed_model()
        batches = batches or typed_batches()
        trainer = Trainer(
            model,
            streams={path: stream_of(b) for path, b in batches.items()},
            schedule=arguments.pop("schedule", Alternate(pattern)),
            steps=steps or len(pattern),
            **arguments,
        )
        trainer.run()
        return trainer, model

    return train


def dense(optimizer):
    return PathSettings(optimizer=optimizer, embeddings="dense")


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_f01_momentum_does_not_move_the_inactive_branch(
    trained, typed_model, typed_batches, train_by_hand
):
    """The token branch has momentum from its own step when the vector branch is trained."""
    model, by_hand = typed_model(), typed_model()
    seen = []

    def watch(progress):
        seen.append([np.array(v) for v in model.own_state_of("token")])

    settings = {"vector": dense(ADAM(0.01)), "token": dense(ADAM(0.01))}
    trained("baaa", model=model, settings=settings, steps_per_loop=1, on_progress=watch)
    for later in seen[1:]:
        assert_same(seen[0], later)
    optimizers = {"vector": ADAM(0.01), "token": ADAM(0.01)}
    train_by_hand(by_hand, ["token", *["vector"] * 3], typed_batches(), optimizers)
    assert_same(model.variables, by_hand.variables)


def test_f02_weight_decay_does_not_shrink_the_inactive_branch(trained, typed_model):
    model = typed_model()
    before = [np.array(v) for v in model.own_state_of("token")]
    settings = {p: PathSettings(ADAMW(0.1, weight_decay=0.5)) for p in ("vector", "token")}
    trained("a", steps=5, model=model, settings=settings)
    assert_same(before, model.own_state_of("token"))


def test_f03_accumulation_counts_each_paths_own_steps(trained, typed_model, typed_batches):
    """The boundary step of all steps together is one on the other path."""
    batches = typed_batches(num_batches=2)
    model, other = typed_model(), typed_model()
    settings = {
        "vector": PathSettings(SGD(0.5), accumulate=2),
        "token": PathSettings(SGD(0.5), accumulate=2, freeze=["trunk", "out"]),
    }
    trained("abab", model=model, batches=batches, settings=settings)
    large = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches["vector"])
    trained("a", model=other, batches=batches | {"vector": [large]},
            settings={"vector": PathSettings(SGD(0.5))})  # fmt: skip
    for one, same in zip(model.variables_of("vector"), other.variables_of("vector"), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-5, atol=1e-6)


def test_f04_one_branch_can_be_trained_while_the_others_never_are(trained):
    trainer, _ = trained("b", steps=3)
    assert trainer.history.steps == {"vector": 0, "token": 3}


def test_f05_every_slot_is_there_before_the_first_step(typed_model):
    model = typed_model()
    step = step_of(model, "vector", PathSettings(ADAM()))
    names = {v.path for v in step.optimizer.variables}
    assert len(names) == 2 + 2 * len(model.variables_of("vector"))


def test_f06_a_rare_path_has_a_clock_of_its_own(trained, typed_model):
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([10], [1e-3, 0.0])
    settings = {"vector": PathSettings(ADAM(rates)), "token": PathSettings(ADAM(rates))}
    model = typed_model()
    before = np.array(model.own_state_of("token")[0])
    trainer, _ = trained("a" * 100 + "b", model=model, settings=settings)
    assert int(trainer.optimizers["token"].iterations) == 1
    moved = np.abs(np.array(model.own_state_of("token")[0]) - before)
    np.testing.assert_allclose(moved.max(), 1e-3, rtol=1e-2)  # Adam's first step is the rate


def test_f07_statistics_of_a_branch_are_of_its_own_rows(stream_of):
    norms = {p: layers.BatchNormalization(momentum=0.5) for p in "ab"}
    model = BranchedModel(
        [Switch("s", **norms)],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={p: Path(s=p) for p in "ab"},
    )
    ones, label = np.ones([4, 1], np.float32), np.zeros([4, 1], np.float32)
    streams = {"a": stream_of([(ones, label)]), "b": stream_of([(1000 * ones, label)])}
    Trainer(model, streams=streams, schedule=Alternate("ab"), steps=40).run()
    np.testing.assert_allclose(norms["a"].moving_mean, [1.0], rtol=1e-5)
    np.testing.assert_allclose(norms["b"].moving_mean, [1000.0], rtol=1e-5)


def test_f08_a_branch_without_rows_stays_finite():
    norms = {p: layers.BatchNormalization() for p in "ab"}
    model = BranchedModel(
        [Switch("s", **norms)],
        heads=[Head("y", layers.Dense(1), loss="mse", missing=np.nan)],
        paths={p: Path(s=p) for p in "ab"},
    )
    run = tf.function(lambda x, ids: model(x, path=ids, training=True)["y"])
    output = run(tf.ones([3, 2]), tf.constant([0, 0, 0]))
    assert np.all(np.isfinite(output)) and np.all(np.isfinite(norms["b"].moving_mean))
    nothing = head_loss(model.heads[0], tf.fill([3, 1], np.nan), output)
    assert float(nothing) == 0.0


@pytest.mark.parametrize("mixed", ["partition", "multiplex"])
def test_f09_the_gradient_is_finite_where_the_branch_not_taken_is_not(mixed):
    class Log(layers.Layer):
        def call(self, inputs):
            return tf.math.log(inputs)

    model = BranchedModel(
        [Switch("s", log=keras.Sequential([layers.Dense(1, use_bias=False), Log()]),
                line=layers.Dense(1))],
        heads=[Head("y", layers.Identity(), loss="mse")],
        paths={"log": Path(s="log"), "line": Path(s="line")},
        mixed=mixed,
    )  # fmt: skip
    model.build_path("log", tf.TensorSpec([None, 1]))
    kernel = model.variables_of("log")[0].value
    kernel.assign([[1.0]])
    run = tf.function(lambda x, ids: model(x, path=ids)["y"])
    with tf.GradientTape() as tape:
        output = run(tf.constant([[2.0], [0.0]]), tf.constant([0, 1]))
    np.testing.assert_allclose(tape.gradient(output, kernel), [[1.0]])


def test_f10_conditions_around_an_update_work_on_several_devices(outcome_on_two_devices):
    assert outcome_on_two_devices["check_f10_conditions_around_updates"] == "passed"


def test_f11_the_route_is_one_for_all_devices(outcome_on_two_devices):
    assert outcome_on_two_devices["check_f11_every_step_another_path"] == "passed"


def test_f12_nothing_is_traced_twice(trained, typed_batches, stream_of, typed_model):
    streams = {p: stream_of(b).unbatch().batch(3) for p, b in typed_batches(3).items()}
    trainer = Trainer(
        typed_model(),
        streams=streams,
        schedule=Weighted({"vector": 1, "token": 1}),
        steps=41,
        steps_per_loop=7,
    )
    trainer.run()
    assert trainer.loop.num_traces == 1


def test_f13_clocks_add_up_to_the_steps(trained):
    settings = {"vector": PathSettings(ADAM()), "token": PathSettings(SGD(0.1), accumulate=2)}
    trainer, _ = trained("aab", steps=12, settings=settings)
    history = trainer.history
    assert history.step == sum(history.steps.values()) == 12
    clocks = {p: int(o.iterations) for p, o in trainer.optimizers.items()}
    assert clocks == {"vector": 8, "token": 2}


@pytest.mark.parametrize("on_end", ["repeat", "stop", "drop"])
def test_f14_what_happens_when_a_stream_ends_is_chosen_and_reported(trained, typed_batches, on_end):
    batches = typed_batches(num_batches=6)
    batches["token"] = batches["token"][:2]
    trainer, _ = trained("", steps=20, batches=batches, schedule=Alternate("ab", on_end=on_end))
    expected = {
        "repeat": ({"vector": 10, "token": 10}, "all steps taken"),
        "stop": ({"vector": 3, "token": 2}, "the stream of 'token' ended at step 5"),
        "drop": ({"vector": 6, "token": 2}, "its stream ended at step 8"),
    }[on_end]
    assert (trainer.history.steps, trainer.history.stopped["vector"]) == expected


def test_f15_resuming_goes_on_in_the_streams_and_the_schedule(trained, tmp_path):
    schedule = Weighted({"vector": 1, "token": 1})
    _, whole = trained("", schedule=schedule, steps=20)
    trained("", schedule=schedule, steps=13, checkpoint_dir=tmp_path)
    resumed, model = trained("", schedule=schedule, steps=20, checkpoint_dir=tmp_path)
    assert resumed.history.step == 20
    assert_same(whole.variables, model.variables)


def test_f16_a_path_that_overfits_stops_and_the_other_goes_on(trained, typed_batches, stream_of):
    batches = typed_batches()
    against = {"token": stream_of([(x, -y) for x, y in batches["token"]])}
    trainer, _ = trained(
        "ab",
        steps=60,
        batches=batches,
        settings={"token": PathSettings(SGD(0.3), early_stop=EarlyStop(patience=2))},
        validation=against,
        validate_every=4,
    )
    history = trainer.history
    assert history.stopped["token"].startswith("no improvement")
    assert history.steps["vector"] > 2 * history.steps["token"]
    seen = [loss for _, loss in history.validation["token"]]
    assert trainer.validator("token") == seen[-1] <= seen[-2]


def test_f17_rows_without_a_label_contribute_nothing():
    head = Head("y", layers.Identity(), loss="mse", missing=np.nan)
    label = tf.constant([[1.0], [np.nan], [3.0]])
    output = tf.Variable([[0.0], [7.0], [0.0]])
    with tf.GradientTape() as tape:
        loss = head_loss(head, label, output)
    np.testing.assert_allclose(loss, (1 + 9) / 2)
    np.testing.assert_allclose(tape.gradient(loss, output), [[-1.0], [0.0], [-3.0]])
    kinds = Head("k", layers.Identity(), loss="sparse_categorical_crossentropy", missing=-1)
    half = tf.fill([2, 2], 0.5)
    np.testing.assert_allclose(head_loss(kinds, tf.constant([1, -1]), half), np.log(2), rtol=1e-6)


def test_f18_gradients_are_freed_of_conflicts_route_by_route():
    x = np.array([[1.0, 0.2], [0.9, -0.1], [1.0, 1.0]], np.float32)
    ids, y = np.array([0, 0, 1]), np.array([[3.0], [3.0], [-3.0]], np.float32)
    trunk = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = BranchedModel(
        [trunk],
        heads=[Head("y", layers.Identity(), loss="mse")],
        paths={"a": Path(), "b": Path()},
    )
    streams = {"all": tf.data.Dataset.from_tensors(((x, ids), y))}
    settings = {"all": PathSettings(SGD(1.0), conflicts="pcgrad")}
    Trainer(model, streams=streams, settings=settings, steps=1).run()
    errors = -y / 3  # of a mean over three rows
    a, b = (2 * x[ids == i].T @ errors[ids == i] for i in (0, 1))
    assert np.vdot(a, b) < 0, "the two pull apart"
    freed = a - np.vdot(a, b) / np.vdot(b, b) * b + b - np.vdot(a, b) / np.vdot(a, a) * a
    np.testing.assert_allclose(trunk.kernel, -freed, rtol=1e-5)
    assert not np.allclose(trunk.kernel, -(a + b), rtol=0.1)


def test_f19_optimizers_are_not_shared(typed_model, typed_batches, stream_of):
    one = ADAM()
    with pytest.raises(ValueError, match="'vector' and 'token' share one optimizer"):
        Trainer(
            typed_model(),
            streams={p: stream_of(b) for p, b in typed_batches().items()},
            settings={p: PathSettings(one) for p in ("vector", "token")},
            steps=1,
        )


def test_f20_what_a_mask_leaves_out_is_not_updated(trained, typed_model):
    """Neither as by the optimizer, nor by the raw gradient, while the rest is."""
    model = typed_model()
    kernel = model.stages[1].kernel
    before = np.array(kernel)
    mask = np.array([[1, 0, 1]] * 3)
    settings = PathSettings(
        ADAMW(0.1, weight_decay=0.1), mask_fn=lambda v: mask if v is kernel else None
    )
    trained("a", steps=4, model=model, settings={"vector": settings})
    np.testing.assert_array_equal(np.array(kernel)[mask == 0], before[mask == 0])
    assert np.all(np.array(kernel)[mask == 1] != before[mask == 1])


def test_f22_sampling_weight_loss_weight_and_sample_weight_are_three_things(
    trained, typed_model, typed_batches
):
    """A sampling weight changes how often, the others how far, a path is updated."""

    def moved(loss_weight, sample_weight, sampling):
        batches = {
            p: [(x, y, np.full(len(y), sample_weight, np.float32)) for x, y in b]
            for p, b in typed_batches(1).items()
        }
        model = typed_model()
        before = np.array(model.variables_of("vector")[0])
        settings = {"vector": PathSettings(SGD(0.1), loss_weight=loss_weight)}
        trainer, _ = trained("", steps=1, model=model, batches=batches, settings=settings,
                             schedule=Weighted({"vector": sampling}))  # fmt: skip
        assert trainer.history.steps["vector"] == 1
        return np.array(model.variables_of("vector")[0]) - before

    once = moved(1.0, 1.0, 1.0)
    np.testing.assert_array_equal(moved(1.0, 1.0, 5.0), once)
    np.testing.assert_allclose(moved(3.0, 1.0, 1.0), 3 * once, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(moved(1.0, 3.0, 1.0), 3 * once, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Trains two heads with the custom loop, exports them, and evaluates both with TFMA.

    The labels of `easy` follow its feature, those of `hard` do not. Returns TFMA's figures, and
    route → (labels, predictions) by the trained model itself.
    """
    import builders_evaluator as build
    from tfx.types import standard_artifacts
    from tfx.utils import path_utils

    from branchline.schemas import Numeric, Route, RoutingTable, when

    rng = np.random.default_rng(0)
    x = rng.normal(size=[400, 1]).astype(np.float32)
    labels = {"easy": (x[:, 0] > 0).astype(int), "hard": rng.integers(0, 2, 400)}
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    keras.utils.set_random_seed(0)
    model = BranchedModel(
        [Switch("branch", easy=layers.Dense(4, "relu"), hard=layers.Dense(4, "relu"))],
        heads=[Head(name, layers.Dense(1), loss=loss) for name in labels],
        paths={name: Path(branch=name, heads=[name]) for name in labels},
    )
    streams = {
        n: tf.data.Dataset.from_tensors((x, y[:, None].astype("f4"))) for n, y in labels.items()
    }
    settings = {name: PathSettings(ADAM(0.05)) for name in labels}
    Trainer(model, streams=streams, settings=settings, steps=100).run()
    module = tf.Module()
    module.model = model  # pyright: ignore[reportAttributeAccessIssue]

    def signature(name):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def predict(examples):
            rows = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
            return {name: tf.sigmoid(model(rows["x"], path=name)[name])[:, 0]}

        return predict

    root = tmp_path_factory.mktemp("evaluated")
    artifact = standard_artifacts.Model()
    artifact.uri = str(root / "model")
    directory = path_utils.serving_model_dir(artifact.uri)
    tf.saved_model.save(module, directory, signatures={n: signature(n) for n in labels})
    routes = [
        Route(n, when.present("x"), features={"x": Numeric()}, label="y", task="binary")
        for n in labels
    ]
    table = RoutingTable(*routes)
    examples = build.routed_examples(root / "rows", {n: (y, x) for n, y in labels.items()}, table)
    summary, *_ = build.run(root, examples, artifact, table=table)
    scores = {n: tf.sigmoid(model(x, path=n)[n]).numpy()[:, 0] for n in labels}
    return summary["routes"], {n: (labels[n], scores[n]) for n in labels}


def test_f21_the_second_routes_auc_is_of_its_own_rows(evaluated):
    routes, found = evaluated
    for name, (labels, scores) in found.items():
        expected = roc_auc_score(labels, scores)
        np.testing.assert_allclose(routes[name]["metrics"]["auc"], expected, atol=2e-3)
    assert routes["easy"]["metrics"]["auc"] > 0.95 > 0.65 > routes["hard"]["metrics"]["auc"]


def test_f23_tfma_reports_on_every_head_of_a_model_trained_by_a_custom_loop(evaluated):
    routes, found = evaluated
    for name, (labels, scores) in found.items():
        assert routes[name]["examples"] == len(labels)
        expected = accuracy_score(labels, scores > 0.5)
        np.testing.assert_allclose(routes[name]["metrics"]["accuracy"], expected, atol=1e-6)


def test_f24_a_large_table_costs_no_more_than_a_small_one(stream_of):
    """The table is 500 times larger; as dense Adam does it, a step takes over 50 times as long."""

    def seconds_per_step(vocabulary):
        table = keras.Sequential([Embedding(vocabulary, 16), layers.Flatten()])
        model = BranchedModel(
            [table], heads=[Head("y", layers.Dense(1), loss="mse")], paths={"a": Path()}
        )
        ids = np.arange(32)[:, None]
        streams = {"a": stream_of([(ids, np.ones([32, 1], np.float32))])}
        trainer = Trainer(model, streams=streams, steps=10_000)
        routes = np.zeros(100, np.int32)
        trainer.loop.run(routes)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            trainer.loop.run(routes)
            times.append(time.perf_counter() - started)
        return min(times) / 100

    assert seconds_per_step(500_000) < 5 * seconds_per_step(1_000)


def test_f25_the_largest_draw_selects_a_path():
    largest = np.array([np.nextafter(1.0, 0.0)])
    for n in (12, 19, 23):
        assert pick([1 / n] * n, largest)[0] == n - 1
