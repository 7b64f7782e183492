"""Measures MixedExampleGen and Router, beside TFX's CsvExampleGen and a pipeline that only copies,
and then the whole pipeline.

    python tests/benchmarks/data_plane.py [--records 300000 3000000] [--flights FILE.parquet]
        [--steps NAME …] [--output FILE.json]

The records are flights (date, delay, distance, origin, destination), on three routes by their
distance: the first of --flights, which is `data/flights-3m.parquet` of the npm package
vega-datasets, or without it rows of the same columns by a seed. Every step is a process of its own
with the settings of the pipeline. Seconds are those of the step's work alone, without imports, of
the pipeline those of the command; memory is the process's peak.
"""

import argparse
import datetime
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.csv
import pyarrow.parquet
from measured import run, where_measured

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
STEPS = {
    "CsvExampleGen": ("flights.csv", "csv_example_gen"),
    "MixedExampleGen, CSV": ("flights.csv", "mixed"),
    "MixedExampleGen, JSONL": ("flights.jsonl", "mixed"),
    "MixedExampleGen, Parquet": ("flights.parquet", "mixed"),
    "copying": ("mixed-flights.parquet", "copy"),
    "Router": ("mixed-flights.parquet", "router"),
    "whole pipeline": ("flights.parquet", None),
}
# What is as many times as fast as what, in processor seconds; and what it should reach.
RATIOS = [
    ("MixedExampleGen, CSV", "CsvExampleGen", 3),
    ("MixedExampleGen, JSONL", "CsvExampleGen", 3),
    ("MixedExampleGen, Parquet", "CsvExampleGen", 5),
    ("Router", "copying", 0.7),
]
_ROWS = 100_000  # written at a time
RUN_LOCAL = Path(__file__).parents[2] / "run_local.py"


def main():
    """Measures every step for every number of records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[300_000, 3_000_000])
    parser.add_argument("--flights", help="a Parquet file")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="NAME")
    parser.add_argument("--output", help="file for the figures, JSON")
    parser.add_argument("--in-process", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(do(*arguments.in_process)))
        return
    figures = {}
    for records in arguments.records:
        with tempfile.TemporaryDirectory(prefix="branchline-benchmark-") as temporary:
            write_flights(Path(temporary), records, arguments.flights)
            figures[records] = {
                name: measure(Path(temporary), name, records) for name in arguments.steps
            }
    ratios = ratios_of(figures)
    show(figures, ratios)
    if arguments.output:
        written = where_measured() | {"arguments": vars(arguments)}
        written |= {"records": figures, "ratios": ratios}
        Path(arguments.output).write_text(json.dumps(written, indent=1) + "\n")


def measure(folder, name, records):
    """One step in a process of its own: what → its figure."""
    print(f"{name}, {records} records …", file=sys.stderr)
    file, step = STEPS[name]
    log = folder / "log"
    if step is None:
        recipe = Path(__file__).parent / "data_plane_recipe.py"
        command = [sys.executable, RUN_LOCAL, "--recipe", recipe, "--data", folder / file]
        return run([*command, "--output", folder / "output"], log)
    command = [sys.executable, __file__, "--in-process", step, folder / file]
    whole = run([*command, folder / f"{step}-{file}"], log)
    return json.loads(log.read_text().splitlines()[-1]) | {"memory: GB": whole["memory: GB"]}


def write_flights(folder, records, flights):
    """Writes the records in three formats."""
    written, csv, parquet = 0, None, None
    with open(folder / "flights.jsonl", "w") as jsonl:
        for batch in (
            pyarrow.parquet.ParquetFile(flights).iter_batches(_ROWS) if flights else made()
        ):
            rows = pyarrow.Table.from_batches([batch.slice(0, records - written)])
            texts = rows.set_column(0, "date", rows["date"].cast("string"))
            csv = csv or pyarrow.csv.CSVWriter(folder / "flights.csv", texts.schema)
            parquet = parquet or pyarrow.parquet.ParquetWriter(
                folder / "flights.parquet", rows.schema
            )
            csv.write_table(texts)
            parquet.write_table(rows)
            jsonl.writelines(json.dumps(row) + "\n" for row in texts.to_pylist())
            written += rows.num_rows
            if written == records:
                break
    csv.close()
    parquet.close()
    if written < records:
        sys.exit(f"{flights}: got {written} rows, expected {records}")


def made():
    """Flights by a seed, without end."""
    rng, begin = random.Random(0), datetime.datetime(2001, 1, 1)
    airports = ["".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3)) for _ in range(230)]
    number = 0
    while True:
        rows = range(number, number + _ROWS)
        yield pyarrow.RecordBatch.from_pydict(
            {
                "date": [begin + datetime.timedelta(seconds=15 * row) for row in rows],
                "delay": [int(rng.gauss(8, 30)) for _ in rows],
                "distance": [rng.randrange(30, 2800) for _ in rows],
                "origin": [rng.choice(airports) for _ in rows],
                "destination": [rng.choice(airports) for _ in rows],
            }
        )
        number += _ROWS


def do(step, source, output):
    """Runs a step here: wall and processor seconds, without imports."""
    import data_plane_steps

    prepared = getattr(data_plane_steps, step)(source, output)
    wall, processor = time.perf_counter(), time.process_time()
    prepared()
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def ratios_of(figures):
    """How many times as fast for each number of records, and how the memory grew."""
    ratios = []
    for fast, slow, aim in RATIOS:
        for records, steps in figures.items():
            if fast in steps and slow in steps:
                ratio = steps[slow]["processor"] / steps[fast]["processor"]
                ratios.append({"what": f"{fast}: times {slow}", "records": records})
                ratios[-1] |= {"ratio": ratio, "aim": f"≥ {aim}"}
    first, last = min(figures), max(figures)
    for name in figures[first] if last > first else ():
        memory = [figures[records][name]["memory: GB"] for records in (first, last)]
        ratios.append({"what": f"{name}: memory times that of {first}", "records": last})
        ratios[-1] |= {"ratio": memory[1] / memory[0], "aim": "≤ 1.2"}
    return ratios


def show(figures, ratios):
    """Prints the tables."""
    for records, steps in figures.items():
        title = f"{records} records"
        print(f"\n{title:28}{'wall':>9}{'processor':>11}{'µs a record':>13}{'GB':>7}")
        for name, each in steps.items():
            per_record = each["processor"] / records * 1e6
            print(f"{name:28}{each['wall']:9.1f}{each['processor']:11.1f}", end="")
            print(f"{per_record:13.1f}{each['memory: GB']:7.2f}")
    print()
    for each in ratios:
        print(f"{each['what']:58}{each['records']:9}{each['ratio']:7.2f}   {each['aim']}")


if __name__ == "__main__":
    main()
