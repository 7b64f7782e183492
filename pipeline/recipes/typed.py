"""A branch per data type, routed by the type of one key: vectors, ids; texts are set aside.

Systems S1 to S3 and S14, on generated records. Under `value` stand ten floats, or one id of a
hundred, or, twenty times, a text, which no route takes. A second instrument has measured few
vectors by nearly the same law: a leak trains its branch a little on the first one's vectors too.
"""

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import keras

from branchline.components.branch_trainer import BranchedModel, Head, Switch
from branchline.components.branch_trainer import Path as ModelPath
from branchline.schemas import Ids, Numeric, Recipe, Route, RoutingTable, Training, when

LEAK = 0.3
NUM_TEXTS = 20


def write_records(directory: Path) -> None:
    """Writes 4 120 records into `directory` as `records.jsonl`."""
    rng = random.Random(0)
    records: list[dict] = [{"value": "none", "y": 0.0} for _ in range(NUM_TEXTS)]
    for _ in range(2000):
        vector, number = _vector(rng), rng.randrange(100)
        records.append({"value": vector, "y": _law(vector)})
        records.append({"value": number, "y": math.sin(number)})
    for _ in range(100):
        vector = _vector(rng)
        y = _law(vector) + 0.2 * vector[2] + rng.gauss(0, 0.2)
        records.append({"value": vector, "instrument": "second", "y": y})
    rng.shuffle(records)
    with open(directory / "records.jsonl", "w") as file:
        for number, record in enumerate(records):  # equal records would fall into one split
            file.write(json.dumps({"record": number, **record}) + "\n")


def _vector(rng: random.Random) -> list[float]:
    return [rng.gauss(0, 1) for _ in range(10)]


def _law(vector: list[float]) -> float:
    return vector[0] - abs(vector[1])


def build_model(recipe: Recipe, inputs: dict[str, Any]) -> BranchedModel:
    """Builds a branch of 16 per route, and one output layer that all share."""
    ids = keras.Sequential([keras.layers.Embedding(100, 16), keras.layers.Flatten()])
    branches = {
        "second": keras.layers.Dense(16, "relu"),
        "vector": keras.layers.Dense(16, "relu"),
        "ids": ids,
    }
    output = keras.layers.Dense(1, name="output")
    return BranchedModel(
        [Switch("type", **branches)],
        heads=[Head(name, output, loss="mse") for name in branches],
        paths={name: ModelPath(type=name, features="value", heads=[name]) for name in branches},
    )


def configure_trainer(recipe: Recipe, model: BranchedModel, options: dict) -> dict:
    """Keeps a share of the second instrument's loss on the first one's vectors."""
    settings = options["settings"]
    leaking = dataclasses.replace(settings["vector"], leak={"second": LEAK})
    return {**options, "settings": {**settings, "vector": leaking}}


def _route(name: str, condition: when.Condition, feature: Numeric | Ids) -> Route:
    return Route(name, condition, features={"value": feature}, label="y", task="regression")


FLOATS = when.dtype("value", "float")

recipe = Recipe(
    name="typed",
    split_key="record",
    routing=RoutingTable(
        _route("second", when.all(FLOATS, when.equals("instrument", "second")), Numeric((10,))),
        _route("vector", FLOATS, Numeric((10,))),
        _route("ids", when.dtype("value", "int"), Ids(100)),
    ),
    training=Training(steps=2000, batch_size=64, learning_rate=0.01),
    thresholds={
        "second": {"root_mean_squared_error": 0.5},
        "vector": {"root_mean_squared_error": 0.2},
        "ids": {"root_mean_squared_error": 0.05},
    },
    splits={"train": 1, "eval": 1},
    quarantine_limit=0.01,
    data=write_records,
)
