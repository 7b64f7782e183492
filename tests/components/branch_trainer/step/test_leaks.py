"""A path that leaks to another: F32 and F33."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_steps import assert_as_before, make_model, make_rows, step_of

from branchline.components.branch_trainer import (
    BranchedModel,
    Head,
    Path,
    PathSettings,
    Switch,
    Trainer,
)

SGD = keras.optimizers.SGD
layers = keras.layers


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
