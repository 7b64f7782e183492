"""One test per system S1–S15, the number in its name: what shows that it works."""

import itertools
import time
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import step_of

from branchline.components.branch_trainer import (
    Alternate,
    BranchedModel,
    Conditional,
    Head,
    Path,
    PathSettings,
    Selective,
    Switch,
    Trainer,
)
from branchline.components.branch_trainer.recipe.dice import dice_loss
from branchline.components.branch_trainer.step.gate import hardest
from branchline.components.branch_trainer.step.losses import head_loss

layers = keras.layers
ADAM, SGD = keras.optimizers.Adam, keras.optimizers.SGD


def s1_model():
    keras.utils.set_random_seed(1)
    ids = keras.Sequential([layers.Embedding(100, 16), layers.Flatten()])
    return BranchedModel(
        [Switch("type", vector=layers.Dense(16, "relu"), ids=ids)],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={"vector": Path(type="vector"), "ids": Path(type="ids")},
    )


def s1_batches(num_rows=256):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(num_rows, 10)).astype(np.float32)
    ids = rng.integers(0, 100, size=(num_rows, 1))
    labels = x[:, :1] - np.abs(x[:, 1:2]), np.sin(ids).astype(np.float32)
    return {"vector": [(x, labels[0])], "ids": [(ids, labels[1])]}


def test_s01_each_branch_fits_its_own_target(stream_of):
    streams = {p: stream_of(b).unbatch().batch(64) for p, b in s1_batches().items()}
    settings = {p: PathSettings(ADAM(0.02)) for p in streams}
    model = s1_model()
    history = Trainer(model, streams=streams, settings=settings, steps=600).run()
    assert history.losses["vector"][-1][1] < 0.05 and history.losses["ids"][-1][1] < 0.01
    with pytest.raises(KeyError, match="'image' is not in the model, whose paths are"):
        model(tf.ones([1, 10]), path="image")


@pytest.mark.parametrize("seed", range(3))
def test_s02_a_mixed_batch_keeps_types_apart_and_in_order(seed):
    model = s1_model()
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 2, size=rng.integers(1, 40))
    vectors = rng.normal(size=(len(ids), 10)).astype(np.float32)
    tokens = rng.integers(0, 100, size=(len(ids), 1))
    model.paths["vector"].features, model.paths["ids"].features = "vector", "token"
    features = {"vector": vectors, "token": tokens}
    mixed = model(features, path=tf.constant(ids))["y"]
    apart = {p: model(features, path=p)["y"] for p in model.paths}
    expected = np.where(ids[:, None] == 0, apart["vector"], apart["ids"])
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-6)


def test_s03_a_selective_step_leaves_the_rest_bit_identical():
    norms = {p: keras.Sequential([layers.Dense(4), layers.BatchNormalization()]) for p in "ab"}
    model = BranchedModel(
        [Switch("s", **norms), layers.Dense(2, name="trunk")],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={p: Path(s=p) for p in "ab"},
    )
    for path in "ab":
        model.build_path(path, tf.TensorSpec([None, 3]))
    steps = {p: step_of(model, p, PathSettings()) for p in "ab"}
    batch = tf.random.stateless_normal([4, 3], [0, 1]), tf.ones([4, 1])
    steps["b"](batch)
    inactive = [*model.own_state_of("b"), *steps["b"].state]
    before = [np.array(v) for v in inactive]
    active = [np.array(v) for v in model.variables_of("a")]
    steps["a"](batch)
    for was, now in zip(before, inactive, strict=True):
        np.testing.assert_array_equal(was, now)
    changed = [np.any(was != now) for was, now in zip(active, model.variables_of("a"), strict=True)]
    assert sum(changed) >= 5  # the bias before the normalization has no gradient


