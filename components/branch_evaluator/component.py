"""BranchEvaluator as a TFX component: artifacts in, evaluation and blessing out."""

import functools
import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils, proto_utils

from branchline.components.artifacts import UNTRAINED
from branchline.components.baseline_finder.find_baseline import ABSENT, COPIED_FROM
from branchline.components.branch_evaluator.bless import bless
from branchline.components.branch_evaluator.evaluate_routes import evaluate_routes
from branchline.components.branch_evaluator.further_metrics import (
    check_eval_config,
    read_eval_config,
)
from branchline.components.branch_evaluator.metric_configs import metric_names
from branchline.components.branch_evaluator.read_thresholds import read_thresholds
from branchline.components.branch_evaluator.summary import (
    figures_alone,
    summarize,
    write_summary,
)
from branchline.components.code_version import code_version
from branchline.components.files.artifact_paths import to_remote
from branchline.schemas import Bound, RoutingTable, from_json, to_json
from branchline.schemas.errors import reject
from branchline.schemas.metrics import bound
from branchline.schemas.splits import EVAL, TEST

_progress = logging.getLogger("branchline.progress")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Predicts the rows of all routes once, and evaluates each route's.

    The split `test_split` is evaluated last, and only with a model that is blessed already.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes TFMA's results, a slice per route, `evaluation.json`, and the blessing.

        Raises:
            BranchlineError: A route has no rows in the split, or the model no output for it.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        routing = from_json(exec_properties["routing"])
        extra = from_json(exec_properties["metrics"])
        thresholds = read_thresholds(exec_properties["thresholds"], routing)
        model = artifact_utils.get_single_instance(input_dict["model"])
        baseline = _baseline(input_dict.get("baseline_model") or (), model)
        output_dir = artifact_utils.get_single_uri(output_dict["evaluation"])
        evaluate = functools.partial(
            evaluate_routes,
            self._make_beam_pipeline,
            routing,
            examples=input_dict["examples"],
            metrics={
                route.name: metric_names(route, thresholds.get(route.name), extra.get(route.name))
                for route in routing.routes
            },
            model_dir=_serving_dir(model),
            untrained=json.loads(model.get_string_custom_property(UNTRAINED) or "[]"),
            further=read_eval_config(exec_properties.get("eval_config")),
        )
        evaluations = evaluate(
            split=exec_properties["split"],
            baseline_dir=_serving_dir(baseline) if baseline else None,
            skip=from_json(exec_properties["skip"]),
            output_dir=output_dir,
        )
        summary = summarize(
            evaluations,
            thresholds,
            exec_properties["max_regression"],
            _place_of(baseline) if baseline else None,
        )
        test = exec_properties["test_split"]
        if summary["blessed"] and _further_split(test, exec_properties["split"], input_dict):
            found = evaluate(
                split=test, skip=routing.names, output_dir=os.path.join(output_dir, f"Split-{test}")
            )
            summary["test"] = figures_alone(found)
        write_summary(summary, os.path.join(output_dir, "evaluation.json"))
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        bless(blessing, model, baseline, summary["blessed"])
        component_id = exec_properties.get("current_component_id")
        if component_id:
            blessing.set_string_custom_property("component_id", component_id)
        for name, route in summary["routes"].items():
            _log(name, route)
        for name, route in summary["test"].items():
            _progress.info("%s, on %s: %s", name, test, _told(route))


