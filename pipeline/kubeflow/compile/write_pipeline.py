"""Writes a recipe's pipeline for a cluster as YAML."""

import json
import os
import re
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import branchline
from branchline.components.user_code import BUILT_IN, recipe_files
from branchline.pipeline.graph import Cluster, create_pipeline, needs_file
from branchline.pipeline.kubeflow.compile.beam_options import (
    BEAM_STEPS,
    beam_options,
    needs_remote_artifacts,
)
from branchline.pipeline.kubeflow.compile.compile_pipeline import (
    Spec,
    add_arguments,
    add_resources,
    check_sizes,
    compile_spec,
    containers,
    escape_settings,
    escaped,
    never_cache,
)
from branchline.pipeline.kubeflow.compile.place import Place, find_place
from branchline.pipeline.kubeflow.compile.platform import check_vertex, platform_spec
from branchline.pipeline.kubeflow.compile.step_options import resources_of, with_flags
from branchline.pipeline.kubeflow.packing import LONGEST_READABLE, pack, pack_settings
from branchline.pipeline.load_recipe import RECIPES_DIR, load_recipe
from branchline.pipeline.schema_file import schema_text
from branchline.pipeline.set_fields import set_fields
from branchline.schemas import Recipe, RecipeError, Resources
from branchline.schemas.resources import IMAGE, STEPS

_CARRIED = "/tmp/branchline"


class Written(NamedTuple):
    """A pipeline that was written, and what is in it in a few words."""

    path: Path
    summary: str


def write_pipeline(options: Namespace) -> Written:
    """Compiles what the command line says.

    Raises:
        RecipeError: Something in it is wrong, or cannot be on the cluster.
    """
    if not IMAGE.fullmatch(options.image):
        raise RecipeError(f"--image: got {options.image!r}, expected REGISTRY/NAME:TAG")
    recipe, recipe_file, module = load_recipe(options.recipe)
    recipe = with_flags(
        set_fields(recipe, options.assignments),
        gpus=options.gpus,
        gpu_type=options.gpu_type,
        step_images=options.step_images,
        secrets=options.secrets,
        env=options.env,
    )
    place = find_place(
        recipe.name,
        backend=options.backend,
        pipeline_root=options.pipeline_root,
        serving_dir=options.serving_dir,
        volumes=options.volumes,
        data=options.data or _of_recipe(recipe),
        s3_endpoint=options.s3_endpoint,
    )
    resources = _resources(recipe, place)
    if options.backend == "vertex":
        check_vertex(resources)
    text, name = schema_text(recipe, recipe_file)
    cluster = Cluster(
        backend=options.backend,
        pipeline_name=pipeline_name(recipe.name),
        pipeline_root=place.root or place.volume,
        serving_dir=place.serving_dir,
        checkpoint_dir=place.checkpoint_dir,
        schema_file=f"{_CARRIED}/{name}",
        recipe_file=_in_image(recipe_file, options.recipe_in_image),
        data=_data(recipe, place, options.runner),
    )
    beam_args = beam_options(options.runner, options.beam_args, options.image)
    remote = needs_remote_artifacts(options.runner, place.root)
    pipeline = create_pipeline(
        recipe,
        recipe_file=recipe_file,
        recipe_module=module,
        cluster=cluster,
        enable_cache=not options.no_cache,
        beam_pipeline_args=beam_args,
    )
    spec = compile_spec(pipeline, options.image)
    never_cache(spec, "DataFingerprint", "Baseline")
    add_resources(spec, resources, options.backend)
    arguments = {step: _arguments(step, place, remote, resources[step].gpus) for step in STEPS}
    if needs_file(recipe, module) or callable(recipe.data):
        for step in STEPS:
            arguments[step] += _of_file(cluster.recipe_file, recipe_file)
    carried = {"packed": pack(text)} if len(text) > LONGEST_READABLE else {"text": text}
    carried["path"] = cluster.schema_file
    arguments["ImportSchemaGen"].append(
        f"--carried_file={escaped(json.dumps(carried, sort_keys=True))}"
    )
    add_arguments(spec, arguments)
    escape_settings(spec)
    pack_settings(spec)
    check_sizes(spec)
    if place.root:
        spec["defaultPipelineRoot"] = place.root
    labels = {step: spec["components"][step]["executorLabel"] for step in containers(spec)}
    platforms = {}
    if options.backend == "kfp":
        platforms = platform_spec(labels, resources, place.mounts)
    path = Path(options.output or f"{recipe.name}.yaml").expanduser()
    _write(path, spec, platforms)
    parameters = ", ".join(sorted(spec["root"]["inputDefinitions"]["parameters"]))
    return Written(path, f"{len(spec['root']['dag']['tasks'])} steps, parameters {parameters}")


def pipeline_name(recipe_name: str) -> str:
    """The recipe's name as Kubeflow permits it: small letters, digits and dashes.

    >>> pipeline_name("My_recipe")
    'my-recipe'
    """
    return re.sub(r"[^a-z0-9]+", "-", recipe_name.lower()).strip("-") or "branchline"


def _resources(recipe: Recipe, place: Place) -> dict[str, Resources]:
    store = Resources(env=place.env, secrets=place.secrets)
    return {step: resources_of(recipe, step).over(store) for step in STEPS}


def _in_image(recipe_file: Path, given: str | None) -> str:
    if given is not None:
        if not given.startswith("/"):
            raise RecipeError(f"--recipe-in-image {given}: expected an absolute path")
        return given
    if recipe_file.parent == RECIPES_DIR:
        return f"{BUILT_IN}{recipe_file.stem}"
    return f"/recipes/{recipe_file.name}"


def _of_recipe(recipe: Recipe) -> list[str]:
    if isinstance(recipe.data, str) and "://" in recipe.data:
        return [recipe.data]
    return []


def _data(recipe: Recipe, place: Place, runner: str) -> str | None:
    if place.data:
        return place.data
    if callable(recipe.data):  # writes on the step's own disk, which no worker elsewhere reads
        return "" if runner == "direct" else None
    if recipe.data is None:
        return None
    raise RecipeError(
        f"recipe {recipe.name!r} has its records at {recipe.data}, a path on this machine; give "
        "--data with a place that the cluster can read"
    )


def _arguments(step: str, place: Place, remote: bool, gpus: int) -> list[str]:
    artifacts = "remote" if remote and step in BEAM_STEPS else "local"
    volume = [f"--volume={place.volume}"] if place.volume else []
    store = ["--cluster_store"] if place.cluster_store else []
    held = [f"--gpus={gpus}"] if gpus else []
    return [f"--artifacts={artifacts}", *volume, *store, *held]


def _of_file(in_image: str, recipe_file: Path) -> list[str]:
    files = json.dumps(recipe_files(recipe_file), sort_keys=True)
    return [f"--recipe_file={in_image}", f"--recipe_files={escaped(files)}"]


def _write(path: Path, spec: Spec, platforms: dict[str, Any]) -> None:
    comment = f"# Compiled by branchline {branchline.__version__}. Parameters of a run:\n"
    for name, parameter in sorted(spec["root"]["inputDefinitions"]["parameters"].items()):
        default = parameter.get("defaultValue")
        said = "to be given" if default is None else f"default {json.dumps(default)}"
        comment += f"#   {name}: {parameter['parameterType']}, {said}\n"
    documents = [spec, platforms] if platforms else [spec]
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(comment + yaml.safe_dump_all(documents, sort_keys=True, width=1000))
        os.replace(unfinished, path)
    except OSError as error:
        if unfinished.exists():
            unfinished.unlink()
        raise RecipeError(f"cannot write to --output {path}: {error.strerror or error}") from error
