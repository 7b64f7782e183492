"""The same records, written in every format, are read and routed the same way.

As far as the format can tell: a CSV cell has no type, so that whoever reads it decides.
"""

import bz2
import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import builders as build
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reference_routing import fate

from branchline.components.mixed_example_gen.declared import declared_by, read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.mixed_example_gen.ingest import read_records
from branchline.components.router.route_batch import BatchRouter
from branchline.components.routing.parse_batch import parse
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import Categorical, Ids, Numeric, Route, RoutingTable, Target, Text, when

TARGET = {"targets": {"y": Target("regression", optional=True), "z": Target("binary")}}
TABLE = RoutingTable(
    Route("flag", when.equals("flag", True), features={"size": Numeric()}, **TARGET),
    Route("code", when.isin("code", ["7", "x"]), features={"size": Numeric()}, **TARGET),
    Route("list", when.present("list"), features={"list": Ids(10, length=2)}, **TARGET),
    Route("float", when.dtype("value", "float"), features={"value": Numeric()}, **TARGET),
    Route("int", when.dtype("value", "int"), features={"value": Numeric()}, **TARGET),
    Route("text", when.dtype("value", "string"), features={"value": Text()}, **TARGET),
    Route("big", when.greater("size", 2.5), features={"tag": Categorical()}, **TARGET),
    Route("inner", when.equals("a.b", "in"), features={"tag": Categorical()}, **TARGET),
    Route("rest", when.not_(when.equals("tag", "")), features={"tag": Categorical()}, **TARGET),
)
ROUTER = BatchRouter(TABLE)
DECLARED = read_declared(declared_by(TABLE, None))

ints = st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)
floats = st.sampled_from([0.1, 3.0, -0.0, 2.5]) | st.floats(width=32, allow_nan=False).filter(
    lambda x: abs(x) < 3e38
)
texts = st.sampled_from(["", "7", "3.0", "x", "True", "NA", "null", " 5", "é\n\",'"]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=5
)
words = st.sampled_from(["w", "é", "no number", "-"])  # which no reader takes for another type
KINDS = {  # Arrow's type, Avro's and the values
    "bool": (pa.bool_(), "boolean", st.booleans()),
    "int": (pa.int64(), "long", ints),
    "float": (pa.float64(), "double", floats),
    "text": (pa.string(), "string", texts),
    "word": (pa.string(), "string", words),
    "ints": (pa.list_(pa.int64()), {"type": "array", "items": "long"}, st.lists(ints, max_size=3)),
}
# Key → the kinds of values it may have; a file has one, as tables do.
MAY_BE = {
    "flag": ("bool", "int"),
    "code": ("text",),
    "list": ("ints",),
    "value": ("int", "float", "word"),
    "size": ("int", "float", "bool"),
    "tag": ("text",),
    "y": ("int", "float"),
    "z": ("bool", "int"),
    "other": tuple(KINDS),
}


@st.composite
def tables(draw):
    """Records, each key of one kind in all of them, and the kinds."""
    kinds = {key: draw(st.sampled_from(of)) for key, of in MAY_BE.items()}
    values = {key: st.none() | KINDS[kind][2] for key, kind in kinds.items()}
    values["a"] = st.sampled_from([None, "in", "out"]).map(lambda b: {"b": b})
    return draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=6)), kinds


def as_lines(records, kinds):
    there = [{k: v for k, v in r.items() if v is not None or i % 2} for i, r in enumerate(records)]
    return "".join(f"{json.dumps(record)}\n" for record in there).encode()  # null, or no key


def as_list(records, kinds):
    return json.dumps(records, indent=1, ensure_ascii=False).encode()


def as_cells(records, kinds, delimiter=","):
    """Without lists, of which a cell has none."""
    names = [key for key, kind in kinds.items() if kind != "ints"]
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow([*names, "a.b"])
    for record in records:
        row = [record[name] for name in names] + [record["a"]["b"]]
        writer.writerow(["" if cell is None else cell for cell in row])
    return file.getvalue().encode()


def as_parquet(records, kinds):
    fields = [(key, KINDS[kind][0]) for key, kind in kinds.items()]
    schema = pa.schema([*fields, ("a", pa.struct([("b", pa.string())]))])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema), sink, compression="zstd")
    return sink.getvalue()


def as_avro(records, kinds):
    fields = [
        {"name": key, "type": ["null", KINDS[kind][1]], "default": None}
        for key, kind in kinds.items()
    ]
    inner = [{"name": "b", "type": ["null", "string"]}]
    fields.append({"name": "a", "type": {"type": "record", "name": "a", "fields": inner}})
    sink = io.BytesIO()
    schema = {"type": "record", "name": "row", "fields": fields}
    fastavro.writer(sink, fastavro.parse_schema(schema), records, codec="deflate")
    return sink.getvalue()


def as_examples(records, kinds):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tfrecord")
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                flat = {k: v for k, v in record.items() if v is not None and k != "a"}
                if record["a"]["b"] is not None:
                    flat["a.b"] = record["a"]["b"]
                writer.write(build.example(flat))
        return path.read_bytes()