@pytest.mark.parametrize("pattern", ["abab", "aab", "abba"])
def test_s04_models_that_take_turns_equal_their_own_loops(
    stream_of, train_by_hand, typed_batches, pattern
):
    """Two whole models, nothing shared, on the same features."""

    def model():
        keras.utils.set_random_seed(3)
        made = BranchedModel(
            [Switch("s", a=layers.Dense(3, "relu"), b=layers.Dense(3, "tanh"))],
            heads=[Head("out", layers.Identity(), loss="mse")],
            paths={"a": Path(s="a"), "b": Path(s="b")},
        )
        made.build_path("a", tf.TensorSpec([None, 4]))
        made.build_path("b", tf.TensorSpec([None, 4]))
        return made

    of_vector = [(x, np.repeat(y, 3, 1)) for x, y in typed_batches()["vector"]]
    batches = {"a": of_vector, "b": of_vector}
    ours, by_hand = model(), model()
    seen = []
    last = {"a": 0, "b": 0}

    def watch(progress):
        now = dict(trainer.history.steps)
        seen.append(next(p for p in now if now[p] > last[p]))
        last.update(now)

    trainer = Trainer(
        ours,
        streams={p: stream_of(b) for p, b in batches.items()},
        schedule=Alternate(pattern),
        settings={"a": PathSettings(ADAM(0.01)), "b": PathSettings(SGD(0.1))},
        steps=9,
        steps_per_loop=1,
        on_progress=watch,
    )
    trainer.run()
    assert "".join(seen) == (pattern * 9)[:9]
    for path, optimizer in {"a": ADAM(0.01), "b": SGD(0.1)}.items():
        own = [p for p in seen if p == path]
        train_by_hand(by_hand, own, {path: batches[path]}, {path: optimizer})
    for one, other in zip(ours.variables, by_hand.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("pattern", ["ab", "aaabbb", "abba"])
def test_s05_accumulated_turns_equal_one_large_batch_each(stream_of, typed_batches, pattern):
    def model():
        keras.utils.set_random_seed(3)
        return BranchedModel(
            [Switch("s", a=layers.Dense(1), b=layers.Dense(1))],
            heads=[Head("out", layers.Identity(), loss="mse")],
            paths={"a": Path(s="a"), "b": Path(s="b")},
        )

    batches = typed_batches(num_batches=3)["vector"]
    large = [tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)]
    results = []
    for of_path, accumulate, turns in ((batches, 3, pattern), (large, 1, "ab")):
        made = model()
        streams = {p: stream_of(of_path) for p in "ab"}
        settings = {p: PathSettings(ADAM(0.1), accumulate=accumulate) for p in "ab"}
        Trainer(
            made,
            streams=streams,
            settings=settings,
            schedule=Alternate(turns),
            steps=2 * accumulate,
        ).run()
        results.append([np.array(v) for v in made.variables])
    for many, one in zip(*results, strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-6)


def test_s06_settings_of_one_branch_do_not_reach_another(stream_of, typed_batches, typed_model):
    """What the two share is frozen for the branch whose settings change."""
    results = []
    for settings in (
        PathSettings(SGD(0.1), freeze=["trunk", "out"]),
        PathSettings(ADAM(0.5), clip_norm=0.1, loss_weight=3.0, freeze=["trunk", "out"]),
    ):
        model = typed_model()
        Trainer(
            model,
            streams={p: stream_of(b) for p, b in typed_batches().items()},
            settings={"vector": PathSettings(ADAM(0.01)), "token": settings},
            steps=8,
        ).run()
        results.append([np.array(v) for v in model.variables_of("vector")])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def tangled_model(paths):
    keras.utils.set_random_seed(0)

    def hidden(units=32):
        return keras.Sequential([layers.Dense(units, "relu"), layers.Dense(units)])

    def cross_entropy(label, output):
        return keras.losses.sparse_categorical_crossentropy(label, output, from_logits=True)

    def bits(label, output):
        return keras.losses.binary_crossentropy(label, output, from_logits=True)

    heads = [
        Head("binary", layers.Dense(5), loss=bits),
        Head("decimal", layers.Dense(19), loss=cross_entropy),
    ]
    return BranchedModel(
        [
            Switch("encoder", binary=hidden(), decimal=hidden()),
            Switch("operation", plus1=hidden(64), times2=hidden(64)),
        ],
        heads=heads,
        paths=paths,
    )


def tangled_paths():
    return {
        f"{encoder}, {operation}": Path(encoder=encoder, operation=operation, features=encoder)
        for encoder, operation in itertools.product(("binary", "decimal"), ("plus1", "times2"))
    }


