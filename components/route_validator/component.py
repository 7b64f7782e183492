"""RouteValidator as a TFX component: statistics and schema in, anomalies per split out."""

import json
import logging
import os
from typing import Any

import tensorflow as tf
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils, writer_utils

from branchline.components.code_version import code_version
from branchline.components.route_validator.validate import describe, merge, validate_split
from branchline.schemas import RoutingTable, from_json, to_json

_progress = logging.getLogger("branchline.progress")


class Executor(base_executor.BaseExecutor):
    """Validates the rows of every route in the route's environment, split by split."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes anomalies as ExampleValidator does, and `anomalies.json`; none fails the run."""
        self._log_startup(input_dict, output_dict, exec_properties)
        routing = from_json(exec_properties["routing"])
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        schema_dir = artifact_utils.get_single_uri(input_dict["schema"])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_dir))
        output = artifact_utils.get_single_instance(output_dict["anomalies"])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        output.split_names = artifact_utils.encode_split_names(splits)
        output.span = statistics.span
        summary, sound = {}, {}
        for split in splits:
            stats = stats_artifact_utils.load_statistics(statistics, split).proto()
            found = validate_split(stats, schema, routing, split)
            anomalies = merge(found, schema)
            folder = artifact_utils.get_split_uri([output], split)
            path = os.path.join(folder, example_validator.DEFAULT_FILE_NAME)
            writer_utils.write_anomalies(path, anomalies)
            summary[split] = {
                route: {"examples": examples, "anomalies": describe(wrong)}
                for route, (examples, wrong) in found.items()
            }
            is_sound = not describe(anomalies)
            sound[split] = (
                example_validator.BLESSED_VALUE if is_sound else example_validator.NOT_BLESSED_VALUE
            )
            for route, said in summary[split].items():
                _log(split, route, said["examples"], said["anomalies"])
        output.set_json_value_custom_property(
            example_validator.ARTIFACT_PROPERTY_BLESSED_KEY, sound
        )
        _write({"splits": summary}, os.path.join(output.uri, "anomalies.json"))


class RouteValidatorSpec(ComponentSpec):
    """What goes into and comes out of RouteValidator."""

    PARAMETERS = {
        "routing": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }


class RouteValidator(base_component.BaseComponent):
    """Compares the statistics of every route's rows with the schema, in the route's environment.

    Output `anomalies`: a split per split of the statistics, laid out as ExampleValidator's, with
    what is wrong in any route, and `anomalies.json`, route by route:
    {"splits": {split: {route: {"examples": n, "anomalies": {feature: what}}}}}. What concerns all
    rows of a route, as that there are none, is under the feature ""; examples that take no route of
    the table are under the route "".

    Args:
        statistics: Of routed examples, with splits of any names, from RouteStatistics, or from a
            StatisticsGen with `stats_options=route_stats_options(routing)`.
        schema: One schema for all routes, inferred, declared or imported.
        routing: The routing table.
    """

    SPEC_CLASS = RouteValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, statistics: BaseChannel, schema: BaseChannel, routing: RoutingTable) -> None:
        spec = RouteValidatorSpec(
            statistics=statistics,
            schema=schema,
            routing=to_json(routing),
            code_version=code_version(__file__),
            anomalies=Channel(type=standard_artifacts.ExampleAnomalies),
        )
        super().__init__(spec=spec)


def _write(summary: dict[str, Any], path: str) -> None:
    part = f"{path}.part"
    with tf.io.gfile.GFile(part, "w") as file:
        file.write(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    tf.io.gfile.rename(part, path, overwrite=True)


def _log(split: str, route: str, examples: int, found: dict[str, str]) -> None:
    for feature, what in found.items():
        progress = {"component": "RouteValidator", "split": split, "route": route}
        progress |= {"examples": examples, "feature": feature, "anomaly": what}
        where = ", ".join(part for part in (split, route, feature) if part)
        _progress.warning(f"{where}: {what}", extra={"progress": progress})
