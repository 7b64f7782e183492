"""BranchTrainer: the TFX shell around `train` and `export`."""

import gc
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow_transform as tft
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils

from branchline.components.artifacts import UNTRAINED
from branchline.components.branch_trainer.model.branched_model import BranchedModel
from branchline.components.branch_trainer.recipe import default_model
from branchline.components.branch_trainer.recipe.encoder_files import encoder_hashes
from branchline.components.branch_trainer.recipe.export import ServedModel
from branchline.components.branch_trainer.recipe.learn_names import learn_names
from branchline.components.branch_trainer.recipe.overrides import (
    read_hyperparameters,
    training_part,
    with_functions,
    with_steps,
    with_training,
)
from branchline.components.branch_trainer.recipe.packed_weights import start_from
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.recipe.training_rows import read_all
from branchline.components.branch_trainer.recipe.unknown_words import tell_unknown
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.components.branch_trainer.streams.read_rows import RowReader
from branchline.components.code_version import code_version
from branchline.components.files.storage import write_bytes
from branchline.components.transform.groups import is_default
from branchline.components.user_code import import_file
from branchline.components.user_code import recipe_hash as hash_of
from branchline.schemas import Recipe, RoutingTable, from_json, to_json
from branchline.schemas.errors import check_int, reject
from branchline.schemas.splits import TRAIN

_progress = logging.getLogger("branchline.progress")


class Executor(base_executor.BaseExecutor):
    """Trains a recipe's model and exports it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the routed examples, builds, trains, exports, and writes what was done."""
        self._log_startup(input_dict, output_dict, exec_properties)
        recipe_file = exec_properties["recipe_file"]
        module = import_file(recipe_file) if recipe_file else None
        recipe = _recipe(input_dict, exec_properties, module)
        uris = [artifact.uri for artifact in input_dict["examples"]]
        recipe = learn_names(recipe, uris, exec_properties["train_split"])
        transform_uri = artifact_utils.get_single_uri(input_dict["transform_graph"])
        transform = tft.TFTransformOutput(transform_uri)
        own_preprocessing = not is_default(transform.transformed_feature_spec(), recipe.routing)
        inputs = describe_inputs(recipe, transform, own_preprocessing)
        with tempfile.TemporaryDirectory(prefix="branchline-rows-") as cache_dir:
            reader = RowReader(recipe.routing, inputs, transform)
            rows = read_all(reader, recipe, uris, exec_properties["train_split"])
            of_words = tell_unknown(reader, recipe.routing, uris, exec_properties["train_split"])
            scales = {name: scales_of(each, recipe.routing[name]) for name, each in rows.items()}
            model_run = artifact_utils.get_single_uri(output_dict["model_run"])
            options: dict[str, Any] = {
                "cache_dir": cache_dir,
                "configure_trainer": getattr(module, "configure_trainer", None),
                "start_from": _start_from(input_dict.get("base_model")),
                "tensorboard_dir": model_run,
            }
            if exec_properties["checkpoint_dir"]:
                # TFX removes a failed component's outputs, so checkpoints have their own place.
                options["checkpoint_dir"] = _checkpoint_dir(exec_properties, recipe, uris)
                options["resume"] = True
            build_model = getattr(module, "build_model", default_model.build_model)
            model, summary = train(recipe, build_model, rows, inputs, scales, **options)
            summary |= of_words
        del rows, reader, options  # and with them the graphs of the training, before those to serve
        gc.collect()
        served = ServedModel(recipe.routing, model, inputs, scales, transform)
        model_artifact = artifact_utils.get_single_instance(output_dict["model"])
        served.save(path_utils.serving_model_dir(model_artifact.uri))
        untrained = [name for name in recipe.routing.names if name not in scales]
        if untrained:
            model_artifact.set_string_custom_property(UNTRAINED, json.dumps(untrained))
        write_bytes(os.path.join(model_run, "history.json"), json.dumps(summary).encode())


def _recipe(
    input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any], module: Any
) -> Recipe:
    """The recipe with what its file, the pipeline and a tuner say over it."""
    recipe = from_json(exec_properties["recipe"])
    if module is not None and hasattr(module, "recipe"):
        recipe = with_functions(recipe, module)
    for artifact in input_dict.get("hyperparameters") or ():
        recipe = with_training(recipe, read_hyperparameters(artifact.uri))
    if exec_properties.get("steps") is not None:
        recipe = with_steps(recipe, exec_properties["steps"])
    return recipe


def _start_from(base_models: list[types.Artifact] | None) -> Callable[[BranchedModel], None]:
    """Gives a built model the weights of an earlier one, where they have the same places."""
    if not base_models:
        return lambda model: None
    base = base_models[0]
    serving = path_utils.serving_model_path(base.uri, path_utils.is_old_model_artifact(base))

    def restore(model: BranchedModel) -> None:
        start_from(model, serving)
        _progress.info("training starts from the weights of %s", serving)

    return restore


