import keras
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer import BranchedModel, Head, Path, Switch


def dense(units=2, **kwargs):
    return keras.layers.Dense(units, **kwargs)


def test_a_path_runs_its_own_branch_then_the_trunk_then_its_heads(typed_model):
    model = typed_model()
    x = np.ones([2, 4], np.float32)
    encoder, trunk = model.stages
    expected = model.heads[0].layer(trunk(encoder.branches["vector"](x)))
    output = model(x, path="vector")
    assert list(output) == ["out"]
    np.testing.assert_array_equal(output["out"], expected)


def test_variables_of_a_path_are_its_branch_the_trunk_and_its_heads(typed_model):
    model = typed_model()
    encoder, trunk = model.stages
    shared = [*trunk.variables, *model.heads[0].layer.variables]
    for path in ("vector", "token"):
        own = encoder.branches[path].variables
        assert list(map(id, model.variables_of(path))) == list(map(id, own + shared))
        assert list(map(id, model.own_state_of(path))) == list(map(id, own))
    assert list(map(id, model.variables_of("vector", without=["trunk", "encoder"]))) == list(
        map(id, model.heads[0].layer.variables)
    )


def test_a_layer_in_two_branches_is_one_layer():
    both = dense()
    model = BranchedModel(
        [Switch("s", a=both, b=keras.Sequential([both, dense()]))],
        heads=[Head("out", dense(1), loss="mse")],
        paths={"a": Path(s="a"), "b": Path(s="b")},
    )
    model.build_path("a", tf.TensorSpec([None, 3]))
    model.build_path("b", tf.TensorSpec([None, 3]))
    assert len(model.variables_of("b")) == 6
    assert model.own_state_of("a") == []


def test_a_path_takes_only_the_features_it_names():
    class OnlyText(keras.Layer):
        def call(self, inputs):
            assert list(inputs) == ["text"]
            return inputs["text"]

    model = BranchedModel(
        [Switch("s", text=OnlyText(), scan=keras.layers.Flatten())],
        heads=[Head("out", keras.layers.Identity(), loss="mse")],
        paths={"text": Path(s="text", features=["text"]), "scan": Path(s="scan", features="scan")},
    )
    features = {"text": tf.ones([2, 3]), "scan": tf.ones([2, 2, 2])}
    assert model(features, path="text")["out"].shape == (2, 3)
    assert model(features, path="scan")["out"].shape == (2, 4)
    with pytest.raises(KeyError, match="takes features .'scan'., which are not among .'text'"):
        model({"text": tf.ones([2, 3])}, path="scan")


def test_a_path_returns_its_heads_only():
    model = BranchedModel(
        [dense(name="trunk")],
        heads=[Head("x", dense(1), loss="mse"), Head("y", dense(3), loss="mse")],
        paths={"both": Path(), "y": Path(heads=["y"])},
    )
    x = tf.ones([2, 2])
    assert list(model(x, path="both")) == ["x", "y"]
    assert list(model(x, path="y")) == ["y"]


def test_a_saved_model_gives_the_same_outputs(typed_model, tmp_path):
    model = typed_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    other = typed_model()
    for variable in other.variables:
        variable.assign(variable * 2)
    other.load_weights(tmp_path / "model.weights.h5")
    for path, x in {"vector": tf.ones([2, 4]), "token": tf.constant([[1], [5]])}.items():
        expected = model(x, path=path)["out"]
        np.testing.assert_array_equal(loaded(x, path=path)["out"], expected)
        np.testing.assert_array_equal(other(x, path=path)["out"], expected)


def test_the_summary_shows_switches_branches_and_paths(typed_model):
    lines = []
    typed_model().summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "switch  encoder" in text
    assert "branch  token: Sequential, 18 parameters" in text
    assert "trunk   trunk: Dense, 12 parameters" in text
    assert "path    vector: vector → out" in text


def make(stages=None, heads=None, paths=None, **kwargs):
    return BranchedModel(
        [Switch("s", a=dense(), b=dense())] if stages is None else stages,
        heads=[Head("out", dense(), loss="mse")] if heads is None else heads,
        paths={"a": Path(s="a")} if paths is None else paths,
        **kwargs,
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paths": {"a": Path(s="c")}}, ValueError, "picks 'c' at switch 's'.*'a', 'b'"),
        ({"paths": {"a": Path()}}, ValueError, "picks None at switch 's'"),
        ({"paths": {"a": Path(s="a", t="b")}}, ValueError, "at switches .'t'.; the model has .'s'"),
        ({"paths": {"a": Path(s="a", heads=["x"])}}, ValueError, "names heads .'x'.*'out'"),
        ({"paths": {"a": Path(s="a", heads=[])}}, ValueError, "names heads"),
        ({"paths": {}}, ValueError, "0 paths"),
        ({"heads": []}, ValueError, "0 heads"),
        ({"heads": [dense()]}, TypeError, "expected a Head"),
        ({"stages": [len]}, TypeError, "expected a Switch or a Keras layer"),
        ({"stages": [Switch("s", a=dense()), Switch("s", a=dense())]}, ValueError, "occur twice"),
        ({"mixed": "sum"}, ValueError, "mixed='sum'"),
    ],
    ids=[
        "no such branch",
        "no branch picked",
        "no such switch",
        "no such head",
        "no head picked",
        "no paths",
        "no heads",
        "layer as head",
        "function as stage",
        "name twice",
        "mixed mode",
    ],
)
def test_parts_that_do_not_fit_are_refused_with_the_reason(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


def test_a_branch_that_is_no_layer_is_refused():
    with pytest.raises(TypeError, match="Branch 'a' of switch 's' is a builtin_function_or_method"):
        Switch("s", a=len)
    with pytest.raises(ValueError, match="has no branch"):
        Switch("s")


def test_an_unknown_path_is_named_with_those_there_are():
    model = make()
    with pytest.raises(KeyError, match="'c' is not in the model, whose paths are .'a'"):
        model(tf.ones([1, 2]), path="c")


def test_shapes_that_do_not_meet_name_the_path():
    model = make(stages=[Switch("s", a=dense(3)), dense(2)])
    model.build_path("a", tf.TensorSpec([None, 4]))
    with pytest.raises(ValueError, match="Path 'a' cannot take features"):
        model.build_path("a", tf.TensorSpec([None, 5]))
