import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from branchline.components.baseline_finder.earlier_blessed import EarlierBlessedModel


def model(number):
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def blessing(number, blessed):
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, number)
    artifact.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    return artifact


@pytest.mark.parametrize(
    ("judged", "candidate", "baseline"),
    [
        ({}, 1, []),
        ({1: True}, 1, []),  # the first model once more
        ({1: True}, 2, [1]),
        ({1: True, 2: True}, 2, [1]),  # the second once more: compared as it was at first
        ({1: True, 2: True}, 1, [2]),  # back to the first
        ({1: True, 2: False}, 3, [1]),
        ({1: False, 2: False}, 3, []),
    ],
)
def test_the_baseline_is_blessed_and_not_the_candidate(judged, candidate, baseline):
    chosen = model(candidate)
    inputs = {
        "model": [model(number) for number in sorted({*judged, candidate})],
        "model_blessing": [blessing(*each) for each in judged.items()],
        "candidate": [chosen],
    }
    found = EarlierBlessedModel().resolve_artifacts(None, inputs)
    assert [artifact.id for artifact in found["model"]] == baseline
    assert found["candidate"] == [chosen]