def tangled_rows():
    """All digits on all four paths (two decoders each): features, path ids, labels."""
    digits = np.tile(np.arange(10), 4)
    ids = np.repeat(np.arange(4), 10)
    results = np.where(ids % 2 == 0, digits + 1, digits * 2)
    features = {
        "binary": (digits[:, None] >> np.arange(4) & 1).astype(np.float32),
        "decimal": np.eye(10, dtype=np.float32)[digits],
    }
    labels = {
        "binary": (results[:, None] >> np.arange(5) & 1).astype(np.float32),
        "decimal": results,
    }
    return features, ids, labels


def tangled_exact(model):
    """Path → share of digits that both decoders get exactly right."""
    features, ids, labels = tangled_rows()
    outputs = model(features, path=tf.constant(ids))
    binary = np.all((np.array(outputs["binary"]) > 0) == labels["binary"], axis=1)
    decimal = np.argmax(outputs["decimal"], axis=1) == labels["decimal"]
    return {p: (binary & decimal)[ids == i].mean() for i, p in enumerate(model.paths)}


def test_s07_tangled_networks_are_exact_on_all_paths_from_mixed_batches():
    features, ids, labels = tangled_rows()
    model = tangled_model(tangled_paths())
    stream = tf.data.Dataset.from_tensors(((features, ids), labels))
    settings = {"all": PathSettings(ADAM(0.01))}
    Trainer(model, streams={"all": stream}, settings=settings, steps=250).run()
    assert set(tangled_exact(model).values()) == {1.0}


def test_s07_tangled_networks_are_exact_on_all_paths_from_uniform_batches():
    features, ids, labels = tangled_rows()
    model = tangled_model(tangled_paths())
    streams = {
        path: tf.data.Dataset.from_tensors(
            tf.nest.map_structure(lambda t, i=i: t[ids == i], (features, labels))
        )
        for i, path in enumerate(model.paths)
    }
    settings = {p: PathSettings(ADAM(0.005)) for p in streams}
    Trainer(model, streams=streams, settings=settings, steps=1600).run()
    assert set(tangled_exact(model).values()) == {1.0}


def test_s07_a_mixed_step_leaves_what_no_row_uses(stream_of):
    """Adam has momentum there from the step before, and the clock of its own."""
    features, ids, labels = tangled_rows()
    model = tangled_model(tangled_paths())
    seen = []
    unused = model.stages[0].branches["decimal"]

    def batch(rows):
        return tf.data.Dataset.from_tensors(
            tf.nest.map_structure(lambda t: t[rows], ((features, ids), labels))
        )

    trainer = Trainer(
        model,
        streams={"all": batch(ids >= 0).concatenate(batch(ids < 2).repeat(3))},
        steps=4,
        steps_per_loop=1,
        on_progress=lambda _: seen.append([np.array(v) for v in unused.variables]),
    )
    trainer.run()
    for later in seen[1:]:
        for was, now in zip(seen[0], later, strict=True):
            np.testing.assert_array_equal(was, now)
    step: Any = trainer.path_steps[0]
    clocks = {
        frozenset(source.path for source in owner.sources): int(owner.optimizer.iterations)
        for owner in step.update.owners
    }
    paths = list(model.paths)
    binary, decimal, every = map(frozenset, (paths[:2], paths[2:], paths))
    assert clocks[binary] == clocks[every] == 4 and clocks[decimal] == 1


def test_s08_a_mask_holds_entries_still(typed_model, typed_batches, stream_of):
    model = typed_model()
    kernel = model.stages[1].kernel
    before = np.array(kernel)
    mask = np.triu(np.ones([3, 3]))
    settings = PathSettings(ADAM(0.1), mask_fn=lambda v: mask if v is kernel else None)
    Trainer(
        model,
        streams={"vector": stream_of(typed_batches()["vector"])},
        settings={"vector": settings},
        steps=5,
    ).run()
    np.testing.assert_array_equal(np.array(kernel)[mask == 0], before[mask == 0])
    assert np.all(np.array(kernel)[mask == 1] != before[mask == 1])


