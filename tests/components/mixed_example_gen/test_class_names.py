"""Labels by name, from every format: what their readers make of booleans, numbers and texts."""

import json

import builders as build
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from branchline.components.mixed_example_gen.declared import declared_by, read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.components.router.route_batch import BatchRouter
from branchline.schemas import Numeric, Route, RoutingTable, when

CLASSES = {"flag": ("false", "true"), "stars": ("1", "2", "3"), "said": ("no", "yes")}
TABLE = RoutingTable(
    *(
        Route(
            key,
            when.equals("r", key),
            features={"x": Numeric()},
            label=key,
            task="multiclass",
            classes=classes,
        )
        for key, classes in CLASSES.items()
    )
)
ROUTER = BatchRouter(TABLE)
DECLARED = read_declared(declared_by(TABLE, None))


def as_jsonl(key, values, path):
    path = path / "a.jsonl"
    lines = [json.dumps({"r": key, "x": 1.0, key: value}) for value in values]
    path.write_text("\n".join(lines))


def as_csv(key, values, path):
    rows = [f"{key},1.0,{value}" for value in values]
    (path / "a.csv").write_text("\n".join([f"r,x,{key}", *rows]))


def as_parquet(key, values, path):
    columns = {"r": [key] * len(values), "x": [1.0] * len(values), key: values}
    pq.write_table(pa.table(columns), str(path / "a.parquet"))


def as_categories(key, values, path):
    """As pandas writes categories."""
    columns = {"r": [key] * len(values), "x": [1.0] * len(values)}
    columns[key] = pa.array(values).dictionary_encode()
    pq.write_table(pa.table(columns), str(path / "a.parquet"))


def as_avro(key, values, path):
    kind = {bool: "boolean", int: "long", float: "double", str: "string"}[type(values[0])]
    fields = [("r", "string"), ("x", "double"), (key, kind)]
    schema = {"type": "record", "name": "row"}
    schema["fields"] = [{"name": name, "type": of} for name, of in fields]
    with (path / "a.avro").open("wb") as file:
        fastavro.writer(file, schema, [{"r": key, "x": 1.0, key: value} for value in values])


ANY = [as_jsonl, as_csv, as_parquet, as_avro]
CASES = [
    *((write, "flag", [True, False], ["true", "false"]) for write in ANY),
    (as_csv, "flag", ["true", "FALSE", " TRUE", "0"], ["true", "false", "true", "false"]),
    (as_jsonl, "flag", ["true", "False", 1], ["true", "false", "true"]),
    *((write, "stars", [3, 1], ["3", "1"]) for write in ANY),
    *((write, "stars", [3.0, 1.0], ["3", "1"]) for write in ANY),
    *((write, "said", ["yes", " no "], ["yes", "no"]) for write in (*ANY, as_categories)),
]


@pytest.mark.parametrize(("write", "key", "values", "names"), CASES)
def test_a_class_is_named_as_a_format_writes_it(tmp_path, write, key, values, names):
    write(key, values, tmp_path)
    (file,), _ = find_files([str(tmp_path)])
    records = [parsed.record for parsed in read_records(file, DECLARED)]
    found = ROUTER([encode_example(record, "f", 1) for record in records if record])
    assert not found.aside
    labels = [build.read_example(row)[key] for row in found.examples[key]]
    assert labels == [("string", [name.encode()]) for name in names]


def test_a_fraction_is_no_class(tmp_path):
    as_csv("stars", ["3", "2.5"], tmp_path)
    (file,), _ = find_files([str(tmp_path)])
    records = [parsed.record for parsed in read_records(file, DECLARED)]
    found = ROUTER([encode_example(record, "f", 1) for record in records if record])
    assert [(row, problem.reason) for row, problem in found.aside] == [(1, "unknown_class")]
