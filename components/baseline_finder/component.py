"""BaselineFinder: the TFX shell around `find_baseline`."""

import logging
import os
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from branchline.components.baseline_finder.find_baseline import (
    ABSENT,
    COPIED_FROM,
    copy_newest,
    own_place,
)
from branchline.components.baseline_finder.find_statistics import copy_statistics
from branchline.components.code_version import code_version
from branchline.components.files.artifact_paths import VOLUME_VARIABLE

_progress = logging.getLogger("branchline.progress")


class Executor(base_executor.BaseExecutor):
    """Copies the model and the statistics, or says that there are none."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the model that an earlier run of the pipeline blessed last, and its statistics.

        Raises:
            BranchlineError: The artifacts' place cannot be listed, or what is found not be read.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        name = exec_properties["pipeline_name"]
        _find_statistics(input_dict.get("statistics") or [], output_dict, name)
        output = artifact_utils.get_single_instance(output_dict["model"])
        volume = os.environ.get(VOLUME_VARIABLE)
        place = own_place(output.uri, name, volume)
        found = copy_newest(place, output.uri, volume)
        if found is None:
            output.set_int_custom_property(ABSENT, 1)
            _progress.info("no earlier run has blessed a model; there is nothing to compare with")
        else:
            output.set_string_custom_property(COPIED_FROM, found)
            _progress.info("the baseline is the model blessed last, %s", found)


def _find_statistics(
    current: list[Artifact], output_dict: dict[str, list[Artifact]], pipeline_name: str
) -> None:
    output = artifact_utils.get_single_instance(output_dict["previous_statistics"])
    found = None
    if current:
        volume = os.environ.get(VOLUME_VARIABLE)
        place = own_place(output.uri, pipeline_name, volume)
        found = copy_statistics(place, current[0].uri, output.uri, volume)
    if found is None:
        output.set_int_custom_property(ABSENT, 1)
    else:
        output.split_names = artifact_utils.encode_split_names(found.splits)
        output.set_string_custom_property(COPIED_FROM, found.uri)
        _progress.info("the statistics of the last blessed run are %s", found.uri)


class BaselineFinderSpec(ComponentSpec):
    """A pipeline's name and a run's statistics in, a model and earlier statistics out."""

    PARAMETERS = {
        "pipeline_name": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics, optional=True)
    }
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "previous_statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
    }


class BaselineFinder(base_component.BaseComponent):
    """Finds the model that an earlier run blessed last, among the artifacts of the pipeline.

    It does what Resolvers with LatestBlessedModelStrategy and EarlierStatistics do, which Kubeflow
    Pipelines has not. It must never be cached.

    Args:
        pipeline_name: Of the pipeline; the runs' artifacts lie in a directory of this name.
        statistics: Of this run's data. Where they are is written down for later runs; without them
            no run finds this one's, and this one finds none.

    Outputs `model` (Model) and `previous_statistics` (ExampleStatistics): copies, with the custom
    property `copied_from`; or nothing, with the custom property `absent` = 1. The statistics are
    those of the run that blessed last and had others than `statistics`.
    """

    SPEC_CLASS = BaselineFinderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, pipeline_name: str, statistics: BaseChannel | None = None) -> None:
        super().__init__(
            BaselineFinderSpec(
                pipeline_name=pipeline_name,
                statistics=statistics,
                code_version=code_version(__file__),
                model=Channel(type=standard_artifacts.Model),
                previous_statistics=Channel(type=standard_artifacts.ExampleStatistics),
            )
        )
