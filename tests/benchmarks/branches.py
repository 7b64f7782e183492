"""Trains every branch of a recipe together and alone, over several seeds, and compares them.

    python run_local.py --output runs/mixed
    python tests/benchmarks/branches.py --run runs/mixed --output branches.json

Alone, a branch gets the steps it got in the joint training, the same batches and settings. The
figure is each route's first metric on its eval split: the AUC (binary), the accuracy (multiclass)
or the root mean squared error (regression).
"""

import argparse
import dataclasses
import glob
import json
import os
import platform
from pathlib import Path

import keras
import numpy as np
import sklearn.metrics
import tensorflow as tf
import tensorflow_transform as tft

from branchline.components.branch_trainer.recipe.default_model import build_model
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.components.branch_trainer.streams.read_rows import RowReader, Rows, padded
from branchline.components.files.routed import route_files
from branchline.pipeline.load_recipe import load_recipe
from branchline.schemas import Recipe, RoutingTable, Training


def newest(pattern: str) -> str:
    """Finds the newest of a component's outputs; their folders are numbered."""
    return max(glob.glob(pattern), key=lambda path: int(Path(path).name))


def rows_of(run: Path, reader: RowReader, split: str, names) -> dict[str, Rows]:
    """Reads the routed examples of routes, as BranchTrainer does."""
    examples = newest(f"{run}/pipeline/Router/routed_examples/*")
    return reader.read(route_files([examples], split, names), 1 << 32)


def score(
    recipe: Recipe, run: Path, of_run: Recipe, transform: tft.TFTransformOutput
) -> tuple[dict, dict]:
    """Trains the recipe's model, and gives every route's steps and its figure on eval rows."""
    names, inputs = recipe.routing.names, describe_inputs(of_run, transform, False)
    reader = RowReader(of_run.routing, inputs, transform)
    inputs = {name: inputs[name] for name in names}
    rows = rows_of(run, reader, "train", names)
    scales = {name: scales_of(rows[name], recipe.routing[name]) for name in names}
    model, summary = train(recipe, build_model, rows, inputs, scales, cache_dir="")
    figures = {}
    for name, held_back in rows_of(run, reader, "eval", names).items():
        route = recipe.routing[name]
        features = tf.nest.map_structure(padded, held_back.features)
        logits = model(features, path=name, training=False)[name].numpy()
        label = held_back.labels[route.label].numpy()
        if route.task == "binary":
            figures[name] = float(sklearn.metrics.roc_auc_score(label, logits[:, 0]))
        elif route.task == "multiclass":
            figures[name] = float(np.mean(logits.argmax(axis=1) == label))
        else:
            scale = scales[name][route.label]
            error = logits[:, 0] * scale.std + scale.mean - label
            figures[name] = float(np.sqrt(np.mean(np.square(error))))
    keras.backend.clear_session()
    return {name: route["steps"] for name, route in summary["routes"].items()}, figures


def alone(recipe: Recipe, name: str, steps: int) -> Recipe:
    """The recipe of one route by itself, for as many steps."""
    training = recipe.training
    own = {name: training.routes[name]} if name in training.routes else {}
    fields = {f.name: getattr(training, f.name) for f in dataclasses.fields(Training)}
    return Recipe(
        name=f"{recipe.name}-{name}",
        routing=RoutingTable(recipe.routing[name]),
        training=Training(**(fields | {"steps": steps, "routes": own})),
    )


def main() -> None:
    """Prints a table and writes every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mixed")
    parser.add_argument("--run", type=Path, required=True, help="output directory of its run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)[0]
    transform = tft.TFTransformOutput(
        newest(f"{arguments.run}/pipeline/Transform/transform_graph/*")
    )
    figures: dict[str, dict[str, list[float]]] = {
        name: {"together": [], "alone": []} for name in recipe.routing.names
    }
    for seed in range(arguments.seeds):
        training = dataclasses.replace(recipe.training, seed=seed)
        seeded = dataclasses.replace(recipe, training=training)
        steps, together = score(seeded, arguments.run, recipe, transform)
        for name in figures:
            figures[name]["together"].append(together[name])
            own = alone(seeded, name, steps[name])
            _, by_itself = score(own, arguments.run, recipe, transform)
            figures[name]["alone"].append(by_itself[name])
    print(f"{'route':<16}{'together':>20}{'alone':>20}   mean ± standard deviation")
    for name, kinds in figures.items():
        cells = [f"{np.mean(kind):.4g} ± {np.std(kind):.2g}" for kind in kinds.values()]
        print(f"{name:<16}{cells[0]:>20}{cells[1]:>20}")
    if arguments.output:
        machine = {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "cores": os.cpu_count(),
        }
        result = {"machine": machine, "seeds": arguments.seeds, "routes": figures}
        arguments.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
