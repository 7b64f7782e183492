"""Three whole models take turns, each with its own loss, optimizer, clipping, accumulation.

Systems S4 to S6, on real records: the progression of diabetes (mean square error, Adam), the
width of iris petals (mean absolute error, SGD with momentum, clipped), the grape of a wine
(cross-entropy, four batches to an update). They share nothing but the pattern of turns.
"""

import json
import random
from pathlib import Path
from typing import Any

import keras

from branchline.components.branch_trainer import BranchedModel, Head, Switch
from branchline.components.branch_trainer import Path as ModelPath
from branchline.schemas import Alternate, Numeric, Recipe, Route, RoutingTable, Training, when

PATTERN = "aabc"


def write_records(directory: Path) -> None:
    """Writes scikit-learn's 770 records into `directory` as `records.jsonl`."""
    from sklearn import datasets

    diabetes: Any = datasets.load_diabetes(scaled=False)
    iris: Any = datasets.load_iris()
    wine: Any = datasets.load_wine()
    records = [
        *({"baseline": x.tolist(), "progression": float(y)} for x, y in _rows(diabetes)),
        *({"flower": x[:3].tolist(), "petal_width": float(x[3])} for x, _ in _rows(iris)),
        *({"wine": x.tolist(), "grape": int(y)} for x, y in _rows(wine)),
    ]
    random.Random(0).shuffle(records)
    with open(directory / "records.jsonl", "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _rows(bunch: Any) -> zip:
    return zip(bunch.data, bunch.target, strict=True)


def build_model(recipe: Recipe, inputs: dict[str, Any]) -> BranchedModel:
    """Builds three models side by side: no trunk, a head of its own for each."""
    layers = keras.layers
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    models = {
        "diabetes": layers.Dense(16, "relu"),
        "iris": layers.Dense(16, "tanh"),
        "wine": keras.Sequential([layers.Dense(32, "relu"), layers.Dropout(0.2)]),
    }
    features = {"diabetes": "baseline", "iris": "flower", "wine": "wine"}
    return BranchedModel(
        [Switch("model", **models)],
        heads=[
            Head("diabetes", layers.Dense(1), loss="mse"),
            Head("iris", layers.Dense(1), loss="mae"),
            Head("wine", layers.Dense(3), loss=entropy),
        ],
        paths={
            name: ModelPath(model=name, features=features[name], heads=[name]) for name in models
        },
    )


recipe = Recipe(
    name="alternating",
    routing=RoutingTable(
        Route(
            "diabetes",
            when.present("baseline"),
            features={"baseline": Numeric((10,))},
            label="progression",
            task="regression",
        ),
        Route(
            "iris",
            when.present("flower"),
            features={"flower": Numeric((3,))},
            label="petal_width",
            task="regression",
        ),
        Route(
            "wine",
            when.present("wine"),
            features={"wine": Numeric((13,))},
            label="grape",
            task="multiclass",
            num_classes=3,
        ),
    ),
    training=Training(
        steps=1200,
        batch_size=32,
        schedule=Alternate(PATTERN),
        routes={
            "diabetes": {"optimizer": "adam", "learning_rate": 0.003, "weight_decay": 0.5},
            "iris": {"optimizer": "momentum", "learning_rate": 0.02, "clip_norm": 1.0},
            "wine": {"optimizer": "adamw", "learning_rate": 0.01, "accumulate": 4},
        },
    ),
    thresholds={
        "diabetes": {"root_mean_squared_error": 60.0},
        "iris": {"mean_absolute_error": 0.2},
        "wine": {"accuracy": 0.9},
    },
    data=write_records,
)
