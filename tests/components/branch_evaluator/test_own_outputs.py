"""TFX's Evaluator with `own_outputs`: what a row counts for."""

import numpy as np
import pytest
import tensorflow_model_analysis as tfma

from branchline.components.branch_evaluator.own_outputs import custom_extractors, weigh_outputs
from branchline.schemas import BranchlineError

NONE = np.array([])


def row(labels, predictions, **more):
    """A row of the route `up`, as TFMA's extractors give it."""
    route = {"features": {"_route": np.array([b"up"], object), "x": np.array([3.0])}}
    return route | {"labels": labels, "predictions": predictions} | more


def weights(extracts):
    found = extracts["example_weights"]
    return {output: float(weight[0]) for output, weight in found.items()}


def test_a_row_counts_for_its_own_routes_outputs_alone():
    given = row(
        {"up": np.array([2.0]), "down": NONE, "upper": np.array([1])},
        {"up": np.array([2.5]), "down": np.array([np.nan]), "upper": np.array([[0.1, 0.9]])},
    )
    found = weigh_outputs(given)
    assert weights(found) == {"up": 1, "down": 0, "upper": 0}
    assert found["labels"]["up"] == [2.0] and found["predictions"]["up"] == [2.5]
    assert found["labels"]["down"].size == 1 and found["predictions"]["down"] == [0]
    assert found["predictions"]["upper"].shape == (1, 2)
    assert found["features"] is given["features"]
    assert given["labels"]["down"] is NONE  # what other steps see stays as it was


def test_a_target_that_a_row_lacks_counts_nothing():
    found = weigh_outputs(
        row(
            {"up/a": np.array([1]), "up/b": NONE},
            {"up/a": np.array([0.3]), "up/b": np.array([0.4])},
        )
    )
    assert weights(found) == {"up/a": 1, "up/b": 0}


def test_weights_of_the_user_stay_in_force():
    labels = {"up": np.array([1]), "down": NONE}
    predictions = {"up": np.array([0.3]), "down": np.array([np.nan])}
    shared = weigh_outputs(row(labels, predictions, example_weights=np.array([2.5])))
    by_output = {"up": np.array([0.5]), "down": np.array([4.0])}
    own = weigh_outputs(row(labels, predictions, example_weights=by_output))
    assert weights(shared) == {"up": 2.5, "down": 0}
    assert weights(own) == {"up": 0.5, "down": 0}


def test_a_baselines_rows_are_weighed_too():
    labels = {"up": np.array([1]), "down": NONE}
    predictions = {"up": np.array([0.3]), "down": np.array([np.nan])}
    models = ("candidate", "baseline")
    found = weigh_outputs(row(dict.fromkeys(models, labels), dict.fromkeys(models, predictions)))
    for model in models:
        assert weights({"example_weights": found["example_weights"][model]}) == {"up": 1, "down": 0}
        assert found["predictions"][model]["down"] == [0]


@pytest.mark.parametrize(
    "wrong", [{"output_names": ["up"]}, {"example_weights": {"weighted": True}}]
)
def test_metrics_that_would_count_other_routes_rows_are_refused(wrong):
    spec = tfma.MetricsSpec(metrics=[{"class_name": "AUC"}], **wrong)
    with pytest.raises(BranchlineError, match="one of AUC with .* expected the outputs of one"):
        custom_extractors(None, tfma.EvalConfig(metrics_specs=[spec]))