def _checkpoint_dir(exec_properties: dict[str, Any], recipe: Recipe, uris: list[str]) -> str:
    parts = [exec_properties[key] for key in ("recipe_hash", "code_version", "train_split")]
    encoders = exec_properties.get("encoders") or ""
    text = "\0".join([*parts, to_json(recipe), encoders, *uris])
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return os.path.join(exec_properties["checkpoint_dir"], name)


class BranchTrainerSpec(ComponentSpec):
    """Routed examples and a transform graph in, a model out."""

    PARAMETERS = {
        "recipe": ExecutionParameter(type=str),
        "recipe_file": ExecutionParameter(type=str),
        "recipe_hash": ExecutionParameter(type=str),
        "encoders": ExecutionParameter(type=str, optional=True),
        "checkpoint_dir": ExecutionParameter(type=str),
        "steps": ExecutionParameter(type=int, optional=True),
        "train_split": ExecutionParameter(type=str),
        "code_version": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "hyperparameters": ChannelParameter(type=standard_artifacts.HyperParameters, optional=True),
        "base_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }


class BranchTrainer(base_component.BaseComponent):
    """Trains one model with a branch for every route, branch by branch.

    Args:
        examples: Routed examples, as Router writes them.
        transform_graph: Of a Transform of the routed examples: by branchline's own
            `preprocessing_fn`, or by any other. Of another, a route's branch gets the outputs that
            are named `<route>/…`, and where there are none those named like its features.
        recipe: A recipe, of which routes and training play a part, or a routing table alone.
        recipe_file: The file that has a `build_model`, a `configure_trainer` or a schedule of its
            own, as `recipe_path` takes it; "" for none.
        recipe_hash: Of that file, where it is not on this machine; None computes it.
        encoders: Path of each encoder that a `Text` names → a text that changes with what is in it;
            None computes it of what is on this machine.
        checkpoint_dir: Where training keeps what it needs to go on after it was cut off; "" for
            nowhere.
        steps: Instead of the recipe's; a parameter of the pipeline may give them.
        train_args: As TFX's Trainer takes it: `num_steps`, and the one split in `splits`.
        custom_config: Fields of `Training` that differ from the recipe's, such as
            {"batch_size": 64}.
        hyperparameters: Fields of `Training` that TFX's Tuner found; of a field that
            `custom_config` has too, the Tuner's value is taken.
        base_model: A model that BranchTrainer made, whose weights to start from.

    Outputs: `model`, a SavedModel that takes raw examples and routes by itself (signatures
    `serving_default` and one for every route), and `model_run`, with `history.json` and TensorBoard
    files, a run per route. Where routes had too few rows, the model predicts NaN for them, and its
    custom property `untrained` lists them, as JSON.

    Raises:
        RecipeError: An argument is wrong.
    """

    SPEC_CLASS = BranchTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        recipe: Recipe | RoutingTable,
        *,
        recipe_file: str = "",
        recipe_hash: str | None = None,
        encoders: Mapping[str, str] | None = None,
        checkpoint_dir: str = "",
        steps: int | RuntimeParameter | None = None,
        train_args: trainer_pb2.TrainArgs | None = None,
        custom_config: Mapping[str, Any] | None = None,
        hyperparameters: types.BaseChannel | None = None,
        base_model: types.BaseChannel | None = None,
    ) -> None:
        if isinstance(recipe, RoutingTable):
            recipe = Recipe("branchline", recipe)
        if not isinstance(recipe, Recipe):
            reject("BranchTrainer.recipe", recipe, "a Recipe or a RoutingTable")
        recipe = with_training(recipe, custom_config or {})
        splits = list(train_args.splits) if train_args else []
        if len(splits) > 1:
            reject("BranchTrainer.train_args.splits", splits, "one split to train on")
        if train_args and train_args.num_steps:
            steps = train_args.num_steps if steps is None else steps
        if isinstance(steps, RuntimeParameter):
            if steps.ptype is not int:
                reject("BranchTrainer.steps", steps.ptype, "a parameter of type int")
        elif steps is not None:
            check_int("BranchTrainer.steps", steps)
        encoders = encoder_hashes(recipe.routing) if encoders is None else encoders
        super().__init__(
            BranchTrainerSpec(
                examples=examples,
                transform_graph=transform_graph,
                hyperparameters=hyperparameters,
                base_model=base_model,
                recipe=to_json(training_part(recipe)),
                recipe_file=recipe_file,
                recipe_hash=hash_of(recipe_file) if recipe_hash is None else recipe_hash,
                encoders=json.dumps(encoders, sort_keys=True) if encoders else None,
                steps=steps,
                train_split=splits[0] if splits else TRAIN,
                checkpoint_dir=checkpoint_dir,
                code_version=code_version(__file__),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )
