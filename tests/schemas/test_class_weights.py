import pytest

from branchline.schemas import Numeric, RecipeError, Route, Target, from_json, to_json, when


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        (None, None),
        ("balanced", "balanced"),
        ({"spam": 5}, (1.0, 5.0, 1.0)),
        ({"other": 0.5, "ham": 2}, (2.0, 1.0, 0.5)),
        ([1, 2, 3], (1.0, 2.0, 3.0)),
    ],
)
def test_weights_are_kept_in_the_order_of_the_classes(given, weights):
    target = Target("multiclass", classes=("ham", "spam", "other"), class_weight=given)
    assert target.class_weight == weights
    assert from_json(to_json(target)) == target
    route = Route(
        "r",
        when.present("x"),
        features={"x": Numeric()},
        label="y",
        task="multiclass",
        classes=("ham", "spam", "other"),
        class_weight=given,
    )
    assert route.labels == {"y": target}
    assert from_json(to_json(route)).labels == {"y": target}


def test_classes_without_names_are_their_numbers():
    assert Target("binary", class_weight={1: 3}).class_weight == (1.0, 3.0)
    assert Target("multiclass", num_classes=3, class_weight={2: 3}).class_weight == (1.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"task": "regression", "class_weight": "balanced"}, "None unless the target has classes"),
        ({"task": "binary", "class_weight": {2: 1.0}}, r"got 2, expected one of the classes 0, 1"),
        ({"task": "binary", "class_weight": {0: 0}}, "got 0"),
        ({"task": "binary", "class_weight": [1.0]}, "'balanced', class → weight"),
        ({"task": "binary", "class_weight": "even"}, "'balanced', class → weight"),
        ({"task": "binary", "class_weight": {1: float("nan")}}, "nan"),
        (
            {"task": "binary", "class_weight": "balanced", "shape": (2,)},
            "None where the target has a shape",
        ),
    ],
)
def test_what_is_wrong_is_said(options, told):
    with pytest.raises(RecipeError, match=told) as caught:
        Target(**options)
    assert "Target.class_weight" in str(caught.value)
