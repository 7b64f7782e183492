"""Records as people have them: class names, dates, yes and no, tags, pictures in files.

Penguins (JSON; island, date of the egg, whether the clutch is complete, measurements, remarks as
tags → species), the weather of a day in Seattle (CSV; date, rain, temperatures, wind → its kind)
and handwritten digits (JSON and a PNG each → the digit's name).
"""

import csv
import json
import lzma
from pathlib import Path
from typing import Any

from branchline.schemas import (
    Bool,
    Categorical,
    Image,
    Numeric,
    Recipe,
    Route,
    RoutingTable,
    Tags,
    Timestamp,
    Training,
    when,
)

DATA = Path(__file__).parent / "data"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPECIES = ("Adelie", "Chinstrap", "Gentoo")
WEATHER = ("drizzle", "fog", "rain", "snow", "sun")


def write_records(directory: Path) -> None:
    """Writes 3 602 records into `directory`, and a picture for each digit."""
    _write_json(directory / "penguins.jsonl", _penguins())
    header, *rows = csv.reader(_lines("seattle_weather.csv.xz"))
    with open(directory / "weather.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([date.replace("/", "-"), *rest] for date, *rest in rows)
    _write_json(directory / "digits.jsonl", _digits(directory))


def _lines(name: str) -> list[str]:
    return lzma.decompress((DATA / name).read_bytes()).decode().splitlines()


def _penguins() -> list[dict]:
    found = csv.DictReader(_lines("penguins.csv.xz"))
    rows = [{key: "" if cell == "NA" else cell for key, cell in row.items()} for row in found]
    measured = ("Culmen Length (mm)", "Culmen Depth (mm)", "Flipper Length (mm)", "Body Mass (g)")
    return [
        {
            "species": row["Species"].split()[0],
            "island": row["Island"],
            "egg": row["Date Egg"],
            "clutch complete": row["Clutch Completion"],
            "remarks": [part.strip() for part in row["Comments"].split(".") if part.strip()],
            **{name: float(row[name]) for name in measured if row[name]},
        }
        for row in rows
    ]


def _digits(directory: Path) -> list[dict]:
    import tensorflow as tf
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    (directory / "digits").mkdir()
    records = []
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = f"digits/{number:04}.png"
        pixels = tf.constant((image * 255 / 16).round().reshape(8, 8, 1), tf.uint8)
        (directory / path).write_bytes(tf.io.encode_png(pixels).numpy())
        records.append({"scan": path, "digit": DIGITS[digit]})
    return records


def _write_json(path: Path, records: list[dict]) -> None:
    with open(path, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


recipe = Recipe(
    name="everyday",
    data=write_records,
    routing=RoutingTable(
        Route(
            "penguins",
            when.present("island"),
            features={
                "island": Categorical(),
                "egg": Timestamp(),
                "clutch complete": Bool(),
                "remarks": Tags(),
                "Culmen Length (mm)": Numeric(),
                "Culmen Depth (mm)": Numeric(),
                "Flipper Length (mm)": Numeric(),
                "Body Mass (g)": Numeric(),
            },
            label="species",
            task="multiclass",
            classes=SPECIES,
        ),
        Route(
            "weather",
            when.present("precipitation"),
            features={
                "date": Timestamp(),
                "precipitation": Numeric(scale="log"),
                "temp_max": Numeric(),
                "temp_min": Numeric(),
                "wind": Numeric(),
            },
            label="weather",
            task="multiclass",
            classes=WEATHER,
        ),
        Route(
            "digits",
            when.present("scan"),
            features={"scan": Image(8, 8, 1, stored="path")},
            label="digit",
            task="multiclass",
            classes=DIGITS,
        ),
    ),
    training=Training(steps=900, batch_size=64),
    thresholds={
        "penguins": {"accuracy": 0.95},
        "weather": {"accuracy": 0.7},
        "digits": {"accuracy": 0.95},
    },
    quarantine_limit=0.0,
)
