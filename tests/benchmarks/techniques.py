"""Trains recipes with and without one technique, over several seeds, and compares the figures.

    for recipe in typed selective tangled; do python run_local.py --recipe $recipe; done
    python tests/benchmarks/techniques.py --output techniques.json

The leak of `typed` and the gate of `selective` are taken away; of the four routes of `tangled` one
after the other is not trained at all, though its encoder, its operation and the decoders are, on
the other three. The figures are of the eval split: the root mean squared error of a regression, the
share of examples with every entry right of any other label.
"""

import argparse
import dataclasses
import json
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from branches import newest, rows_of

from branchline.components.branch_trainer.recipe.check_heads import head_of
from branchline.components.branch_trainer.recipe.train import train
from branchline.components.branch_trainer.streams.inputs import describe_inputs
from branchline.components.branch_trainer.streams.labels import scales_of
from branchline.components.branch_trainer.streams.read_rows import RowReader, padded
from branchline.pipeline.load_recipe import load_recipe
from branchline.schemas import Alternate, Recipe

TANGLED = ("binary_plus1", "binary_times2", "decimal_plus1", "decimal_times2")


class Variant(NamedTuple):
    """A recipe, how it is changed, and the route whose figures tell."""

    recipe: str
    name: str
    route: str
    training: dict[str, Any] = {}
    settings: dict[str, dict] = {}  # route → fields of PathSettings


VARIANTS = (
    Variant("typed", "leak", "second"),
    Variant("typed", "no leak", "second", settings={"vector": {"leak": {}}}),
    Variant("selective", "gate", "diabetes"),
    Variant("selective", "no gate", "diabetes", settings={"diabetes": {"gate": None}}),
    *(
        Variant(
            "tangled", "held out", out, {"schedule": Alternate([r for r in TANGLED if r != out])}
        )
        for out in TANGLED
    ),
)


def figures(variant: Variant, run: Path, seed: int) -> dict[str, float]:
    """Trains a variant, and gives the figure of every label of its route."""
    recipe, _, module = load_recipe(variant.recipe)
    training = dataclasses.replace(recipe.training, seed=seed, **variant.training)
    recipe = dataclasses.replace(recipe, training=training)
    transform = tft.TFTransformOutput(newest(f"{run}/pipeline/Transform/transform_graph/*"))
    inputs = describe_inputs(recipe, transform, False)
    reader = RowReader(recipe.routing, inputs, transform)
    rows = rows_of(run, reader, "train", recipe.routing.names)
    scales = {name: scales_of(rows[name], recipe.routing[name]) for name in rows}

    def configure(recipe: Recipe, model: Any, options: dict) -> dict:
        options = configure_of(module)(recipe, model, options)
        changed = {
            name: dataclasses.replace(options["settings"][name], **fields)
            for name, fields in variant.settings.items()
        }
        return {**options, "settings": {**options["settings"], **changed}}

    model, _ = train(
        recipe,
        module.build_model,
        rows,
        inputs,
        scales,
        cache_dir="",
        configure_trainer=configure,
    )
    route = recipe.routing[variant.route]
    held_back = rows_of(run, reader, "eval", [route.name])[route.name]
    features = tf.nest.map_structure(padded, held_back.features)
    outputs = model(features, path=route.name, training=False)
    found = {}
    for key, target in route.labels.items():
        output = outputs[head_of(model, route, key).name].numpy()
        wanted = np.reshape(held_back.labels[key], [len(output), -1])
        if target.task == "regression":
            scale = scales[route.name][key]
            error = np.reshape(output * scale.std + scale.mean, wanted.shape) - wanted
            found[key] = float(np.sqrt(np.mean(np.square(error))))
        else:
            classes = output.argmax(-1) if target.task == "multiclass" else output > 0
            right = np.reshape(classes, wanted.shape) == wanted
            found[key] = float(np.mean(np.all(right, axis=1)))
    keras.backend.clear_session()
    return found


def configure_of(module: ModuleType) -> Any:
    """The recipe's own `configure_trainer`, or one that changes nothing."""
    return getattr(module, "configure_trainer", lambda recipe, model, options: options)


def main() -> None:
    """Prints a table and writes every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="holds <recipe>/ of each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    results = []
    print(f"{'recipe':<12}{'route':<16}{'variant':<10}figures of each label, mean (each seed)")
    for variant in VARIANTS:
        run = arguments.runs / variant.recipe
        seeds = [figures(variant, run, seed) for seed in range(arguments.seeds)]
        by_label = {key: [found[key] for found in seeds] for key in seeds[0]}
        cells = [
            f"{key} {np.mean(values):.3g} ({', '.join(f'{value:.3g}' for value in values)})"
            for key, values in by_label.items()
        ]
        print(f"{variant.recipe:<12}{variant.route:<16}{variant.name:<10}{'; '.join(cells)}")
        results.append(
            {
                "recipe": variant.recipe,
                "route": variant.route,
                "variant": variant.name,
                "figures": by_label,
            }
        )
    if arguments.output:
        machine = {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "cores": os.cpu_count(),
        }
        result = {"machine": machine, "seeds": arguments.seeds, "results": results}
        arguments.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
