"""Four kinds of real records in one stream: reviews, digits, tumours, diabetes.

Clothing reviews (text, categories, age → recommended), handwritten digits (8×8 image → digit),
breast tumours (30 measurements → malignant) and diabetes patients (10 measurements → progression
after a year), shuffled into one JSONL file. There are fifty reviews for every patient.
"""

import csv
import io
import json
import lzma
import random
from pathlib import Path
from typing import Any

from branchline.schemas import (
    Categorical,
    Image,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Text,
    Training,
    when,
)

REVIEWS = Path(__file__).parent / "data" / "womens_clothing_reviews.csv.xz"


def write_records(directory: Path) -> None:
    """Writes the 26 294 records into `directory` as `records.jsonl`."""
    records = [*_reviews(), *_digits(), *_tumours(), *_diabetes()]
    random.Random(0).shuffle(records)
    with open(directory / "records.jsonl", "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _reviews() -> list[dict]:
    rows = csv.DictReader(io.StringIO(lzma.decompress(REVIEWS.read_bytes()).decode()))
    return [
        {
            "title": row["Title"] or None,
            "review": row["Review Text"] or None,
            "age": int(row["Age"]),
            "division": row["Division Name"] or None,
            "department": row["Department Name"] or None,
            "class": row["Class Name"] or None,
            "recommended": int(row["Recommended IND"]),
        }
        for row in rows
    ]


def _digits() -> list[dict]:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return [
        {"pixels": image.astype(int).tolist(), "digit": int(digit)}
        for image, digit in zip(digits.images, digits.target, strict=True)
    ]


def _tumours() -> list[dict]:
    from sklearn.datasets import load_breast_cancer

    tumours: Any = load_breast_cancer()  # target 0 is malignant
    return [
        {"cells": cells.tolist(), "malignant": 1 - int(benign)}
        for cells, benign in zip(tumours.data, tumours.target, strict=True)
    ]


def _diabetes() -> list[dict]:
    from sklearn.datasets import load_diabetes

    diabetes: Any = load_diabetes(scaled=False)
    return [
        {"baseline": baseline.tolist(), "progression": float(progression)}
        for baseline, progression in zip(diabetes.data, diabetes.target, strict=True)
    ]


recipe = Recipe(
    name="mixed",
    routing=RoutingTable(
        Route(
            "reviews",
            when.present("age"),
            features={
                "title": Text(length=32),
                "review": Text(),
                "age": Numeric(),
                "division": Categorical(),
                "department": Categorical(),
                "class": Categorical(),
            },
            label="recommended",
            task="binary",
        ),
        Route(
            "digits",
            when.present("pixels"),
            features={"pixels": Image(8, 8, 1)},
            label="digit",
            task="multiclass",
            num_classes=10,
        ),
        Route(
            "tumours",
            when.present("cells"),
            features={"cells": Numeric(shape=(30,))},
            label="malignant",
            task="binary",
        ),
        Route(
            "diabetes",
            when.present("baseline"),
            features={"baseline": Numeric(shape=(10,))},
            label="progression",
            task="regression",
        ),
    ),
    training=Training(
        steps=1500,
        batch_size=128,
        routes={"diabetes": {"weight_decay": 0.5}},  # 357 rows of a noisy target
    ),
    thresholds={
        "reviews": {"auc": 0.93},
        "digits": {"accuracy": 0.96},
        "tumours": {"auc": 0.98},
        "diabetes": {"root_mean_squared_error": 57.0},
    },
    quarantine_limit=0.01,
    schema="../../schemas/mixed.pbtxt",
    data=write_records,
)
