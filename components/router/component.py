"""Router: the TFX shell around `route_examples`."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from branchline.components import quarantine
from branchline.components.artifacts import Quarantine
from branchline.components.code_version import code_version
from branchline.components.keep_quarantine import kept_if_failing
from branchline.components.mixed_example_gen.raw_records import read_read_files
from branchline.components.router.read_examples import check_format, find_sources
from branchline.components.router.route_batch import batch_router
from branchline.components.router.route_examples import complete, route_examples
from branchline.schemas import BranchlineError, RoutingTable, from_json, to_json
from branchline.schemas.errors import check_int, check_share, reject
from branchline.schemas.reasons import read_reason_limits
from branchline.schemas.scarce import may_be_scarce, read_scarce, scarce_routes

_progress = logging.getLogger("branchline.progress")
LABELS = ("required", "absent")
_MOST_NAMED = 10


class Executor(base_beam_executor.BaseBeamExecutor):
    """Routes every split of Examples artifacts."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs `route_examples` in a Beam pipeline, and checks what came out."""
        self._log_startup(input_dict, output_dict, exec_properties)
        table = from_json(exec_properties["routing"])
        examples = input_dict["examples"]
        routed = artifact_utils.get_single_instance(output_dict["routed_examples"])
        quarantine_uri = artifact_utils.get_single_uri(output_dict["quarantine"])
        for artifact in examples:
            check_format(artifact)
        sources = find_sources(examples)
        _describe(routed, examples, list(sources))
        label = exec_properties["labels"] == "required"
        before_uris = [artifact.uri for artifact in input_dict.get("example_quarantine", [])]
        read_files = read_read_files(before_uris)
        with self._make_beam_pipeline() as pipeline:
            route_examples(
                pipeline,
                table,
                sources,
                routed.uri,
                quarantine_uri,
                label=label,
                read_files=read_files,
            )
        batch_router.cache_clear()  # TensorFlow functions do not survive the interpreter's end
        counts = quarantine.read_counts(quarantine_uri)
        complete(routed.uri, counts["out"])
        quarantine.log_counts("Router", counts)
        before = list(map(quarantine.read_counts, before_uris))
        put_out = sum(quarantine.number_out(each["out"]) for each in before)
        records = sum(each["in"] for each in before or [counts])
        limit = exec_properties["quarantine_limit"]
        of_reasons = json.loads(exec_properties["reason_limits"])
        scarce = json.loads(exec_properties["scarce"])
        with kept_if_failing(quarantine_uri):
            quarantine.check_conserved("Router", counts, put_out or None)
            quarantine.check_limit([*before, counts], records, limit, of_reasons)
            _check_rows(counts, exec_properties["least_rows"], scarce)


