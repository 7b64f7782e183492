"""Pictures with a class, a colour and a mask; texts with the next symbol at each place.

Systems S11 to S13: two kinds of record, two optimizers, a loss per target. Real digits are drawn
into noisy pictures of 64×64×3, in one of five colours: the digit (cross-entropy), the colour, which
every third record lacks, and where the ink is (dice). Real clothing reviews give twenty of a
hundred symbols; a GRU reads them and names the next symbol each time (cross-entropy).
"""

import collections
import csv
import io
import json
import lzma
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np

from branchline.components.branch_trainer import BranchedModel, Head, Switch
from branchline.components.branch_trainer import Path as ModelPath
from branchline.components.branch_trainer.recipe.dice import dice_loss_of_logits
from branchline.schemas import (
    Alternate,
    Ids,
    Image,
    Recipe,
    Route,
    RoutingTable,
    Target,
    Training,
    when,
)

REVIEWS = Path(__file__).parent / "data" / "womens_clothing_reviews.csv.xz"
COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
SYMBOLS, LENGTH = 100, 20


def write_records(directory: Path) -> None:
    """Writes 500 pictures and 5 000 texts into `directory` as `records.jsonl`."""
    records = [*_pictures(500), *_texts(5000)]
    random.Random(0).shuffle(records)
    with open(directory / "records.jsonl", "w") as file:
        file.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


def _pictures(count: int) -> list[dict]:
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    digits: Any = load_digits()
    records = []
    for number in range(count):
        cells = np.kron(digits.images[number], np.ones((2, 2)))  # 16×16, in 0 … 16
        cells = np.roll(cells, rng.integers(-1, 2, 2), axis=(0, 1))
        colour = int(rng.integers(5))
        ink = np.kron(cells, np.ones((4, 4)))[..., None] * COLOURS[colour] * 6 / 16
        pixels = ink.astype(int) + rng.integers(0, 3, (64, 64, 3))
        labels = {"category_1": int(digits.target[number])}
        labels |= {"category_2": colour} if number % 3 else {}
        mask = (cells >= 8).astype(int)
        records.append({"pixels": pixels.tolist(), "labels": labels, "mask": mask.tolist()})
    return records


def _texts(count: int) -> list[dict]:
    rng = random.Random(0)
    rows = csv.DictReader(io.StringIO(lzma.decompress(REVIEWS.read_bytes()).decode()))
    reviews = [text for row in rows if len(text := row["Review Text"]) > LENGTH][:count]
    common = collections.Counter("".join(reviews)).most_common(SYMBOLS - 1)
    ids = {symbol: number for number, (symbol, _) in enumerate(common)}
    records = []
    for number, text in enumerate(reviews):
        start = rng.randrange(len(text) - LENGTH)
        found = [ids.get(symbol, SYMBOLS - 1) for symbol in text[start : start + LENGTH + 1]]
        records.append({"review": number, "symbols": found[:-1], "next": found[1:]})
    return records


def build_model(recipe: Recipe, inputs: dict[str, Any]) -> BranchedModel:
    """Builds a CNN with three heads, and a GRU with one."""
    layers = keras.layers
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    cnn = keras.Sequential(
        [
            layers.Conv2D(16, 5, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        ]
    )
    gru = keras.Sequential([layers.Embedding(SYMBOLS, 32), layers.GRU(128, return_sequences=True)])
    digit = keras.Sequential(
        [
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )
    colour = keras.Sequential(
        [layers.GlobalAveragePooling2D(), layers.Dense(32, "relu"), layers.Dense(5)]
    )
    mask = layers.Conv2D(1, 3, padding="same")
    return BranchedModel(
        [Switch("kind", picture=cnn, text=gru)],
        heads=[
            Head("category_1", digit, loss=entropy, label="labels.category_1"),
            Head("category_2", colour, loss=entropy, label="labels.category_2", missing=-1),
            Head("mask", mask, loss=dice_loss_of_logits, loss_weight=2.0),
            Head("next", layers.Dense(SYMBOLS), loss=entropy),
        ],
        paths={
            "picture": ModelPath(
                kind="picture", features="pixels", heads=["category_1", "category_2", "mask"]
            ),
            "text": ModelPath(kind="text", features="symbols", heads=["next"]),
        },
    )


recipe = Recipe(
    name="losses",
    routing=RoutingTable(
        Route(
            "picture",
            when.present("pixels"),
            features={"pixels": Image(64, 64, 3)},
            targets={
                "labels.category_1": Target("multiclass", num_classes=10),
                "labels.category_2": Target("multiclass", num_classes=5, optional=True),
                "mask": Target("binary", shape=(16, 16), loss="dice"),
            },
        ),
        Route(
            "text",
            when.present("symbols"),
            features={"symbols": Ids(SYMBOLS, LENGTH)},
            targets={"next": Target("multiclass", num_classes=SYMBOLS, shape=(LENGTH,))},
        ),
    ),
    training=Training(
        steps=800,
        batch_size=32,
        schedule=Alternate("ab", on_end="repeat"),
        routes={
            "picture": {"optimizer": "adam", "learning_rate": 0.002},
            "text": {"optimizer": "rmsprop", "learning_rate": 0.005, "clip_norm": 1.0},
        },
    ),
    thresholds={
        "picture": {
            "labels.category_1/accuracy": 0.75,
            "labels.category_2/accuracy": 0.95,
            "mask/dice": 0.9,
        },
        "text": {"next/accuracy": 0.35},
    },
    split_key="review",
    data=write_records,
)