FORMATS = {
    "a.jsonl": as_lines,
    "b.jsonl.gz": lambda *given: gzip.compress(as_lines(*given)),
    "c.json.zst": lambda *given: zstandard.compress(as_list(*given)),
    "d.parquet": as_parquet,
    "e.avro": as_avro,
    "f.tfrecord": as_examples,
    "g.tfrecord.gz": lambda *given: gzip.compress(as_examples(*given)),
    "h.csv": as_cells,
    "i.tsv.bz2": lambda *given: bz2.compress(as_cells(*given, delimiter="\t")),
}

CELLS = ("h.csv", "i.tsv.bz2")


def read(content, name):
    """The records of a file of this name and content."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(content)
        (file,), others = find_files([folder])
        parsed = list(read_records(file, DECLARED))
    assert not others and not [each for each in parsed if each.record is None]
    return [each.record for each in parsed]


def expected(record):
    """Key → values, as any format has them but CSV."""
    flat = {k: v for k, v in record.items() if k != "a"} | {"a.b": record["a"]["b"]}
    lists = {k: v if isinstance(v, list) else [v] for k, v in flat.items()}
    plain = {k: [int(x) if x is True or x is False else x for x in v] for k, v in lists.items()}
    return {k: v for k, v in plain.items() if v and v not in ([None], [""])}


def routed(records):
    """Of each record its route, or why it has none, and what came out of what the route reads."""
    found = {}
    batch = ROUTER([build.example(r | {"row": [i]}) for i, r in enumerate(records)])
    for row, problem in batch.aside:
        found[row] = (None, problem.reason, {})
    for route, examples in batch.examples.items():
        for each in map(build.read_example, examples):
            columns = TABLE.columns(route).values()
            read = {column: each[column] for column in columns if column in each}
            found[each["row"][1][0]] = (route, None, read)
    return [found[row] for row in range(len(records))]


def stored(record):
    """Key → the type of its values, and these, as an Example has them."""
    return build.read_example(encode_example(record, "", 1))


ODD = {"flag": True, "code": "7", "list": [], "value": 3.0, "size": None, "tag": "True"}
ODD |= {"y": 3, "z": True, "other": "NA", "a": {"b": ""}}
ODD_KINDS = dict.fromkeys(MAY_BE, "text") | {"flag": "bool", "list": "ints", "value": "float"}
ODD_KINDS |= {"size": "int", "y": "int", "z": "bool"}


@pytest.mark.parametrize("name", FORMATS)
@given(tables())
@example(([ODD, ODD | {"flag": None, "code": " 7"}, ODD | {"flag": False, "code": ""}], ODD_KINDS))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_the_same_records_route_the_same_way_in_every_format(name, table):
    records, kinds = table
    wanted = [expected(record) for record in records]
    content = FORMATS[name](records, kinds)
    got = read(content, name)
    if name in CELLS:
        wanted = [{k: v for k, v in r.items() if kinds.get(k) != "ints"} for r in wanted]
    else:
        assert list(map(stored, got)) == list(map(stored, wanted))
    assert routed(got) == routed(wanted)
    assert [each[:2] for each in routed(wanted)] == [fate(TABLE, record) for record in wanted]


KIND_OF = RoutingTable(
    *(
        Route(kind, when.dtype("v", kind), features={"x": Numeric()}, label="y", task="regression")
        for kind in ("int", "float", "string")
    )
)
# What each of 3, 3.0, "3", [3], true, null, "", [] and no key at all is in a format.
TOLD_APART = {
    "a.jsonl": ["int", "float", "string", "int", "int", None, None, None, None],
    "a.json": ["int", "float", "string", "int", "int", None, None, None, None],
    "a.tfrecord": ["int", "float", "string", "int", "int", None, None, None, None],
    # A cell is a number where it is written as one, and true a word.
    "a.csv": ["int", "float", "int", "string", "string", None, None, "string", None],
}


@pytest.mark.parametrize("name", TOLD_APART, ids=lambda name: f"D13-{name}")
def test_d13_values_are_told_apart_where_the_format_can(name, tmp_path):
    values = [3, 3.0, "3", [3], True, None, "", []]
    records = [{"v": value} for value in values] + [{}]
    if name == "a.tfrecord":
        made = [build.example({k: v for k, v in r.items() if v is not None}) for r in records]
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for each in made:
                writer.write(each)
    elif name == "a.csv":
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.DictWriter(file, ["v", "x"], quoting=csv.QUOTE_NONNUMERIC)
            writer.writeheader()
            writer.writerows(record | {"x": 0} for record in records)
    else:
        text = json.dumps(records) if name == "a.json" else "\n".join(map(json.dumps, records))
        (tmp_path / name).write_text(text)
    (file,), _ = find_files([str(tmp_path)])
    read = [p.record for p in read_records(file, read_declared(declared_by(KIND_OF, None)))]
    examples = tf.constant([build.example(record or {}) for record in read])
    index = route_index(KIND_OF, parse(examples, KIND_OF)).numpy()
    assert [[*KIND_OF.names, None][each] for each in index] == TOLD_APART[name]
