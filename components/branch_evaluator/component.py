"""BranchEvaluator as a TFX component: artifacts in, evaluation and blessing out."""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import io_utils, path_utils

from branchline.components.baseline_finder.find_baseline import ABSENT, COPIED_FROM
from branchline.components.branch_evaluator.evaluate_routes import evaluate_routes
from branchline.components.branch_evaluator.metric_configs import metric_names
from branchline.components.branch_evaluator.read_thresholds import read_thresholds
from branchline.components.branch_evaluator.summary import summarize, write_summary
from branchline.components.code_version import code_version
from branchline.components.files.artifact_paths import to_remote
from branchline.schemas import Bound, RoutingTable, from_json, split_name, to_json
from branchline.schemas.errors import reject
from branchline.schemas.metrics import bound

_progress = logging.getLogger("branchline.progress")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates each route's rows with the signature of its name."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes TFMA's results by route, `evaluation.json`, and the blessing.

        Raises:
            BranchlineError: A route has no eval rows, or the model no signature for it.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        routing = from_json(exec_properties["routing"])
        extra = from_json(exec_properties["metrics"])
        thresholds = read_thresholds(exec_properties["thresholds"], routing)
        model = artifact_utils.get_single_instance(input_dict["model"])
        baseline = _baseline(input_dict.get("baseline_model") or (), model)
        output_dir = artifact_utils.get_single_uri(output_dict["evaluation"])
        evaluations = evaluate_routes(
            self._make_beam_pipeline,
            routing,
            files={name: _files(input_dict["examples"], name) for name in routing.names},
            metrics={
                route.name: metric_names(route, thresholds.get(route.name), extra.get(route.name))
                for route in routing.routes
            },
            model_dir=_serving_dir(model),
            baseline_dir=_serving_dir(baseline) if baseline else None,
            output_dir=output_dir,
        )
        summary = summarize(
            evaluations,
            thresholds,
            exec_properties["max_regression"],
            _place_of(baseline) if baseline else None,
        )
        write_summary(summary, os.path.join(output_dir, "evaluation.json"))
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        _bless(blessing, model, baseline, summary["blessed"])
        component_id = exec_properties.get("current_component_id")
        if component_id:
            blessing.set_string_custom_property("component_id", component_id)
        for name, route in summary["routes"].items():
            _log(name, route)


class BranchEvaluatorSpec(ComponentSpec):
    """What goes into and comes out of BranchEvaluator."""

    PARAMETERS = {
        "routing": ExecutionParameter(type=str),
        "thresholds": ExecutionParameter(type=str),
        "metrics": ExecutionParameter(type=str),
        "max_regression": ExecutionParameter(type=float),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class BranchEvaluator(base_beam_component.BaseBeamComponent):
    """Evaluates every branch of a model on its route's rows, and blesses the model if all pass.

    Outputs `evaluation` (TFMA's results in a folder per route, of a target in a folder there by its
    position, and `evaluation.json`) and `blessing` (as TFX's Pusher and LatestBlessedModelStrategy
    read it).

    Args:
        examples: Examples with a split `eval-<route>` per route.
        model: A SavedModel with a signature per route, from serialized tf.train.Examples to
            predictions: a probability [batch], class probabilities [batch, num_classes] or a
            value [batch]. Of a route with `targets=`: an output `<route>/<key>` for each, rows
            [*shape] or [*shape, num_classes].
        routing: The routing table.
        thresholds: Route → metric → a number, the worst that passes, or a `Bound`; the metric of a
            target is `<key>/<metric>`. A parameter of the pipeline holds them as JSON, such as
            `{"reviews": {"auc": 0.9}}`.
        metrics: Route → further TFMA or Keras metrics to report.
        max_regression: By how much, as a share of the baseline's value, a metric with a threshold
            may be worse than the baseline's.
        baseline_model: The model to compare with, from a Resolver; may resolve to none.

    Raises:
        RecipeError: A threshold is no number, or its metric's name does not say which side is bad.
    """

    SPEC_CLASS = BranchEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: BaseChannel,
        model: BaseChannel,
        routing: RoutingTable,
        thresholds: Mapping[str, Mapping[str, float | Bound]] | RuntimeParameter | None = None,
        metrics: Mapping[str, Iterable[str]] | None = None,
        max_regression: float = 0.05,
        baseline_model: BaseChannel | None = None,
    ) -> None:
        names = {route: tuple(asked) for route, asked in (metrics or {}).items()}
        spec = BranchEvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            routing=to_json(routing),
            thresholds=_as_parameter(thresholds),
            metrics=to_json(names),
            max_regression=float(max_regression),
            code_version=code_version(__file__),
            evaluation=Channel(type=standard_artifacts.ModelEvaluation),
            blessing=Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)


def _as_parameter(
    thresholds: Mapping[str, Mapping[str, float | Bound]] | RuntimeParameter | None,
) -> str | RuntimeParameter:
    if isinstance(thresholds, RuntimeParameter):
        if thresholds.ptype not in (str, None):
            reject("BranchEvaluator.thresholds", thresholds.ptype, "a parameter of type str")
        return thresholds
    return to_json(
        {
            route: {m: bound(f"thresholds[{route!r}][{m!r}]", m, v) for m, v in by_metric.items()}
            for route, by_metric in (thresholds or {}).items()
        }
    )


def _files(examples: list[Artifact], route: str) -> list[str]:
    """Lists the files of the route's eval split; none when an artifact lacks it."""
    split = split_name("eval", route)
    having = [e for e in examples if split in artifact_utils.decode_split_names(e.split_names)]
    uris = artifact_utils.get_split_uris(having, split) if having else []
    return [str(path) for uri in uris for path in sorted(tf.io.gfile.glob(f"{uri}/*"))]


def _serving_dir(model: Artifact) -> str:
    return path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))


def _baseline(found: Iterable[Artifact], model: Artifact) -> Artifact | None:
    """The model to compare with; none where BaselineFinder says so by an empty artifact."""
    baseline = next(iter(found), None)
    if baseline is None or baseline.get_int_custom_property(ABSENT):
        return None
    if model.uri in (baseline.uri, baseline.get_string_custom_property(COPIED_FROM)):
        return None  # nothing was trained since the last blessing
    return baseline


def _place_of(baseline: Artifact) -> str:
    """Where a person finds the baseline."""
    return to_remote(baseline.get_string_custom_property(COPIED_FROM) or baseline.uri)


def _bless(blessing: Artifact, model: Artifact, baseline: Artifact | None, blessed: bool) -> None:
    """Marks the blessing as TFX's own Evaluator does."""
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


def _log(name: str, route: Mapping[str, Any]) -> None:
    missed = [check["metric"] for check in route["checks"] if not check["holds"]]
    figures = ", ".join(
        f"{metric} {'–' if value is None else format(value, '.4g')}"
        for metric, value in route["metrics"].items()
    )
    _progress.info(
        f"{name}: {route['examples']} examples, {figures}"
        + (f"; misses {', '.join(dict.fromkeys(missed))}" if missed else ""),
        extra={
            "progress": {
                "component": "BranchEvaluator",
                "route": name,
                "examples": route["examples"],
                "metrics": route["metrics"],
            }
        },
    )
