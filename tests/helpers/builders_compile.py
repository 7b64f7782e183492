"""Pipelines compiled for Kubeflow, a recipe of their own, and what is in their YAML.

A test module imports the fixtures it uses as `from builders_compile import compile_ as compile_`:
so they are known there alone.
"""

import pytest
import yaml

from branchline.pipeline.kubeflow.arguments import read_arguments
from branchline.pipeline.kubeflow.compile.write_pipeline import write_pipeline

IMAGE, ROOT = "--image=reg/branchline:1", "--pipeline-root=s3://bucket/root"
RECIPE = """
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, when

recipe = Recipe(
    name="Own_Recipe",
    routing=RoutingTable(
        Route("a", when.present("x"), features={"x": Numeric()}, label="y", task="regression")
    ),
)
"""


@pytest.fixture
def compile_(tmp_path):
    def compile_(*arguments):
        path = tmp_path / "pipeline.yaml"
        write_pipeline(read_arguments(["compile", *arguments, f"--output={path}"]))
        return list(yaml.safe_load_all(path.read_text()))

    return compile_


@pytest.fixture
def own_recipe(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(RECIPE)
    return path


def tasks_of(spec):
    return spec["root"]["dag"]["tasks"]


def container_of(spec, step):
    return spec["deploymentSpec"]["executors"][f"{step}_executor"]["container"]


def constant_of(spec, step, name):
    return tasks_of(spec)[step]["inputs"]["parameters"][name]["runtimeValue"]["constant"]
