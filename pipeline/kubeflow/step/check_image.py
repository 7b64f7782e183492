"""Tells whether this environment can run every step of a compiled pipeline.

`python -m branchline.pipeline.kubeflow.step.check_image` is the last that the Dockerfile runs, so
that an image in which something is missing is never built.
"""

import importlib
import pkgutil
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version

import branchline
from branchline import components
from branchline.schemas import BranchlineError

# What a step loads only when it runs there; all else, TFX's executors among it, our modules import.
ON_DEMAND = (
    "apache_beam.io.aws.s3filesystem",
    "apache_beam.io.gcp.gcsfilesystem",
    "boto3",
    "kfp.pipeline_spec.pipeline_spec_pb2",
)
REPORTED = ("branchline", "tensorflow", "tfx", "apache-beam", "kfp", "boto3")


def list_modules() -> list[str]:
    """Returns the names of ON_DEMAND, of every component and of every module of branchline."""
    ours = [f"branchline.components.{name}" for name in components.__all__]
    ours += _walk("branchline", branchline.__path__)
    return [*ON_DEMAND, *ours]


def import_all(names: Iterable[str]) -> None:
    """Imports modules, and attributes that a package imports on demand (`branchline.components.X`).

    Raises:
        BranchlineError: Some cannot be imported; says which and why.
    """
    failures = []
    for name in names:
        try:
            pkgutil.resolve_name(name)
        except Exception as error:  # a broken library may raise anything when it is imported
            failures.append(f"{name} ({type(error).__name__}: {error})")
    if failures:
        raise BranchlineError(
            f"{sys.prefix}: cannot import {'; '.join(failures)}. Every step of a compiled pipeline"
            " must be able to: build the image with branchline's Dockerfile, with the extra"
            " `kubeflow`, and install nothing over it that changes the versions of uv.lock"
        )


def main() -> int:
    """Prints one line; returns 0, or 1 if something cannot be imported."""
    started = time.monotonic()
    names = list_modules()
    try:
        import_all(names)
    except BranchlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    versions = ", ".join(f"{name} {version(name)}" for name in REPORTED)
    python = ".".join(map(str, sys.version_info[:3]))
    took = time.monotonic() - started
    print(f"Python {python}, {versions}: {len(names)} imports in {took:.0f} s, all well")
    return 0


def _walk(package: str, paths: Iterable[str]) -> list[str]:
    names = []
    for module in pkgutil.iter_modules(paths, f"{package}."):
        names.append(module.name)
        if module.ispkg:
            names += _walk(module.name, importlib.import_module(module.name).__path__)
    return names


if __name__ == "__main__":
    sys.exit(main())
