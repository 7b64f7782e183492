"""Marks a blessing as TFX's own Evaluator does."""

import os

from tfx.components.evaluator import constants
from tfx.types.artifact import Artifact
from tfx.utils import io_utils


def bless(blessing: Artifact, model: Artifact, baseline: Artifact | None, blessed: bool) -> None:
    """Says whether the model is blessed, and which model it was compared with, if with any."""
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline is not None:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    # TFX asks only whether the file is there; BaselineFinder reads which model it is about.
    io_utils.write_string_file(os.path.join(blessing.uri, name), model.uri)
    value = constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
