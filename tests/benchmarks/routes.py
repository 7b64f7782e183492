"""Measures what the pipeline costs as the number of routes grows, over the same records.

    python tests/benchmarks/routes.py [--routes 2 8 32] [--records 12000] [--distinct]
        [--steps 500] [--repeats 1] [--output FILE.json]

A record has five floats, a category and a binary label; routes have the same keys, or with
--distinct each its own. Every run is the whole command in a process of its own, with nothing
cached. Beside the wall time stand the processor seconds, which hardly change with other work on the
machine, and the peak memory of the process.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from measured import component_seconds, run, spread, where_measured

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RUN_LOCAL = Path(__file__).parents[2] / "run_local.py"
CATEGORIES = 8
RECIPE = """
from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, Training, when


def route(number):
    prefix = f"r{{number}}_" if {distinct} else ""
    features = {{f"{{prefix}}x{{i}}": Numeric() for i in range(5)}}
    features |= {{f"{{prefix}}category": Categorical()}}
    condition = when.equals("kind", f"kind {{number}}")
    return Route(f"r{{number}}", condition, features=features, label=f"{{prefix}}y", task="binary")


recipe = Recipe(
    "routes",
    RoutingTable(*[route(number) for number in range({routes})]),
    training=Training(steps={steps}),
    thresholds={{"r0": {{"auc": 0.6}}}},
)
"""
# Loads the pushed model and asks it, in a process that knows nothing of branchline.
SERVE = """
import sys, time
import tensorflow as tf
begun = time.perf_counter()
model = tf.saved_model.load(sys.argv[1])
loaded = time.perf_counter()
rows = [row.numpy() for row in tf.data.TFRecordDataset(sys.argv[2], "GZIP").take(64)]
model.signatures["serving_default"](examples=tf.constant(rows))
print(loaded - begun, time.perf_counter() - loaded)
"""


def main():
    """Measures every number of routes in turn, `--repeats` times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--records", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--distinct", action="store_true", help="each route has keys of its own")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", help="file for the figures, JSON")
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.repeats):
        rounds.append({number: measure(number, arguments) for number in arguments.routes})
    figures = {
        number: {
            name: spread([measured[number][name] for measured in rounds])
            for name in rounds[0][number]
        }
        for number in arguments.routes
    }
    show(figures)
    if arguments.output:
        asked = {name: value for name, value in vars(arguments).items() if name != "output"}
        written = where_measured() | {"arguments": asked, "routes": figures}
        Path(arguments.output).write_text(json.dumps(written, indent=1) + "\n")


def measure(routes, arguments):
    """One run: what → its figure."""
    with tempfile.TemporaryDirectory(prefix="branchline-benchmark-") as temporary:
        folder = Path(temporary)
        write_records(folder / "records.jsonl", routes, arguments)
        recipe = folder / "routes.py"
        recipe.write_text(RECIPE.format(**(vars(arguments) | {"routes": routes})))
        output = folder / "output"
        command = [sys.executable, RUN_LOCAL, "--recipe", recipe, "--output", output]
        command += ["--data", folder / "records.jsonl"]
        print(f"{routes} routes, {arguments.records} records …", file=sys.stderr)
        figures = run(command, folder / "log")
        metrics = json.loads((output / "metrics.json").read_text())
        if not metrics["blessed"]:
            sys.exit(f"{routes} routes: not blessed: {metrics['routes']['r0']}")
        figures |= component_seconds(output / "metadata.sqlite")
        (model,) = output.glob("serving/routes/*")
        sizes = [path.stat().st_size for path in model.rglob("*") if path.is_file()]
        figures["model: MB"] = sum(sizes) / 1e6
        examples = min(output.glob("pipeline/Router/routed_examples/*/Split-eval/*"))
        served = subprocess.run(
            [sys.executable, "-c", SERVE, model, examples], capture_output=True, text=True
        )
        loading, first = map(float, served.stdout.split())
        return figures | {"model: loading": loading, "model: first call": first}


def write_records(path, routes, arguments):
    """Writes records of all kinds, evenly and in turn."""
    rng = random.Random(0)
    with open(path, "w") as file:
        for i in range(arguments.records):
            prefix = f"r{i % routes}_" if arguments.distinct else ""
            xs = [rng.gauss(1, 3) for _ in range(5)]
            category = rng.randrange(CATEGORIES)
            record = {f"{prefix}x{j}": x for j, x in enumerate(xs)}
            record[f"{prefix}category"] = f"category {category}"
            record[f"{prefix}y"] = int(xs[0] - 1 + category - 3 + rng.gauss(0, 1) > 0)
            file.write(json.dumps(record | {"kind": f"kind {i % routes}"}) + "\n")


def show(figures):
    """Prints the table: medians, and the last number of routes over the first."""
    numbers = list(figures)
    print(f"{'routes':22}" + "".join(f"{number:>9}" for number in numbers) + f"{'ratio':>9}")
    for name in figures[numbers[0]]:
        found = [figures[number][name]["median"] for number in numbers]
        ratio = f"{found[-1] / found[0]:9.2f}" if found[0] >= 0.1 else ""
        print(f"{name:22}" + "".join(f"{value:9.2f}" for value in found) + ratio)


if __name__ == "__main__":
    main()
