"""BaselineFinder: the TFX shell around `find_baseline`."""

import logging
import os
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from branchline.components.baseline_finder.find_baseline import (
    ABSENT,
    COPIED_FROM,
    copy_newest,
    own_place,
)
from branchline.components.code_version import code_version
from branchline.components.files.artifact_paths import VOLUME_VARIABLE

_progress = logging.getLogger("branchline.progress")


class Executor(base_executor.BaseExecutor):
    """Copies the model, or says that there is none."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the model that was blessed last by an earlier run of the pipeline.

        Raises:
            BranchlineError: The artifacts' place cannot be listed, or a model not be read.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        output = artifact_utils.get_single_instance(output_dict["model"])
        volume = os.environ.get(VOLUME_VARIABLE)
        place = own_place(output.uri, exec_properties["pipeline_name"], volume)
        found = copy_newest(place, output.uri, volume)
        if found is None:
            output.set_int_custom_property(ABSENT, 1)
            _progress.info("no earlier run has blessed a model; there is nothing to compare with")
        else:
            output.set_string_custom_property(COPIED_FROM, found)
            _progress.info("the baseline is the model blessed last, %s", found)


class BaselineFinderSpec(ComponentSpec):
    """A pipeline's name in, a model out."""

    PARAMETERS = {
        "pipeline_name": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {"model": ChannelParameter(type=standard_artifacts.Model)}


class BaselineFinder(base_component.BaseComponent):
    """Finds the model that an earlier run blessed last, among the artifacts of the pipeline.

    It does what a Resolver with LatestBlessedModelStrategy does, which Kubeflow Pipelines has not.
    It must never be cached.

    Args:
        pipeline_name: Of the pipeline; the runs' artifacts lie in a directory of this name.

    Outputs `model` (Model): a copy, with the custom property `copied_from`; or nothing, with the
    custom property `absent` = 1.
    """

    SPEC_CLASS = BaselineFinderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, pipeline_name: str) -> None:
        super().__init__(
            BaselineFinderSpec(
                pipeline_name=pipeline_name,
                code_version=code_version(__file__),
                model=Channel(type=standard_artifacts.Model),
            )
        )
