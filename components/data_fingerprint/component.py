"""DataFingerprint: a TFX component that does what a driver does where no driver runs."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import range_config_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from branchline.components.code_version import code_version
from branchline.components.mixed_example_gen.find_files import fingerprint_of, read_paths
from branchline.components.mixed_example_gen.find_spans import choose_spans, read_range
from branchline.components.mixed_example_gen.parameters import as_parameter, as_range
from branchline.components.user_code import recipe_path

_progress = logging.getLogger("branchline.progress")


class Executor(base_executor.BaseExecutor):
    """Looks at the files and writes what identifies them."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the fingerprint.

        Raises:
            BranchlineError: There are no such files, or they cannot be listed.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        output: Any = artifact_utils.get_single_instance(output_dict["fingerprint"])
        inputs = json.loads(exec_properties["data_inputs"])
        recipe_file = exec_properties["recipe_file"]
        folder = recipe_path(recipe_file).parent if recipe_file else ""
        paths = read_paths(exec_properties["input_base"])
        chosen = choose_spans(paths, read_range(exec_properties.get("range_config")))
        output.value = fingerprint_of(chosen.paths, inputs, folder)
        _progress.info("the records' fingerprint is %s", output.value)


class DataFingerprintSpec(ComponentSpec):
    """Paths in, a text out."""

    PARAMETERS = {
        "input_base": ExecutionParameter(type=str),
        "range_config": ExecutionParameter(type=str),
        "recipe_file": ExecutionParameter(type=str),
        "data_inputs": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {"fingerprint": ChannelParameter(type=standard_artifacts.String)}


class DataFingerprint(base_component.BaseComponent):
    """Identifies the records' files, so that a cache whose key holds this sees when they change.

    It reads none of them; it must never be cached itself.

    Args:
        input_base: As MixedExampleGen's; "" for what the recipe itself writes.
        range_config: As MixedExampleGen's.
        recipe_file: Of that recipe, as `recipe_path` takes it; "" for none.
        data_inputs: The recipe's, relative to its file: what is looked at without `input_base`.

    Outputs `fingerprint` (String): another text whenever a file is another.

    Raises:
        RecipeError: `input_base` is no path, or `range_config` names no span.
    """

    SPEC_CLASS = DataFingerprintSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        input_base: str | RuntimeParameter,
        *,
        range_config: range_config_pb2.RangeConfig | None = None,
        recipe_file: str = "",
        data_inputs: Sequence[str] = (),
    ) -> None:
        super().__init__(
            DataFingerprintSpec(
                input_base=as_parameter("DataFingerprint.input_base", input_base),
                range_config=as_range("DataFingerprint.range_config", range_config),
                recipe_file=recipe_file,
                data_inputs=json.dumps(list(data_inputs)),
                code_version=code_version(__file__),
                fingerprint=Channel(type=standard_artifacts.String),
            )
        )
