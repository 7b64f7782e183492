"""Two encoders × two operations × two decoders, all shared: exact on all eight paths.

System S7, on generated records. Each says how its digit is written (four bits, or a number) and
what is to be done with it (+ 1, or × 2); the result is wanted both as five bits and as one of
nineteen numbers. There are forty different sums, in train and eval alike: exact is what the
modules have to be, not how they generalise. `tests/benchmarks/techniques.py` holds a route out.
"""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import keras

from branchline.components.branch_trainer import BranchedModel, Head, Switch
from branchline.components.branch_trainer import Path as ModelPath
from branchline.schemas import (
    Alternate,
    Ids,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Target,
    Training,
    when,
)

FEATURES = {"binary": {"bits": Numeric((4,))}, "decimal": {"digit": Ids(10)}}
OPERATIONS = {"plus1": lambda digit: digit + 1, "times2": lambda digit: digit * 2}
PATHS = {f"{e}_{o}": (e, o) for e, o in itertools.product(FEATURES, OPERATIONS)}


def write_records(directory: Path) -> None:
    """Writes every sum fifty times, 2 000 records, into `directory` as `records.jsonl`."""
    records = []
    for number, ((encoding, operation), digit) in enumerate(
        itertools.product(PATHS.values(), range(10))
    ):
        result = OPERATIONS[operation](digit)
        written = {"bits": _bits(digit, 4)} if encoding == "binary" else {"digit": digit}
        record = {"encoding": encoding, "operation": operation, **written}
        record["result"] = {"binary": _bits(result, 5), "decimal": result}
        # Numbered, because equal records would all fall into one split.
        records += [{"number": 50 * number + i, **record} for i in range(50)]
    random.Random(0).shuffle(records)
    with open(directory / "records.jsonl", "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _bits(number: int, length: int) -> list[int]:
    return [number >> place & 1 for place in range(length)]


def build_model(recipe: Recipe, inputs: dict[str, Any]) -> BranchedModel:
    """Builds two switches, of encoders and of operations, and two heads for every path."""
    layers = keras.layers
    digits = keras.Sequential([layers.Embedding(10, 32), layers.Flatten()])
    encoders = {
        "binary": keras.Sequential([_dense(32), layers.Dense(32)]),
        "decimal": keras.Sequential([digits, _dense(32), layers.Dense(32)]),
    }
    operations = {name: keras.Sequential([_dense(64), layers.Dense(64)]) for name in OPERATIONS}
    bits = keras.losses.BinaryCrossentropy(from_logits=True)
    number = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return BranchedModel(
        [Switch("encoder", **encoders), Switch("operation", **operations)],
        heads=[
            Head("binary", layers.Dense(5), loss=bits, label="result.binary"),
            Head("decimal", layers.Dense(19), loss=number, label="result.decimal"),
        ],
        paths={
            name: ModelPath(encoder=e, operation=o, features=next(iter(FEATURES[e])))
            for name, (e, o) in PATHS.items()
        },
    )


def _dense(units: int) -> keras.layers.Dense:
    return keras.layers.Dense(units, "relu")


def _route(name: str, encoding: str, operation: str) -> Route:
    condition = when.all(when.equals("encoding", encoding), when.equals("operation", operation))
    targets = {
        "result.binary": Target("binary", shape=(5,)),
        "result.decimal": Target("multiclass", num_classes=19),
    }
    return Route(name, condition, features=FEATURES[encoding], targets=targets)


recipe = Recipe(
    name="tangled",
    split_key="number",
    routing=RoutingTable(*(_route(name, *choices) for name, choices in PATHS.items())),
    training=Training(steps=1600, batch_size=64, learning_rate=0.003, schedule=Alternate()),
    thresholds={
        name: {"result.binary/exact_match": 1.0, "result.decimal/accuracy": 1.0} for name in PATHS
    },
    data=write_records,
)