def _describe(routed: types.Artifact, examples: list[types.Artifact], splits: list[str]) -> None:
    """Writes down what the routed examples are: of a window of spans the last, and all of them."""
    routed.split_names = artifact_utils.encode_split_names(splits)
    spans = sorted({span for artifact in examples for span in _spans_of(artifact)})
    routed.span = spans[-1]
    if len(spans) > 1 or len(examples) > 1:
        routed.set_string_custom_property("spans", json.dumps(spans))
    examples_utils.set_payload_format(routed, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(routed, "tfrecords_gzip")


def _spans_of(examples: types.Artifact) -> list[int]:
    told = examples.get_string_custom_property("spans")
    return json.loads(told) if told else [examples.span]


def _check_rows(counts: dict[str, Any], least_rows: int, scarce: dict[str, str]) -> None:
    fail, skip = [], []
    for split, routes in scarce_routes(counts["out"], least_rows).items():
        for route, number in routes.items():
            told = skip if may_be_scarce(scarce, route) else fail
            told.append(f"{route!r} in {split} ({number})")
    for each in skip:
        _progress.warning("Router: fewer than %d example(s) of the route %s", least_rows, each)
    if fail:
        named = ", ".join(fail[:_MOST_NAMED])
        more = f" and {len(fail) - _MOST_NAMED} more" if len(fail) > _MOST_NAMED else ""
        aside = ", ".join(f"{reason}: {n}" for reason, n in counts["quarantined"].items())
        raise BranchlineError(
            f"expected every route to get {least_rows} example(s) or more in every split, got "
            f"fewer of {named}{more} (quarantined: {aside or 0}). Check the routes' conditions "
            'and their order, add records, or go on without such a route: scarce={ROUTE: "skip"}'
        )


class RouterSpec(ComponentSpec):
    """Examples in, examples with files for every route out."""

    PARAMETERS = {
        "routing": ExecutionParameter(type=str),
        "quarantine_limit": ExecutionParameter(type=float),
        "reason_limits": ExecutionParameter(type=str),
        "labels": ExecutionParameter(type=str),
        "least_rows": ExecutionParameter(type=int),
        "scarce": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "example_quarantine": ChannelParameter(type=Quarantine, optional=True),
    }
    OUTPUTS = {
        "routed_examples": ChannelParameter(type=standard_artifacts.Examples),
        "quarantine": ChannelParameter(type=Quarantine),
    }


class Router(base_beam_component.BaseBeamComponent):
    """Sends every example down the first route that takes it.

    Args:
        examples: Examples of serialized tf.train.Example, of any splits; of several artifacts, such
            as a rolling window of spans, all are read.
        routing: The routing table.
        example_quarantine: What MixedExampleGen set aside; counts towards the limit, and tells from
            which files the records came, so that what is set aside here is written as it came.
        quarantine_limit: Share of the records in [0, 1]; above it the component fails. What was
            set aside is kept then, beside the quarantine's own folder, and the error says where.
        reason_limits: Reason → share of the records in [0, 1] for it alone, such as
            {"no_route": 0.0}.
        labels: "required", or "absent" for what is only to be predicted: labels and weights are
            then not read.
        least_rows: How many examples every route needs in each split but "test"; 0 for no such
            check.
        scarce: Route, or "*" for all → what happens when it has fewer: "fail", the default, or
            "skip", which goes on and logs it. Who trains or evaluates can tell by the counts.

    Outputs: `routed_examples` with the splits that came. In each, a route has the files
    `<route>-?????-of-?????.gz`, and an example its `_route` and its declared fields in their
    declared types; its keys for our own bookkeeping are gone, and a `_route` that it came with is
    overwritten. The artifact's `span` is the last that came; of several the custom property
    `spans` lists all. And `quarantine`.

    Raises:
        RecipeError: An argument is wrong.
    """

    SPEC_CLASS = RouterSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        routing: RoutingTable,
        *,
        example_quarantine: types.BaseChannel | None = None,
        quarantine_limit: float = 1.0,
        reason_limits: Mapping[str, float] | None = None,
        labels: str = "required",
        least_rows: int = 0,
        scarce: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(routing, RoutingTable):
            reject("Router.routing", routing, "a RoutingTable")
        check_share("Router.quarantine_limit", quarantine_limit)
        of_reasons = read_reason_limits("Router.reason_limits", reason_limits or {})
        if labels not in LABELS:
            reject("Router.labels", labels, f"one of {', '.join(LABELS)}")
        check_int("Router.least_rows", least_rows, least=0)
        policies = read_scarce("Router.scarce", scarce or {}, routing.names)
        super().__init__(
            RouterSpec(
                examples=examples,
                example_quarantine=example_quarantine,
                routing=to_json(routing),
                quarantine_limit=float(quarantine_limit),
                reason_limits=json.dumps(of_reasons),
                labels=labels,
                least_rows=least_rows,
                scarce=json.dumps(policies, sort_keys=True),
                code_version=code_version(__file__),
                routed_examples=types.Channel(type=standard_artifacts.Examples),
                quarantine=types.Channel(type=Quarantine),
            )
        )
