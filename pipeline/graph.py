"""Wires the components into one pipeline."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tfx.components import Pusher, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.orchestration import metadata
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2
from tfx.types import Channel, standard_artifacts

from branchline.components import (
    BaselineFinder,
    BranchEvaluator,
    BranchTrainer,
    DataFingerprint,
    MixedExampleGen,
    Router,
    RouteStatistics,
    RouteValidator,
    RunReport,
)
from branchline.components.baseline_finder.earlier_blessed import EarlierBlessedModel
from branchline.components.baseline_finder.earlier_statistics import EarlierStatistics
from branchline.components.branch_evaluator.metric_configs import check_metrics
from branchline.components.branch_evaluator.read_thresholds import plain_thresholds
from branchline.components.mixed_example_gen.find_spans import range_of_spans
from branchline.components.transform.preprocessing import route_preprocessing
from branchline.components.user_code import recipe_hash
from branchline.pipeline.find_encoders import find_encoders
from branchline.pipeline.schema_file import write_schema
from branchline.schemas import Recipe
from branchline.schemas.scarce import may_be_scarce
from branchline.schemas.splits import TEST

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Cluster:
    """What is other than on one machine where every step runs in a container of its own.

    Args:
        backend: "kfp", open-source Kubeflow Pipelines, whose compiler knows no Resolver, or
            "vertex".
        pipeline_name: The pipeline's name there.
        pipeline_root: Where its artifacts lie.
        serving_dir: Gets the models that are pushed.
        checkpoint_dir: A folder that outlives the training step; "" where there is none.
        schema_file: Where ImportSchemaGen finds the schema.
        recipe_file: Where the image has the recipe's file; `recipe:NAME` for a built-in recipe.
        data: What the pipeline parameter `data` is unless a run says otherwise; None if every run
            has to.
    """

    backend: str
    pipeline_name: str
    pipeline_root: str
    serving_dir: str
    checkpoint_dir: str
    schema_file: str
    recipe_file: str
    data: str | None


def create_pipeline(
    recipe: Recipe,
    *,
    recipe_file: Path,
    recipe_module: ModuleType,
    data_paths: Sequence[str] = (),
    output_dir: Path | None = None,
    cluster: Cluster | None = None,
    enable_cache: bool = True,
    beam_pipeline_args: Sequence[str] = (),
) -> Pipeline:
    """Builds the pipeline of a recipe, to be run on this machine or on a cluster.

    Args:
        recipe: All that makes the project.
        recipe_file: Where it was read from; paths in the recipe are relative to it.
        recipe_module: The imported file, which may have `build_model`, `configure_trainer` and
            `preprocessing_fn`.
        data_paths: Files and directories of records; on a cluster, `cluster.data` says it.
        output_dir: Gets `pipeline/`, `metadata.sqlite`, `checkpoints/` and `serving/`; not for a
            cluster.
        cluster: Where it is to run, if not on this machine.
        enable_cache: Whether a component whose inputs, settings and code are as in an earlier run
            is skipped.
        beam_pipeline_args: Passed to every Beam pipeline.

    Raises:
        RecipeError: A metric does not exist, or the schema cannot be read.
    """
    recipe.routing.check_reachable()
    check_metrics(recipe.routing, recipe.thresholds, recipe.metrics)
    if cluster is not None:
        return Pipeline(
            pipeline_name=cluster.pipeline_name,
            pipeline_root=cluster.pipeline_root,
            components=create_components(
                recipe,
                recipe_file=recipe_file,
                recipe_module=recipe_module,
                data_paths=data_paths,
                serving_dir=cluster.serving_dir,
                checkpoint_dir=cluster.checkpoint_dir,
                schema_file=cluster.schema_file,
                cluster=cluster,
            ),
            enable_cache=enable_cache,
            beam_pipeline_args=list(beam_pipeline_args),
        )
    assert output_dir is not None
    output_dir = output_dir.absolute()
    components = create_components(
        recipe,
        recipe_file=recipe_file,
        recipe_module=recipe_module,
        data_paths=data_paths,
        serving_dir=str(output_dir / "serving" / recipe.name),
        checkpoint_dir=str(output_dir / CHECKPOINTS),
        schema_file=write_schema(recipe, recipe_file, output_dir / "schemas"),
    )
    return Pipeline(
        pipeline_name=recipe.name,
        pipeline_root=str(output_dir / "pipeline"),
        components=components,
        enable_cache=enable_cache,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(output_dir / "metadata.sqlite")
        ),
        beam_pipeline_args=list(beam_pipeline_args),
    )


def create_components(
    recipe: Recipe,
    *,
    recipe_file: Path,
    recipe_module: ModuleType,
    data_paths: Sequence[str],
    serving_dir: str,
    checkpoint_dir: str,
    schema_file: str,
    cluster: Cluster | None = None,
) -> list[BaseComponent | Resolver]:
    """Builds the components of a recipe's pipeline, wherever it is to run.

    On a cluster the pipeline has parameters, to be set for every run: `data` (a path or a JSON list
    of paths, "" for the records that the recipe's own function writes), `steps` and `thresholds`
    (JSON). What MixedExampleGen's driver does on one machine, DataFingerprint does there.
    """
    own_preprocessing = hasattr(recipe_module, "preprocessing_fn")
    file_in_steps = cluster.recipe_file if cluster else str(recipe_file.resolve())
    recipe, encoders = find_encoders(recipe, recipe_file, file_in_steps if cluster else None)
    routing = recipe.routing
    of_file: dict[str, Any] = {
        "recipe_file": file_in_steps,
        "recipe_hash": recipe_hash(recipe_file),
    }
    no_file: dict[str, Any] = {"recipe_file": "", "recipe_hash": ""}

    input_base, steps, thresholds, fingerprint = data_paths, None, recipe.thresholds, None
    spans = range_of_spans(recipe.spans)
    if cluster:
        input_base = RuntimeParameter("data", str, cluster.data)
        steps = RuntimeParameter("steps", int, recipe.training.steps)
        thresholds = RuntimeParameter("thresholds", str, plain_thresholds(recipe.thresholds))
        own = {"recipe_file": file_in_steps, "data_inputs": recipe.data_inputs}
        own = own if callable(recipe.data) else {}
        fingerprint = DataFingerprint(input_base, range_config=spans, **own)
    example_gen = MixedExampleGen(
        input_base,
        range_config=spans,
        input_fingerprint=fingerprint and fingerprint.outputs["fingerprint"].future()[0].value,
        **(of_file if cluster and callable(recipe.data) else no_file),
        splits=recipe.splits,
        split_key=recipe.split_key,
        routing=routing,
        missing_cells=recipe.missing_cells,
        quarantine_limit=recipe.quarantine_limit,
        reason_limits=recipe.reason_limits,
    )
    router = Router(
        example_gen.outputs["examples"],
        routing,
        example_quarantine=example_gen.outputs["quarantine"],
        quarantine_limit=recipe.quarantine_limit,
        reason_limits=recipe.reason_limits,
        least_rows=recipe.least_rows,
        scarce=recipe.scarce,
    )
    routed = router.outputs["routed_examples"]
    statistics = RouteStatistics(routed, routing, exclude_splits=[TEST])
    schema_gen = ImportSchemaGen(schema_file=schema_file)
    schema = schema_gen.outputs["schema"]
    earlier = finder = previous = None
    if cluster and cluster.backend == "kfp":  # whose compiler knows no Resolver
        finder = BaselineFinder(cluster.pipeline_name, statistics.outputs["statistics"])
        finder = finder.with_id("Baseline")
        previous = finder.outputs["previous_statistics"]
    elif not cluster and recipe.validation.drift is not None:  # Vertex knows no strategy of ours
        earlier = Resolver(
            strategy_class=EarlierStatistics,
            statistics=statistics.outputs["statistics"],
            previous_statistics=Channel(type=standard_artifacts.ExampleStatistics),
            model=Channel(type=standard_artifacts.Model),
            model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        ).with_id("EarlierStatistics")
        previous = earlier.outputs["previous_statistics"]
    validator = RouteValidator(
        statistics.outputs["statistics"],
        schema,
        routing,
        previous_statistics=previous if recipe.validation.drift is not None else None,
        validation=recipe.validation,
    )
    transform = Transform(
        examples=routed,
        schema=schema,
        **route_preprocessing(
            routing,
            **(of_file if own_preprocessing else no_file),
            materialize=recipe.materialize,
        ),
        disable_statistics=True,  # RouteStatistics has them
        disable_analyzer_cache=True,
        # A third of the time where routes have columns of their own; Keras layers need the other.
        force_tf_compat_v1=not own_preprocessing,
    )
    trainer = BranchTrainer(
        routed,
        transform.outputs["transform_graph"],
        recipe,
        **(of_file if encoders or needs_file(recipe, recipe_module) else no_file),
        encoders=encoders,
        steps=steps,
        checkpoint_dir=checkpoint_dir,
    )
    if recipe.validation.block:
        trainer.add_upstream_node(validator)
    model = trainer.outputs["model"]
    if finder:
        baseline = finder
    elif cluster:  # whose compiler knows no strategy but TFX's own
        baseline = Resolver(
            strategy_class=LatestBlessedModelStrategy,
            model=Channel(type=standard_artifacts.Model),
            model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        ).with_id("Baseline")
    else:
        baseline = Resolver(
            strategy_class=EarlierBlessedModel,
            candidate=model,
            model=Channel(type=standard_artifacts.Model),
            model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        ).with_id("Baseline")
    evaluator = BranchEvaluator(
        examples=routed,
        model=model,
        routing=routing,
        thresholds=thresholds,
        metrics=recipe.metrics,
        max_regression=recipe.max_regression,
        baseline_model=baseline.outputs["model"],
        skip=[name for name in routing.names if may_be_scarce(recipe.scarce, name)],
    )
    pusher = Pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_dir)
        ),
    )
    report = RunReport(
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        example_quarantine=example_gen.outputs["quarantine"],
        router_quarantine=router.outputs["quarantine"],
        anomalies=validator.outputs["anomalies"],
        model_run=trainer.outputs["model_run"],
        recipe=dataclasses.replace(recipe, resources={}),  # no part of what a run came to
    )
    return [
        *([fingerprint] if fingerprint else []),
        example_gen,
        router,
        statistics,
        schema_gen,
        *([earlier] if earlier else []),
        validator,
        transform,
        trainer,
        baseline,
        evaluator,
        pusher,
        report,
    ]


def needs_file(recipe: Recipe, module: ModuleType) -> bool:
    """Whether training calls functions of the recipe file."""
    own = ("preprocessing_fn", "build_model", "configure_trainer")
    return any(hasattr(module, name) for name in own) or callable(recipe.training.schedule)
