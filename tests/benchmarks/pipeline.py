"""Measures the pipeline: imports, the default run cold and cached, and TFX's own beside it.

    python tests/benchmarks/pipeline.py [--output FILE.json] [--repeats 1]

Seconds of components are those between the start and the end of their executions in the metadata
store. The pipeline of TFX's own components is plain_tfx.py; both pipelines get the same records
and settings, in turn, each in a process of its own.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import component_seconds, spread, where_measured

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = Path(__file__).parent
RUN_LOCAL = HERE.parents[1] / "run_local.py"
IMPORTS = {
    "branchline.schemas": "branchline.schemas",
    "training core": "branchline.components.branch_trainer.trainer",
    "tensorflow alone": "tensorflow, keras",
    "pipeline.graph": "branchline.pipeline.graph, tfx.orchestration.local.local_dag_runner",
    "tfx.components alone": "tfx.components, tfx.orchestration.local.local_dag_runner",
}
EVALUATORS = tuple(f"Evaluator.{name}" for name in ("reviews", "digits", "tumours", "diabetes"))
# What we do → our components, and TFX's that do as much.
COUNTERPARTS = {
    "ingest (TFX: CsvExampleGen)": (("MixedExampleGen",), ("CsvExampleGen",)),
    "ingest (TFX: ImportExampleGen)": (("MixedExampleGen",), ("ImportExampleGen",)),
    "ingest and route (TFX: CsvExampleGen)": (("MixedExampleGen", "Router"), ("CsvExampleGen",)),
    "ingest and route (TFX: ImportExampleGen)": (
        ("MixedExampleGen", "Router"),
        ("ImportExampleGen",),
    ),
    "statistics": (("RouteStatistics",), ("StatisticsGen",)),
    "validate examples": (("RouteValidator",), ("ExampleValidator",)),
    "transform (TFX's own, our function)": (("Transform",), ("Transform",)),
    "train": (("BranchTrainer",), ("Trainer",)),
    "evaluate (TFX: one Evaluator per route)": (("BranchEvaluator",), EVALUATORS),
}


def main():
    """Measures all that there is, in turn, `--repeats` times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="file for the figures, JSON")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    rounds = []
    for number in range(arguments.repeats):
        with tempfile.TemporaryDirectory(prefix="branchline-benchmark-") as folder:
            rounds.append(measure(Path(folder)))
        print(f"round {number + 1} of {arguments.repeats} measured", file=sys.stderr)
    figures = summarise(rounds)
    show(figures)
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder):
    """One round: name → seconds, in four groups."""
    imports = {name: import_seconds(modules) for name, modules in IMPORTS.items()}
    ours, plain = folder / "ours", folder / "plain"
    command = [sys.executable, str(RUN_LOCAL), "--output", str(ours)]
    runs = {"cold": seconds(command)}
    components = component_seconds(ours / "metadata.sqlite")
    runs["cached"] = seconds(command)
    write_csv(ours / "data" / "records.jsonl", folder / "csv")
    (routed,) = ours.glob("pipeline/Router/routed_examples/*")
    (schema,) = ours.glob("schemas/*.pbtxt")
    arguments = [routed, schema, folder / "csv", plain]
    runs["TFX alone"] = seconds([sys.executable, HERE / "plain_tfx.py", *arguments])
    return {
        "imports": imports,
        "runs": runs,
        "ours": components,
        "tfx": component_seconds(plain / "metadata.sqlite"),
    }


def import_seconds(modules):
    """Seconds to import in a fresh process that has read the files before."""
    code = f"import time; t = time.perf_counter()\nimport {modules}\nprint(time.perf_counter() - t)"
    taken = []
    for _ in range(2):
        done = run([sys.executable, "-c", code])
        taken.append(float(done.splitlines()[-1]))
    return min(taken)


def seconds(command):
    """Seconds a process takes."""
    started = time.perf_counter()
    run(command)
    return time.perf_counter() - started


def run(command):
    """What a process prints; its own words if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def write_csv(records, folder):
    """Writes JSONL records as CSV: lists in columns of their own, no line breaks in texts."""
    rows = []
    for line in records.read_text().splitlines():
        row = {}
        for key, value in json.loads(line).items():
            values = flat(value)
            names = [key] if len(values) == 1 else [f"{key}_{i}" for i in range(len(values))]
            row.update(zip(names, values, strict=True))
        rows.append(row)
    folder.mkdir()
    with open(folder / "records.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
        writer.writeheader()
        writer.writerows(rows)


def flat(value):
    """The values in a list of lists, as CSV cells."""
    if isinstance(value, list):
        return [each for part in value for each in flat(part)]
    return [" ".join(value.split()) if isinstance(value, str) else value]


def summarise(rounds):
    """Every figure as median and spread over the rounds, and the ratios of each round."""
    ratios = [
        {
            name: sum(each["ours"][c] for c in ours) / sum(each["tfx"][c] for c in theirs)
            for name, (ours, theirs) in COUNTERPARTS.items()
        }
        | {"all components (TFX: CsvExampleGen)": total_ratio(each, "ImportExampleGen")}
        | {"all components (TFX: ImportExampleGen)": total_ratio(each, "CsvExampleGen")}
        for each in rounds
    ]
    groups = {name: [each[name] for each in rounds] for name in rounds[0]} | {"ratios": ratios}
    return (
        where_measured()
        | {"repeats": len(rounds)}
        | {
            group: {name: spread([each[name] for each in measured]) for name in measured[0]}
            for group, measured in groups.items()
        }
    )


def total_ratio(measured, left_out):
    """All of ours over all of TFX's but one of its two ways to ingest."""
    theirs = sum(measured["tfx"].values()) - measured["tfx"][left_out]
    return sum(measured["ours"].values()) / theirs


def show(figures):
    """Prints the table."""
    titles = {
        "imports": "import, s",
        "runs": "whole process, s",
        "ours": "our pipeline's components, s",
        "tfx": "TFX's own components, s",
        "ratios": "ours over TFX's own",
    }
    for group, title in titles.items():
        print(f"\n{title:45}{'median':>8}   min – max")
        for name, value in figures[group].items():
            print(f"  {name:43}{value['median']:8.2f}   {value['min']:.2f} – {value['max']:.2f}")


if __name__ == "__main__":
    main()