@pytest.mark.parametrize("kind", [Conditional, Selective], ids=["s09", "s10"])
def test_s09_s10_a_layer_switched_off_gets_no_update_and_no_new_trace(kind):
    """Its momentum and weight decay are at rest too, and the others' clock goes on."""
    keras.utils.set_random_seed(2)
    inner = layers.Dense(3)
    inner.build([None, 3])
    wrapped = kind(inner, name="wrapped")
    model = BranchedModel(
        [layers.Dense(3, name="first"), wrapped],
        heads=[Head("y", layers.Dense(1), loss="mse")],
        paths={"a": Path()},
    )
    batch = tf.random.stateless_normal([8, 4], [0, 1]), tf.ones([8, 1])
    seen = []

    def switch(progress):
        seen.append([np.array(v) for v in (*inner.variables, model.stages[0].kernel)])
        wrapped.on.assign(int(progress.step != 2))  # off in the third step

    trainer = Trainer(
        model,
        streams={"a": tf.data.Dataset.from_tensors(batch)},
        settings={"a": PathSettings(keras.optimizers.AdamW(0.1, weight_decay=0.1))},
        steps=4,
        steps_per_loop=1,
        on_progress=switch,
    )
    trainer.run()
    for was, now in zip(seen[1][:2], seen[2][:2], strict=True):
        np.testing.assert_array_equal(was, now)
    assert np.any(seen[2][0] != seen[3][0])
    # What comes before it is trained through a layer that is skipped, and not through one that
    # stops gradients, except by what Adam remembers.
    assert np.any(seen[1][2] != seen[2][2])
    assert int(trainer.optimizers["a"].iterations) == 4
    assert trainer.loop.num_traces == 1


def test_s09_a_skipped_layer_costs_no_time():
    big = layers.Dense(1500)
    big.build([None, 1500])
    layer = Conditional(big)
    x = tf.ones([256, 1500])

    @tf.function
    def run():
        return tf.reduce_sum(layer(x))

    def seconds():
        run()
        started = time.perf_counter()
        for _ in range(10):
            run()
        return time.perf_counter() - started

    on = seconds()
    layer.on.assign(0)
    assert seconds() < on / 3


def test_s11_two_streams_with_their_own_losses_and_optimizers_both_learn():
    keras.utils.set_random_seed(1)
    cnn = keras.Sequential(
        [layers.Conv2D(16, 5, strides=4, activation="relu"), layers.GlobalAveragePooling2D()]
    )
    gru = keras.Sequential([layers.Embedding(100, 8), layers.GRU(8, return_sequences=True)])
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = BranchedModel(
        [Switch("kind", image=cnn, text=gru)],
        heads=[
            Head("label", layers.Dense(10), loss=entropy),
            Head("tokens", layers.Dense(100), loss=entropy),
        ],
        paths={
            "image": Path(kind="image", heads=["label"]),
            "text": Path(kind="text", heads=["tokens"]),
        },
    )
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 10, 16)
    images = np.ones([16, 64, 64, 3], np.float32) * kind[:, None, None, None]
    tokens = rng.integers(0, 100, size=(1, 20)).repeat(4, axis=0)
    streams = {
        "image": tf.data.Dataset.from_tensors((images, kind)),
        "text": tf.data.Dataset.from_tensors((tokens, tokens)),
    }
    settings = {"image": PathSettings(ADAM(0.05)), "text": PathSettings(SGD(2.0))}
    history = Trainer(model, streams=streams, settings=settings, steps=120, steps_per_loop=10).run()
    for path, losses in history.losses.items():
        assert losses[-1][1] < 0.7 * losses[0][1], path