class BranchEvaluatorSpec(ComponentSpec):
    """What goes into and comes out of BranchEvaluator."""

    PARAMETERS = {
        "routing": ExecutionParameter(type=str),
        "thresholds": ExecutionParameter(type=str),
        "metrics": ExecutionParameter(type=str),
        "max_regression": ExecutionParameter(type=float),
        "split": ExecutionParameter(type=str),
        "skip": ExecutionParameter(type=str),
        "test_split": ExecutionParameter(type=str),
        "eval_config": ExecutionParameter(type=str, optional=True),
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

    Outputs `evaluation` (`evaluation.json`, and TFMA's results as `tfma.load_eval_result` opens
    them at the artifact's URI: a slice by `_route` for each route, an `output_name` for each target
    of a route with `targets=`) and `blessing` (as TFX's Pusher and LatestBlessedModelStrategy read
    it). A model that sends a row down another route than the row's own is not blessed: it has no
    finite prediction for it.

    Args:
        examples: Examples that hold their route's name in `_route` and its labels in the columns
            that the table gives them, names where a target has `classes`; one artifact or several.
        model: A SavedModel whose signature `serving_default` takes serialized tf.train.Examples of
            any mix of routes and has an output `<route>` for each: a probability [batch], class
            probabilities [batch, num_classes] or a value [batch]. Of a route with `targets=`:
            `<route>/<key>` for each, rows [*shape] or [*shape, num_classes]. Instead of such an
            output a signature `<route>` will do, which is given that route's rows alone. Further
            outputs, such as the names of classes, are passed over. Routes
            that its custom property `untrained` lists are not judged, and have a note.
        routing: The routing table.
        thresholds: Route → metric → a number, the worst that passes, or a `Bound`; the metric of a
            target is `<key>/<metric>`. A parameter of the pipeline holds them as JSON, such as
            `{"reviews": {"auc": 0.9}}`.
        metrics: Route → further TFMA or Keras metrics to report.
        max_regression: By how much, as a share of the baseline's value, a metric with a threshold
            may be worse than the baseline's.
        baseline_model: The model to compare with, from a Resolver; may resolve to none. A route
            that it lacks is not compared.
        split: The split of the examples that is evaluated.
        skip: Routes that may have no rows there: such a one is then not judged, and has a note.
        test_split: The split that is evaluated last, where the examples have it and the model is
            blessed, for its figures alone: in `evaluation.json` under "test", and TFMA's results in
            the artifact's folder `Split-<test_split>`. It bears on no blessing, and its routes may
            have no rows. "" for none.
        eval_config: Further metrics and plots, of all labels that they suit, and further slices
            within each route, by columns of the routing table, all to be seen in TFMA's results;
            its `model_specs` are not read, and thresholds are given by `thresholds`.

    Raises:
        RecipeError: A threshold is no number, or its metric's name does not say which side is bad;
            a route to skip is none; or `eval_config` asks for what cannot be.
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
        split: str = EVAL,
        skip: Iterable[str] = (),
        test_split: str = TEST,
        eval_config: config_pb2.EvalConfig | None = None,
    ) -> None:
        if eval_config is not None:
            check_eval_config(eval_config, routing)
        skip = tuple(skip)
        for name in skip:
            if name not in routing.names:
                reject("BranchEvaluator.skip", name, f"routes among {', '.join(routing.names)}")
        names = {route: tuple(asked) for route, asked in (metrics or {}).items()}
        spec = BranchEvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            routing=to_json(routing),
            thresholds=_as_parameter(thresholds),
            metrics=to_json(names),
            max_regression=float(max_regression),
            split=split,
            skip=to_json(skip),
            test_split=test_split,
            eval_config=proto_utils.proto_to_json(eval_config) if eval_config else None,
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


def _further_split(split: str, evaluated: str, input_dict: Mapping[str, list[Artifact]]) -> bool:
    """Whether the examples have a further split of this name."""
    having = (artifact_utils.decode_split_names(e.split_names) for e in input_dict["examples"])
    return split != evaluated and any(split in splits for splits in having)


def _place_of(baseline: Artifact) -> str:
    """Where a person finds the baseline."""
    return to_remote(baseline.get_string_custom_property(COPIED_FROM) or baseline.uri)


def _log(name: str, route: Mapping[str, Any]) -> None:
    missed = [check["metric"] for check in route["checks"] if not check["holds"]]
    _progress.info(
        f"{name}: {_told(route)}"
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


def _told(route: Mapping[str, Any]) -> str:
    figures = (
        f"{metric} {'–' if value is None else format(value, '.4g')}"
        for metric, value in route["metrics"].items()
    )
    return ", ".join([f"{route['examples']} examples", *figures])
