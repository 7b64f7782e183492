"""Parts of the model, and examples of the batch, that are left out of training on purpose.

Systems S8 to S10 and S15, on real records. `digits`: each unit sees 3×3 pixels, all other weights
are masked and stay 0; from GROW_AT on, a further layer takes part. `parity`: few pictures, even or
odd, read with the layers of `digits`, which their gradients reach only from TUNE_AT on. `diabetes`:
a tenth of the training labels has lost its decimal point; the examples of highest loss are left out
of every step.
"""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np

from branchline.components.branch_trainer import BranchedModel, Conditional, Head, Selective, Switch
from branchline.components.branch_trainer import Path as ModelPath
from branchline.components.branch_trainer.step.gate import without_outliers
from branchline.components.mixed_example_gen.split_records import choose_split
from branchline.schemas import Image, Numeric, Recipe, Route, RoutingTable, Training, when

CHANNELS, WIDTH = 4, 64
GROW_AT, TUNE_AT = 600, 900
WRONG = LEFT_OUT = 0.1
SPLITS = {"train": 4, "eval": 1}

_ROW, _COLUMN = np.divmod(np.arange(64), 8)
_NEAR = (abs(_ROW[:, None] - _ROW) <= 1) & (abs(_COLUMN[:, None] - _COLUMN) <= 1)
NEIGHBOURS = np.tile(_NEAR, CHANNELS).astype(np.float32)  # [pixels, units]


def write_records(directory: Path) -> None:
    """Writes 2 239 records into `directory` as `records.jsonl`."""
    from sklearn.datasets import load_diabetes, load_digits

    rng = random.Random(0)
    digits: Any = load_digits()
    diabetes: Any = load_diabetes(scaled=False)
    records = []
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        label = {"digit": int(digit)} if number % 4 else {"even": int(digit) % 2 == 0}
        asked = "digit" if number % 4 else "parity"
        records.append({"pixels": image.astype(int).tolist(), "asked": asked, **label})
    for number, (baseline, y) in enumerate(zip(diabetes.data, diabetes.target, strict=True)):
        trained = choose_split({"patient": [number]}, SPLITS, "patient") == "train"
        wrong = trained and rng.random() < WRONG
        progression = float(y) * (10 if wrong else 1)
        record = {"patient": number, "baseline": baseline.tolist(), "progression": progression}
        records.append(record)
    rng.shuffle(records)
    with open(directory / "records.jsonl", "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def build_model(recipe: Recipe, inputs: dict[str, Any]) -> BranchedModel:
    """Builds the layers that read pictures once, for two routes, and a branch for diabetes."""
    layers = keras.layers
    local = layers.Dense(64 * CHANNELS, "relu", name="local")
    local.build([None, 64])
    kernel: Any = local.kernel
    kernel.assign(kernel * NEIGHBOURS)
    reader = keras.Sequential([layers.Flatten(), local, layers.Dense(WIDTH, "relu")])
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    binary = keras.losses.BinaryCrossentropy(from_logits=True)
    readers = {
        "digits": reader,
        "parity": Selective(reader, on=False),
        "diabetes": layers.Dense(WIDTH, "relu"),
    }
    deeper = {
        "digits": Conditional(_residual(), on=False),
        "parity": layers.Identity(),
        "diabetes": layers.Identity(),
    }
    keys = {route.name: next(iter(route.features)) for route in recipe.routing.routes}
    return BranchedModel(
        [Switch("reader", **readers), Switch("deeper", **deeper)],
        heads=[
            Head("digits", layers.Dense(10), loss=entropy),
            Head("parity", layers.Dense(1), loss=binary),
            Head("diabetes", layers.Dense(1), loss="mse"),
        ],
        paths={
            name: ModelPath(reader=name, deeper=name, features=key, heads=[name])
            for name, key in keys.items()
        },
    )


def _residual() -> keras.Model:
    features = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(WIDTH, "relu")(features)
    # Starts as the identity, so that nothing jumps when it is switched on.
    change = keras.layers.Dense(WIDTH, kernel_initializer="zeros", name="change")(hidden)
    return keras.Model(features, features + change)


def configure_trainer(recipe: Recipe, model: BranchedModel, options: dict) -> dict:
    """Adds the mask, the gate, and the steps from which on layers take part."""
    settings, report = dict(options["settings"]), options["on_progress"]
    for name in ("digits", "parity"):
        settings[name] = dataclasses.replace(settings[name], mask_fn=_mask_of)
    settings["diabetes"] = dataclasses.replace(
        settings["diabetes"], gate=without_outliers(LEFT_OUT)
    )
    reader, deeper = model.switches

    def on_progress(progress):
        report(progress)
        deeper.branches["digits"].on.assign(int(progress.step >= GROW_AT))
        reader.branches["parity"].on.assign(int(progress.step >= TUNE_AT))

    return {**options, "settings": settings, "on_progress": on_progress}


def _mask_of(variable: keras.Variable) -> np.ndarray | None:
    return NEIGHBOURS if variable.path.endswith("local/kernel") else None


def _picture(name: str, asked: str, label: str, **task: Any) -> Route:
    condition = when.equals("asked", asked)
    return Route(name, condition, features={"pixels": Image(8, 8, 1)}, label=label, **task)


recipe = Recipe(
    name="selective",
    routing=RoutingTable(
        _picture("digits", "digit", "digit", task="multiclass", num_classes=10),
        _picture("parity", "parity", "even", task="binary"),
        Route(
            "diabetes",
            when.present("baseline"),
            features={"baseline": Numeric((10,))},
            label="progression",
            task="regression",
        ),
    ),
    training=Training(steps=1500, optimizer="adamw", weight_decay=0.01),
    thresholds={
        "digits": {"accuracy": 0.95},
        "parity": {"accuracy": 0.88},
        "diabetes": {"root_mean_squared_error": 80.0},
    },
    splits=SPLITS,
    split_key="patient",
    data=write_records,
)
