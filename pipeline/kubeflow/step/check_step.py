"""Checks that a step's image holds the code and the files that the pipeline was compiled with."""

import importlib
import json
import os
from collections.abc import Mapping
from typing import Any

from branchline.components.code_version import code_version
from branchline.components.user_code import recipe_files, recipe_path
from branchline.schemas import BranchlineError

_REBUILD = "build the image and compile the pipeline from the same version of branchline"


def check_recipe(recipe_file: str, expected: Mapping[str, str]) -> None:
    """Checks the recipe file, a path or `recipe:NAME` for a built-in one, and what it imports.

    Args:
        recipe_file: As `recipe_path` takes it.
        expected: What `recipe_files` gave when the pipeline was compiled; empty for whatever.

    Raises:
        BranchlineError: A file is not in the image, cannot be read, or is not as it was when the
            pipeline was compiled; names it.
    """
    try:
        path = recipe_path(recipe_file)
        found = recipe_files(recipe_file)
    except OSError as error:  # COPY keeps the mode that a file has where the image is built
        name = error.filename or recipe_file
        raise BranchlineError(
            f"the image's {name} cannot be read by user {os.getuid()} ({error.strerror}): "
            "COPY --chmod=644 it in the Dockerfile"
        ) from error
    if not expected or found == expected:
        return
    lacking = [name for name in expected if name not in found]
    if lacking and not (path.parent / lacking[0]).is_file():
        raise BranchlineError(
            f"the image's {path.parent} lacks {lacking[0]}, which the recipe imports: COPY it to "
            "the same place beside the recipe in the Dockerfile"
        )
    names = sorted(name for name in {*expected, *found} if found.get(name) != expected.get(name))
    raise BranchlineError(
        f"the image's {', '.join(str(path.parent / name if name else path) for name in names)} is "
        "not the recipe that the pipeline was compiled with, or not what it imported: build the "
        "image anew or compile again"
    )


def import_executor(class_path: str) -> type:
    """Imports the class that the step runs.

    Raises:
        BranchlineError: The image lacks it, or something that it imports.
    """
    module_name, _, class_name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BranchlineError(
            f"the image lacks {class_path} ({type(error).__name__}: {error}): it was built from "
            f"another version of branchline than the pipeline was compiled with, or without the "
            f"extra kubeflow; {_REBUILD}"
        ) from error


def check_code(class_path: str, parameters: dict[str, Any]) -> None:
    """Checks that the component's code is that which the pipeline was compiled with.

    Args:
        class_path: Of the class that the step runs.
        parameters: The step's execution properties. Components of branchline have `code_version`;
            TFX's Transform has that of branchline's preprocessing in `custom_config`.

    Raises:
        BranchlineError: The image holds another version.
    """
    module, expected = class_path.rpartition(".")[0], parameters.get("code_version")
    if not module.startswith("branchline."):
        module = "branchline.components.transform.preprocessing"
        expected = _config(parameters).get("code_version")
    if not expected:
        return
    found = code_version(str(importlib.import_module(module).__file__))
    if found == expected:
        return
    (code, libraries), (wanted, wanted_libraries) = _parts(found), _parts(expected)
    if code != wanted:
        raise BranchlineError(
            f"the image holds another branchline than the pipeline was compiled with: "
            f"{module} is {code}, expected {wanted}; {_REBUILD}"
        )
    others = sorted(libraries - wanted_libraries)
    raise BranchlineError(
        f"the image holds other libraries than those that the pipeline was compiled with: "
        f"{', '.join(others)}, expected {', '.join(sorted(wanted_libraries - libraries))}; what "
        f"the cache keeps would be taken for what these make: {_REBUILD} and of uv.lock"
    )


def check_gpus(asked: int) -> None:
    """Checks that a step which holds accelerators can use one.

    Raises:
        BranchlineError: TensorFlow sees none, and would train on the CPU.
    """
    import tensorflow as tf

    if all(each.device_type == "CPU" for each in tf.config.list_physical_devices()):
        raise BranchlineError(
            f"the step holds {asked} accelerator(s), of which TensorFlow sees none: build its "
            'image with --build-arg EXTRAS="--extra gpu", or compile without --gpus'
        )


def _parts(version: str) -> tuple[str, set[str]]:
    code, _, libraries = version.partition(" (")
    return code, set(libraries.removesuffix(")").split(", "))


def _config(parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        config = json.loads(parameters.get("custom_config") or "{}")
    except (TypeError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
