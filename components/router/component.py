"""Router: the TFX shell around `route_examples`."""

import os
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
from branchline.components.router.route_batch import batch_router
from branchline.components.router.route_examples import route_examples
from branchline.schemas import BranchlineError, RoutingTable, from_json, split_name, to_json
from branchline.schemas.errors import check_share, reject


class Executor(base_beam_executor.BaseBeamExecutor):
    """Routes every split of an Examples artifact."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs `route_examples` in a Beam pipeline, and checks what came out."""
        self._log_startup(input_dict, output_dict, exec_properties)
        table = from_json(exec_properties["routing"])
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        routed = artifact_utils.get_single_instance(output_dict["routed_examples"])
        quarantine_uri = artifact_utils.get_single_uri(output_dict["quarantine"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        names = [split_name(split, route) for split in splits for route in table.names]
        routed.split_names = artifact_utils.encode_split_names(names)
        routed.span = examples.span
        examples_utils.set_payload_format(routed, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(routed, "tfrecords_gzip")
        patterns = {
            split: os.path.join(artifact_utils.get_split_uri([examples], split), "*")
            for split in splits
        }
        with self._make_beam_pipeline() as pipeline:
            route_examples(pipeline, table, patterns, routed.uri, quarantine_uri)
        batch_router.cache_clear()  # TensorFlow functions do not survive the interpreter's end
        counts = quarantine.read_counts(quarantine_uri)
        quarantine.log_counts("Router", counts)
        before = [
            quarantine.read_counts(artifact.uri)
            for artifact in input_dict.get("example_quarantine", [])
        ]
        quarantine.check_limit([*before, counts], exec_properties["quarantine_limit"])
        if exec_properties["every_route"]:
            _check_every_route(names, counts)


def _check_every_route(names: list[str], counts: dict[str, Any]) -> None:
    empty = [name for name in names if not counts["out"].get(name)]
    if empty:
        aside = ", ".join(f"{reason}: {n}" for reason, n in counts["quarantined"].items())
        raise BranchlineError(
            f"no record came to {', '.join(empty)}; every route needs some in each split. Check "
            f"the routes' conditions and their order, or add records (quarantined: {aside or 0})."
        )


class RouterSpec(ComponentSpec):
    """Examples in, examples with a split for every route out."""

    PARAMETERS = {
        "routing": ExecutionParameter(type=str),
        "quarantine_limit": ExecutionParameter(type=float),
        "every_route": ExecutionParameter(type=int),
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
        examples: Examples of serialized tf.train.Example, of any splits.
        routing: The routing table.
        example_quarantine: What the step before set aside; counts towards the limit.
        quarantine_limit: Share of the records in [0, 1]; above it the component fails.
        every_route: Fail if a route gets no example in some split.

    Outputs: `routed_examples` with splits `<split>-<route>`, each example tagged with its `_route`
    and its declared fields in their declared types; and `quarantine`.

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
        every_route: bool = False,
    ) -> None:
        if not isinstance(routing, RoutingTable):
            reject("Router.routing", routing, "a RoutingTable")
        check_share("Router.quarantine_limit", quarantine_limit)
        super().__init__(
            RouterSpec(
                examples=examples,
                example_quarantine=example_quarantine,
                routing=to_json(routing),
                quarantine_limit=float(quarantine_limit),
                every_route=int(every_route),
                code_version=code_version(__file__),
                routed_examples=types.Channel(type=standard_artifacts.Examples),
                quarantine=types.Channel(type=Quarantine),
            )
        )