def test_s12_a_class_and_a_segmentation_of_one_image():
    keras.utils.set_random_seed(1)
    model = BranchedModel(
        [layers.Conv2D(8, 3, padding="same", activation="relu", name="trunk")],
        heads=[
            Head(
                "kind",
                keras.Sequential([layers.GlobalMaxPooling2D(), layers.Dense(3, "softmax")]),
                loss="sparse_categorical_crossentropy",
            ),
            Head("mask", layers.Conv2D(1, 1, activation="sigmoid"), loss=dice_loss, loss_weight=2),
        ],
        paths={"picture": Path()},
    )
    rng = np.random.default_rng(0)
    kind = np.arange(12) % 3
    mask = (rng.random([12, 8, 8, 1]) < 0.3) * (kind > 0)[:, None, None, None]  # kind 0 is empty
    pictures = (mask * kind[:, None, None, None]).astype(np.float32)
    labels = {"kind": kind, "mask": mask.astype(np.float32)}
    stream = tf.data.Dataset.from_tensors((pictures, labels))
    settings = {"picture": PathSettings(ADAM(0.03))}
    Trainer(model, streams={"picture": stream}, settings=settings, steps=300).run()
    outputs = model(pictures, path="picture")
    assert np.mean(np.argmax(outputs["kind"], 1) == kind) == 1.0
    assert np.mean((np.array(outputs["mask"]) > 0.5) == mask) > 0.99


@pytest.mark.parametrize(
    ("label", "output", "loss"),
    [([0, 0], [0, 0], 0), ([1, 1], [1, 1], 0), ([1, 1], [0, 0], 1), ([1, 0], [1, 1], 1 / 3)],
    ids=["both empty", "both full", "missed", "half too much"],
)
def test_s12_dice_is_right_on_empty_masks(label, output, loss):
    label, output = (tf.constant([value], tf.float32) for value in (label, output))
    np.testing.assert_allclose(dice_loss(label, output), [loss], atol=1e-5)


def test_s13_nested_labels_some_of_them_missing():
    entropy = keras.losses.SparseCategoricalCrossentropy()
    one = Head("c1", layers.Identity(), loss=entropy, label=("tags", "category_1"), missing=-1)
    two = Head("c2", layers.Identity(), loss=entropy, label=("tags", "category_2"), missing=-1)
    labels = {"tags": {"category_1": tf.constant([3, -1]), "category_2": tf.constant([-1, -1])}}
    tenth, fifth = tf.fill([2, 10], 0.1), tf.fill([2, 5], 0.2)
    np.testing.assert_allclose(head_loss(one, labels, tenth), np.log(10), rtol=1e-5)
    assert float(head_loss(two, labels, fifth)) == 0.0
    with pytest.raises(KeyError, match="needs the label 'category_1'; there are .'category_2'"):
        head_loss(one, {"tags": {"category_2": tf.constant([1])}}, tenth)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2])
def test_s14_the_leak_follows_its_share(share):
    def model():
        keras.utils.set_random_seed(4)
        made = BranchedModel(
            [Switch("s", a=layers.Dense(3, "relu"), b=layers.Dense(3, "relu"))],
            heads=[Head("y", layers.Dense(1), loss="mse")],
            paths={"a": Path(s="a"), "b": Path(s="b")},
        )
        for path in "ab":
            made.build_path(path, tf.TensorSpec([None, 4]))
        return made

    batch = tf.random.stateless_normal([8, 4], [1, 2]), tf.ones([8, 1])
    plain, leaking, full = model(), model(), model()
    before = [np.array(v) for v in plain.own_state_of("b")]
    step_of(plain, "a", PathSettings(SGD(1.0)))(batch)
    step_of(leaking, "a", PathSettings(SGD(1.0), leak={"b": share}))(batch)
    step_of(full, "b", PathSettings(SGD(1.0)))(batch)
    for one, other in zip(plain.own_state_of("a"), leaking.own_state_of("a"), strict=True):
        np.testing.assert_array_equal(one, other)
    for was, leaked, whole in zip(
        before, leaking.own_state_of("b"), full.own_state_of("b"), strict=True
    ):
        np.testing.assert_allclose(leaked - was, share * (whole - was), rtol=1e-3, atol=1e-7)


def test_s15_the_example_gate_learns_from_the_hardest(stream_of):
    streams = {"vector": stream_of(s1_batches()["vector"])}
    settings = {"vector": PathSettings(ADAM(0.02), gate=hardest(0.25))}
    history = Trainer(s1_model(), streams=streams, settings=settings, steps=200).run()
    assert history.losses["vector"][-1][1] < 0.5 * history.losses["vector"][0][1]
    assert history.examples["vector"] == 200 * 256
