"""RouteValidator as a TFX component: statistics and schema in, anomalies per split out."""

import json
import logging
import os
from typing import Any

import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils, writer_utils

from branchline.components.baseline_finder.find_baseline import ABSENT
from branchline.components.code_version import code_version
from branchline.components.route_validator.block import block, blocking
from branchline.components.route_validator.compare import compare_split
from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.route_validator.slices import drop_histograms
from branchline.components.route_validator.validate import (
    Found,
    describe,
    merge,
    summarize,
    validate_split,
)
from branchline.schemas import BranchlineError, RoutingTable, Validation, from_json, to_json
from branchline.schemas.splits import TRAIN

_progress = logging.getLogger("branchline.progress")


class Executor(base_executor.BaseExecutor):
    """Validates the rows of every route in the route's environment, split by split."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes anomalies as ExampleValidator does, `anomalies.json`, `inferred_schema.pbtxt`.

        Raises:
            BranchlineError: A finding is of a kind that `validation` blocks.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        routing = from_json(exec_properties["routing"])
        validation = from_json(exec_properties["validation"])
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        schema_dir = artifact_utils.get_single_uri(input_dict["schema"])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_dir))
        output = artifact_utils.get_single_instance(output_dict["anomalies"])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        output.split_names = artifact_utils.encode_split_names(splits)
        output.span = statistics.span
        current, previous = _load([statistics]), _load(input_dict.get("previous_statistics") or [])
        if validation.skew is not None and TRAIN not in current:
            raise BranchlineError(
                f"skew is a distance from the split {TRAIN!r}, and the statistics are of the "
                f"splits {', '.join(splits)}; leave out Validation(skew=…)"
            )
        if validation.drift is not None and not previous:
            _progress.info("drift is not compared: there are no statistics of a blessed run")
        compared: dict[str, dict[str, Found]] = {split: {} for split in current}
        for split, stats in current.items():
            if validation.drift is not None and split in previous:
                compared[split]["drift"] = compare_split(
                    "drift", validation.drift, stats, previous[split], schema, routing, split
                )
            if validation.skew is not None and split != TRAIN:
                compared[split]["skew"] = compare_split(
                    "skew", validation.skew, stats, current[TRAIN], schema, routing, split
                )
        schemas = RouteSchemas(schema, routing)
        summary, sound, stopping = {}, {}, []
        for split, stats in current.items():
            drop_histograms(stats)
            by_kind = {"anomalies": validate_split(stats, schemas, split), **compared[split]}
            anomalies = merge(by_kind.values(), schema)
            folder = artifact_utils.get_split_uri([output], split)
            path = os.path.join(folder, example_validator.DEFAULT_FILE_NAME)
            writer_utils.write_anomalies(path, anomalies)
            summary[split] = summarize(by_kind.values())
            is_sound = not describe(anomalies)
            sound[split] = (
                example_validator.BLESSED_VALUE if is_sound else example_validator.NOT_BLESSED_VALUE
            )
            for route, said in summary[split].items():
                _log(split, route, said["examples"], said["anomalies"])
            stopping += blocking(by_kind, split, validation)
        output.set_json_value_custom_property(
            example_validator.ARTIFACT_PROPERTY_BLESSED_KEY, sound
        )
        text = json.dumps({"splits": summary}, indent=2, ensure_ascii=False) + "\n"
        _write(text, os.path.join(output.uri, "anomalies.json"))
        if splits:
            stats = current[TRAIN if TRAIN in current else splits[0]]
            inferred = tfdv.infer_schema(stats, infer_feature_shape=False)  # sparse, as declared
            text = text_format.MessageToString(inferred)
            _write(text, os.path.join(output.uri, "inferred_schema.pbtxt"))
        block(stopping)


class RouteValidatorSpec(ComponentSpec):
    """What goes into and comes out of RouteValidator."""

    PARAMETERS = {
        "routing": ExecutionParameter(type=str),
        "validation": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
        "previous_statistics": ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }
    OUTPUTS = {
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }


class RouteValidator(base_component.BaseComponent):
    """Compares the statistics of every route's rows with the schema, in the route's environment.

    And, where `validation` has limits, with those of an earlier run (drift), and of the splits
    other than "train" with those of "train" (skew).

    It also tells fields that are kept as floats of 32 bits and differ by less than these can hold,
    and each `Numeric` that is one number in all rows of "train".

    Output `anomalies`: a split per split of the statistics, laid out as ExampleValidator's, with
    what is wrong in any route; and `anomalies.json`, route by route:
    {"splits": {split: {route: {"examples": n, "anomalies": {feature: what}}}}}. What concerns all
    rows of a route, as that there are none, is under the feature ""; examples that take no route of
    the table are under the route "". And `inferred_schema.pbtxt`, what TFDV infers from the split
    "train" (or else the first): to be corrected by hand and given as the schema.

    Args:
        statistics: Of routed examples, with splits of any names, from RouteStatistics, or from a
            StatisticsGen with `stats_options=route_stats_options(routing)`.
        schema: One schema for all routes, inferred, declared or imported.
        routing: The routing table.
        previous_statistics: Of an earlier run, made in the same way, for `validation.drift`; from a
            Resolver or a BaselineFinder, which may find none.
        validation: What is compared, and which findings end the run; by default none does.
    """

    SPEC_CLASS = RouteValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        statistics: BaseChannel,
        schema: BaseChannel,
        routing: RoutingTable,
        previous_statistics: BaseChannel | None = None,
        validation: Validation | None = None,
    ) -> None:
        spec = RouteValidatorSpec(
            statistics=statistics,
            schema=schema,
            previous_statistics=previous_statistics,
            routing=to_json(routing),
            validation=to_json(validation or Validation()),
            code_version=code_version(__file__),
            anomalies=Channel(type=standard_artifacts.ExampleAnomalies),
        )
        super().__init__(spec=spec)


def _load(artifacts: list[Artifact]) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Split → statistics, of at most one artifact; none where BaselineFinder found none."""
    return {
        split: stats_artifact_utils.load_statistics(artifact, split).proto()
        for artifact in artifacts
        if not artifact.get_int_custom_property(ABSENT)
        for split in artifact_utils.decode_split_names(artifact.split_names)
    }


def _write(text: str, path: str) -> None:
    part = f"{path}.part"
    with tf.io.gfile.GFile(part, "w") as file:
        file.write(text)
    tf.io.gfile.rename(part, path, overwrite=True)


def _log(split: str, route: str, examples: int, found: dict[str, str]) -> None:
    for feature, what in found.items():
        progress = {"component": "RouteValidator", "split": split, "route": route}
        progress |= {"examples": examples, "feature": feature, "anomaly": what}
        where = ", ".join(part for part in (split, route, feature) if part)
        _progress.warning(f"{where}: {what}", extra={"progress": progress})
