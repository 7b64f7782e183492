"""MixedExampleGen: the TFX shell around `ingest`."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from tfx import types
from tfx.components.example_gen import utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import (
    base_beam_component,
    base_beam_executor,
    base_driver,
    executor_spec,
)
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration import data_types_utils
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.portable import base_driver as portable_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from branchline.components import quarantine
from branchline.components.artifacts import Quarantine
from branchline.components.code_version import code_version
from branchline.components.files.write_files import finish
from branchline.components.keep_quarantine import kept_if_failing
from branchline.components.mixed_example_gen.check_splits import check_filled
from branchline.components.mixed_example_gen.declared import declared_by, read_declared
from branchline.components.mixed_example_gen.find_files import (
    fingerprint,
    fingerprint_of,
    list_records,
    read_paths,
)
from branchline.components.mixed_example_gen.find_spans import (
    Chosen,
    choose_spans,
    read_range,
)
from branchline.components.mixed_example_gen.ingest import ingest, name_file
from branchline.components.mixed_example_gen.parameters import as_parameter, as_range
from branchline.components.mixed_example_gen.raw_records import write_read_files
from branchline.components.mixed_example_gen.write_records import own_records
from branchline.components.user_code import recipe_hash as hash_of
from branchline.schemas import BranchlineError, RoutingTable, from_json, to_json
from branchline.schemas.errors import check_share
from branchline.schemas.missing_cells import MISSING_CELLS, read_missing_cells
from branchline.schemas.reasons import read_reason_limits
from branchline.schemas.splits import EVAL, TRAIN, Splits, check_splits, read_key, split_names

_progress = logging.getLogger("branchline.progress")


class Driver(base_driver.BaseDriver, portable_base_driver.BaseDriver):
    """Puts the input's fingerprint among the execution properties, so that caching sees it."""

    def __init__(self, metadata_handle: Any) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Adds `input_fingerprint`, of the spans that are there now."""
        result = driver_output_pb2.DriverOutput()
        properties = execution_info.exec_properties
        for key, value in properties.items():
            if value is not None:
                data_types_utils.set_metadata_value(result.exec_properties[key], value)
        paths = read_paths(properties["input_base"])
        chosen = choose_spans(paths, read_range(properties.get("range_config")))
        data_types_utils.set_metadata_value(
            result.exec_properties["input_fingerprint"], fingerprint_of(chosen.paths)
        )
        return result


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the files and writes examples and quarantine."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs `ingest` in a Beam pipeline, and fails above the quarantine limit."""
        self._log_startup(input_dict, output_dict, exec_properties)
        paths = read_paths(exec_properties["input_base"])
        own = nullcontext() if paths else own_records(exec_properties.get("recipe_file") or "")
        with own as directory:
            self._ingest(paths or [str(directory)], output_dict, exec_properties)

    def _ingest(
        self,
        paths: list[str],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        chosen = choose_spans(paths, read_range(exec_properties.get("range_config")))
        files, others, listed = list_records(chosen.paths)
        splits: Splits = from_json(exec_properties["splits"])
        split_key, names = exec_properties.get("split_key") or None, sorted(split_names(splits))
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        quarantine_uri = artifact_utils.get_single_uri(output_dict["quarantine"])
        examples.split_names = artifact_utils.encode_split_names(names)
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        _describe_spans(examples, chosen, fingerprint(listed))
        for other in others:
            _progress.warning("%s is of no format of records and was passed over", other)
        with self._make_beam_pipeline() as pipeline:
            ingest(
                pipeline,
                [(file, listed[file.path].size) for file in files],
                splits,
                split_key,
                read_declared(exec_properties["declared"]),
                examples.uri,
                quarantine_uri,
            )
        write_read_files(quarantine_uri, exec_properties["declared"], files)
        counts = quarantine.read_counts(quarantine_uri)
        without = [split for split in names if not counts["out"].get(split)]
        finish(examples.uri, [name_file(split, 0, 1) for split in without])
        quarantine.log_counts("MixedExampleGen", counts)
        with kept_if_failing(quarantine_uri):
            quarantine.check_conserved("MixedExampleGen", counts)
            if not counts["in"]:
                raise BranchlineError(f"{', '.join(chosen.paths)}: the files hold no record")
            check_filled(splits, split_key, counts, examples.uri)
            limit = exec_properties["quarantine_limit"]
            of_reasons = json.loads(exec_properties["reason_limits"])
            quarantine.check_limit([counts], counts["in"], limit, of_reasons)


def _describe_spans(examples: types.Artifact, chosen: Chosen, files: str) -> None:
    """Writes down what TFX's ExampleGen does: span 0 of files without a place for one.

    Some of TFX's resolvers ask for the property, some for the custom property.
    """
    examples.span = chosen.spans[-1] if chosen.spans else 0
    examples.set_int_custom_property(utils.SPAN_PROPERTY_NAME, examples.span)
    examples.set_string_custom_property(utils.FINGERPRINT_PROPERTY_NAME, files)
    if chosen.version is not None:
        examples.version = chosen.version
        examples.set_int_custom_property(utils.VERSION_PROPERTY_NAME, chosen.version)
    if len(chosen.spans) > 1:
        examples.set_string_custom_property("spans", json.dumps(chosen.spans))
        _progress.info("MixedExampleGen: spans %s", ", ".join(map(str, chosen.spans)))
    elif chosen.spans:
        _progress.info("MixedExampleGen: span %d", chosen.spans[0])


class MixedExampleGenSpec(ComponentSpec):
    """Files in, examples and quarantine out."""

    PARAMETERS = {
        "input_base": ExecutionParameter(type=str),
        "range_config": ExecutionParameter(type=str),
        "input_fingerprint": ExecutionParameter(type=str, optional=True),
        "recipe_file": ExecutionParameter(type=str),
        "recipe_hash": ExecutionParameter(type=str),
        "splits": ExecutionParameter(type=str),
        "split_key": ExecutionParameter(type=str, optional=True),
        "declared": ExecutionParameter(type=str),
        "quarantine_limit": ExecutionParameter(type=float),
        "reason_limits": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "quarantine": ChannelParameter(type=Quarantine),
    }


class MixedExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests mixed records, in files and directories of any format, any kinds in one stream.

    Formats are told by names: JSONL, CSV and TSV (lines), Parquet, Avro and TFRecord of tf.Example
    (rows); see `find_files.FORMATS`. Folders `name=value` give each record below them a field.
    Markers and metadata files are passed over. What a damaged file no longer tells is one line of
    the quarantine, with the reason `unreadable_rest`, or of a block of Avro `unreadable_block`.

    Every example also holds `branchline.source` and `branchline.offset`: the file and the line or
    row it came from.

    Args:
        input_base: A file, directory or pattern, or several; "" for what the recipe itself writes.
            A parameter of the pipeline holds a path, or a JSON list of paths. A path may have
            {SPAN}, or {YYYY}, {MM} and {DD}, and {VERSION}, which mean what they do to TFX's
            ExampleGen, such as `records/span-{SPAN}/version-{VERSION:2}`.
        range_config: TFX's RangeConfig: which spans are read, the newest alone if it is None.
            Unlike TFX's ExampleGen it may be several; see `find_spans.choose_spans`.
        input_fingerprint: What `DataFingerprint` told, where no driver runs: files that change
            change it, and with it the key of the cache.
        recipe_file: The file of the recipe whose `data` function writes the records when there is
            no `input_base`, as `recipe_path` takes it; "" for none.
        recipe_hash: Of that file, where it is not on this machine; None computes it.
        splits: Split → its parts of the records, by a stable hash; or SplitByTime(…) or
            SplitByField(…). If none of their records is in a split, that is an error.
        split_key: Records with equal values under this key get the same hash; a record without it
            is hashed as a whole, and if none has it that is an error.
        routing: The table that is to read the records: what it does not read may hold anything, and
            what it does is read as it needs it. None reads everything.
        missing_cells: What stands in a cell of CSV, TSV or a folder's name where a number is
            absent, in columns that `routing` reads as numbers alone.
        quarantine_limit: Share of the records in [0, 1]; above it the component fails. What was
            set aside is kept then, beside the quarantine's own folder, and the error says where.
        reason_limits: Reason → share of the records in [0, 1] for it alone, such as
            {"no_route": 0.0}.

    Outputs: `examples` (Examples) and `quarantine` (Quarantine). The examples have `span`, the last
    that was read, `version` and `input_fingerprint`; of several spans the custom property `spans`
    lists all.

    Raises:
        RecipeError: An argument is wrong.
    """

    SPEC_CLASS = MixedExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        input_base: str | Sequence[str] | RuntimeParameter,
        *,
        range_config: range_config_pb2.RangeConfig | None = None,
        input_fingerprint: str | Placeholder | None = None,
        recipe_file: str = "",
        recipe_hash: str | None = None,
        splits: Splits | None = None,
        split_key: str | None = None,
        routing: RoutingTable | None = None,
        missing_cells: Iterable[str] = MISSING_CELLS,
        quarantine_limit: float = 1.0,
        reason_limits: Mapping[str, float] | None = None,
    ) -> None:
        splits = splits or {TRAIN: 4, EVAL: 1}
        check_splits("MixedExampleGen.splits", splits, split_key)
        check_share("MixedExampleGen.quarantine_limit", quarantine_limit)
        of_reasons = read_reason_limits("MixedExampleGen.reason_limits", reason_limits or {})
        missing = read_missing_cells("MixedExampleGen.missing_cells", missing_cells)
        super().__init__(
            MixedExampleGenSpec(
                input_base=as_parameter("MixedExampleGen.input_base", input_base),
                range_config=as_range("MixedExampleGen.range_config", range_config),
                input_fingerprint=input_fingerprint,
                recipe_file=recipe_file,
                recipe_hash=hash_of(recipe_file) if recipe_hash is None else recipe_hash,
                splits=to_json(splits),
                split_key=split_key,
                declared=declared_by(routing, read_key(splits, split_key), missing),
                quarantine_limit=float(quarantine_limit),
                reason_limits=json.dumps(of_reasons),
                code_version=code_version(__file__),
                examples=types.Channel(type=standard_artifacts.Examples),
                quarantine=types.Channel(type=Quarantine),
            )
        )
