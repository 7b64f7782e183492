"""Runs MixedExampleGen and Router on large records in a process that may not take more memory.

    python measure_memory.py FOLDER

Prints, as JSON, case → the reasons of what was quarantined, or how it failed. The limits are on
what is taken beyond what the process holds after the same steps on small records.
"""

import contextlib
import json
import os
import resource
import shutil
import sys
from pathlib import Path

import builders as build
import fastavro
import pyarrow
import pyarrow.parquet
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Channel, artifact_utils, standard_artifacts

from branchline.components import MixedExampleGen, Router
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen.component import Executor as Ingester
from branchline.components.router.component import Executor as RouterExecutor
from branchline.pipeline.local import BEAM_ARGS
from branchline.schemas import Categorical, Image, Numeric, Route, RoutingTable, Text, when

VALUES = 224 * 224 * 3
TABLE = RoutingTable(
    Route(
        "picture",
        when.present("pixels"),
        features={"pixels": Image(224, 224, 3)},
        label="y",
        task="binary",
    ),
    Route(
        "small",
        when.present("x"),
        features={"x": Numeric(), "colour": Categorical(), "words": Text()},
        label="y",
        task="binary",
    ),
)
PICTURES, SMALL = 60, 1200


def small(number):
    return {"x": number / 2, "colour": "red", "words": "a b", "y": number % 2}


def pictures(rows=PICTURES):
    colours = [[i * 7 % 256 for i in range(VALUES)], [0] * VALUES]
    return ({"pixels": colours[i % 2], "y": i % 2} for i in range(rows))


def write_lines(path, rows):
    with open(path, "w") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


def write_parquet(path, kind):
    schema = pyarrow.schema({"pixels": pyarrow.list_(kind), "y": pyarrow.int64()})
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        writer.write_table(pyarrow.Table.from_pylist(list(pictures()), schema))


def write_avro(path):
    fields = [
        {"name": "pixels", "type": {"type": "array", "items": "float"}},
        {"name": "y", "type": "long"},
    ]
    with open(path, "wb") as file:
        fastavro.writer(file, {"type": "record", "name": "r", "fields": fields}, pictures())


def many_keys():
    for _ in range(3):
        yield {"x": 1.5, "y": 1} | {f"key number {i}": i for i in range(10_000)}
        yield from map(small, range(SMALL))


def long_lists():
    long = [0.5] * 1_000_000
    yield from [{"x": long, "y": 1}, {"x": 1, "colour": long, "y": 1}]
    yield {"x": 1, "other": long, "y": 1}
    yield from map(small, range(SMALL))


# Name → how it is written, and MiB.
CASES = {
    "pictures.jsonl": (lambda path: write_lines(path, pictures()), 320),
    "pictures.parquet": (lambda path: write_parquet(path, pyarrow.int64()), 320),
    "pictures-of-floats.parquet": (lambda path: write_parquet(path, pyarrow.float64()), 320),
    "pictures.avro": (write_avro, 320),
    "many-keys.jsonl": (lambda path: write_lines(path, many_keys()), 320),
    # A million floats are 4 MB; what says that they are too many is their text, of 5 MB.
    "long-lists.jsonl": (lambda path: write_lines(path, long_lists()), 768),
}


def run(path):
    """Reason → how many records were quarantined, of both steps."""
    context = BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM_ARGS))
    folder = path.parent / f"out-{path.name}"
    examples = build.empty_artifact(standard_artifacts.Examples, folder / "examples")
    outputs = {
        "examples": [examples],
        "quarantine": [build.empty_artifact(Quarantine, folder / "q")],
    }
    step = MixedExampleGen(str(path), routing=TABLE)
    Ingester(context).Do({}, outputs, step.exec_properties)
    examples.split_names = artifact_utils.encode_split_names(["eval", "train"])
    inputs = {"examples": [examples], "example_quarantine": outputs["quarantine"]}
    routed = build.empty_artifact(standard_artifacts.Examples, folder / "routed")
    outputs = {
        "routed_examples": [routed],
        "quarantine": [build.empty_artifact(Quarantine, folder / "q2")],
    }
    step = Router(Channel(standard_artifacts.Examples), TABLE)
    RouterExecutor(context).Do(inputs, outputs, step.exec_properties)
    reasons = {}
    for name in ("q", "q2"):
        reasons |= json.loads((folder / name / "counts.json").read_text())["quarantined"]
    shutil.rmtree(folder)
    return reasons


def held():
    """Bytes of the memory that the limit counts."""
    (line,) = [each for each in Path("/proc/self/status").open() if each.startswith("VmData")]
    return int(line.split()[1]) * 1024


def main():
    folder = Path(sys.argv[1])
    for name, (write, _) in CASES.items():
        write(folder / name)
    write_lines(folder / "warm.jsonl", map(small, range(SMALL)))
    with contextlib.redirect_stdout(sys.stderr):
        run(folder / "warm.jsonl")
        small_held, found = held(), {}
        for name, (_, limit) in CASES.items():
            most = small_held + (limit << 20)
            resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
            print(name, file=sys.stderr)
            try:
                found[name] = run(folder / name)
            except Exception as error:  # noqa: BLE001 - told to the test
                found[name] = f"{type(error).__name__}: {str(error)[-300:]}"
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
