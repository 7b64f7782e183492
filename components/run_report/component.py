"""The TFX component that writes the report of a run."""

import json
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from branchline.components.artifacts import Quarantine, Report
from branchline.components.code_version import code_version
from branchline.components.run_report.gather_report import Sources, gather_report
from branchline.components.run_report.write_report import write_report
from branchline.schemas import Recipe, to_json


class RunReportExecutor(base_executor.BaseExecutor):
    """Takes artifacts apart and leaves the rest to plain functions."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the report."""
        self._log_startup(input_dict, output_dict, exec_properties)
        uris = {name: artifacts[0].uri for name, artifacts in input_dict.items() if artifacts}
        recipe = json.loads(exec_properties["recipe"]) if exec_properties.get("recipe") else None
        report = gather_report(Sources(**uris), recipe)
        write_report(report, artifact_utils.get_single_uri(output_dict["report"]))


class RunReportSpec(ComponentSpec):
    """What the component takes and makes."""

    INPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "example_quarantine": ChannelParameter(type=Quarantine, optional=True),
        "router_quarantine": ChannelParameter(type=Quarantine, optional=True),
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies, optional=True),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
    }
    OUTPUTS = {"report": ChannelParameter(type=Report)}
    PARAMETERS = {
        "recipe": ExecutionParameter(type=str, optional=True),
        "code_version": ExecutionParameter(type=str),
    }


class RunReport(base_component.BaseComponent):
    """Writes one self-contained page about a run, and its metrics as JSON.

    Outputs `report`, of type `branchline.components.artifacts.Report`.

    Args:
        evaluation: Of the BranchEvaluator, or of TFX's Evaluator, sliced by `_route`.
        blessing: Of either.
        example_quarantine: Of the MixedExampleGen.
        router_quarantine: Of the Router.
        anomalies: Of the RouteValidator.
        model_run: Of the BranchTrainer.
        recipe: What was run; names the page and describes the routes.

    Any may be left out; the page says what it was not given.
    """

    SPEC_CLASS = RunReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RunReportExecutor)

    def __init__(
        self,
        evaluation: BaseChannel | None = None,
        blessing: BaseChannel | None = None,
        example_quarantine: BaseChannel | None = None,
        router_quarantine: BaseChannel | None = None,
        anomalies: BaseChannel | None = None,
        model_run: BaseChannel | None = None,
        recipe: Recipe | None = None,
    ):
        super().__init__(
            RunReportSpec(
                evaluation=evaluation,
                blessing=blessing,
                example_quarantine=example_quarantine,
                router_quarantine=router_quarantine,
                anomalies=anomalies,
                model_run=model_run,
                recipe=to_json(recipe) if recipe else None,
                code_version=code_version(__file__),
                report=Channel(type=Report),
            )
        )
