"""BranchTrainer: the TFX shell around `train` and `export`."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from branchline.components.branch_trainer import default_model
from branchline.components.branch_trainer.export import ServedModel
from branchline.components.branch_trainer.inputs import describe_inputs
from branchline.components.branch_trainer.train import survey_labels, train
from branchline.components.code_version import code_version
from branchline.components.user_code import import_file
from branchline.components.user_code import recipe_hash as hash_of
from branchline.schemas import BranchlineError, Recipe, from_json, split_name, to_json
from branchline.schemas.errors import check_int, reject


class Executor(base_executor.BaseExecutor):
    """Trains a recipe's model and exports it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the transformed examples, builds, trains, exports, and writes what was done."""
        self._log_startup(input_dict, output_dict, exec_properties)
        recipe = from_json(exec_properties["recipe"])
        recipe_file = exec_properties["recipe_file"]
        module = import_file(recipe_file) if recipe_file else None
        if module is not None:
            recipe = with_functions(recipe, module)
        if exec_properties.get("steps") is not None:
            recipe = with_steps(recipe, exec_properties["steps"])
        examples = artifact_utils.get_single_instance(input_dict["transformed_examples"])
        transform = tft.TFTransformOutput(
            artifact_utils.get_single_uri(input_dict["transform_graph"])
        )
        model_run = artifact_utils.get_single_uri(output_dict["model_run"])
        files = {name: _train_files(examples, name) for name in recipe.routing.names}
        labels = {name: survey_labels(files[name], recipe.routing[name]) for name in files}
        inputs = describe_inputs(recipe, transform, hasattr(module, "preprocessing_fn"))
        build_model = getattr(module, "build_model", default_model.build_model)
        options: dict[str, Any] = {
            "configure_trainer": getattr(module, "configure_trainer", None),
            "tensorboard_dir": model_run,
        }
        if exec_properties["checkpoint_dir"]:
            # TFX removes a failed component's outputs, so checkpoints live in a place of their own.
            options["checkpoint_dir"] = _checkpoint_dir(exec_properties, examples.uri)
            options["resume"] = True
        model, summary = train(recipe, build_model, files, inputs, labels, **options)
        served = ServedModel(
            recipe.routing,
            model,
            inputs,
            {name: each.scales for name, each in labels.items()},
            transform,
        )
        model_uri = artifact_utils.get_single_uri(output_dict["model"])
        served.save(path_utils.serving_model_dir(model_uri))
        Path(model_run, "history.json").write_text(json.dumps(summary))


def with_functions(recipe: Recipe, module: Any) -> Recipe:
    """Gives a recipe read from JSON the schedule of its file, if that is a function."""
    schedule = module.recipe.training.schedule
    if not callable(schedule):
        return recipe
    training = dataclasses.replace(recipe.training, schedule=schedule)
    return dataclasses.replace(recipe, training=training)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Gives a recipe as many steps as the pipeline's parameter says.

    Raises:
        RecipeError: It is no number of steps.
    """
    check_int("the pipeline parameter steps", steps)
    training = dataclasses.replace(recipe.training, steps=steps)
    return dataclasses.replace(recipe, training=training)


def _train_files(examples: types.Artifact, route: str) -> list[str]:
    split = split_name("train", route)
    if split not in artifact_utils.decode_split_names(examples.split_names):
        raise BranchlineError(
            f"the examples have the splits {examples.split_names}, expected {split} for the route"
        )
    return tf.io.gfile.glob(os.path.join(artifact_utils.get_split_uri([examples], split), "*"))


def _checkpoint_dir(exec_properties: dict[str, Any], examples_uri: str) -> str:
    parts = [exec_properties[key] for key in ("recipe", "recipe_hash", "code_version")]
    parts.append(str(exec_properties.get("steps")))
    name = hashlib.sha256("\0".join([*parts, examples_uri]).encode()).hexdigest()[:16]
    return os.path.join(exec_properties["checkpoint_dir"], name)


class BranchTrainerSpec(ComponentSpec):
    """Transformed examples in, a model out."""

    PARAMETERS = {
        "recipe": ExecutionParameter(type=str),
        "recipe_file": ExecutionParameter(type=str),
        "recipe_hash": ExecutionParameter(type=str),
        "checkpoint_dir": ExecutionParameter(type=str),
        "steps": ExecutionParameter(type=int, optional=True),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "transformed_examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }


class BranchTrainer(base_component.BaseComponent):
    """Trains one model with a branch for every route, branch by branch.

    Args:
        transformed_examples: Transform's examples, with a split `train-<route>` for every route.
        transform_graph: Transform's graph.
        recipe: Its routes and training; the rest plays no part.
        recipe_file: The file the recipe was read from, if it has a `build_model`, a
            `configure_trainer`, a `preprocessing_fn` or a schedule of its own, as `recipe_path`
            takes it; "" otherwise.
        recipe_hash: Of that file, where it is not on this machine; None computes it.
        checkpoint_dir: Where training keeps what it needs to go on after it was cut off; "" for
            nowhere.
        steps: Instead of the recipe's; a parameter of the pipeline may give them.

    Outputs: `model`, a SavedModel that takes raw examples and routes by itself (signatures
    `serving_default` and one for every route), and `model_run`, with `history.json` and TensorBoard
    files, a run per route.

    Raises:
        RecipeError: An argument is wrong.
    """

    SPEC_CLASS = BranchTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        transformed_examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        recipe: Recipe,
        *,
        recipe_file: str = "",
        recipe_hash: str | None = None,
        checkpoint_dir: str = "",
        steps: int | RuntimeParameter | None = None,
    ) -> None:
        if not isinstance(recipe, Recipe):
            reject("BranchTrainer.recipe", recipe, "a Recipe")
        if isinstance(steps, RuntimeParameter):
            if steps.ptype is not int:
                reject("BranchTrainer.steps", steps.ptype, "a parameter of type int")
        elif steps is not None:
            check_int("BranchTrainer.steps", steps)
        super().__init__(
            BranchTrainerSpec(
                transformed_examples=transformed_examples,
                transform_graph=transform_graph,
                recipe=to_json(_training_part(recipe)),
                recipe_file=recipe_file,
                recipe_hash=hash_of(recipe_file) if recipe_hash is None else recipe_hash,
                steps=steps,
                checkpoint_dir=checkpoint_dir,
                code_version=code_version(__file__),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )


def _training_part(recipe: Recipe) -> Recipe:
    """Drops what plays no part in training, so that changing it does not train again."""
    return Recipe(name=recipe.name, routing=recipe.routing, training=recipe.training)
