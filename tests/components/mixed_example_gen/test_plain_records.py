"""What is read and written fast gives what is read and written with care."""

import json

import builders as build
import pyarrow
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from branchline.components.mixed_example_gen import (
    ingest,
    parse_json,
    read_parquet,
    read_record,
    read_tables,
)
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.encode_example import encode_example, encode_rows
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.mixed_example_gen.parse_json import parse_jsonl
from branchline.components.mixed_example_gen.plain_rows import PlainRows, are_plain, one_by_one
from branchline.components.mixed_example_gen.ranges import Range
from branchline.components.mixed_example_gen.read_record import NotARecord
from branchline.components.mixed_example_gen.split_records import (
    _as_json,
    _to_json,
    choose_split,
    choose_splits,
)
from branchline.schemas import SplitByField
from branchline.schemas.errors import OFFSET, SOURCE

DECLARED = [
    Declared(),
    Declared(frozenset("ab"), frozenset("a"), frozenset("b")),
    Declared(numbers=frozenset("a"), wholes=frozenset("ab")),
    Declared(texts=frozenset("ab"), written=frozenset("ab")),
]
KEYS = st.sampled_from(["a", "b", "a.b", "", "é", '":', "c d", "\ud83d", OFFSET, "k" * 130])
INTS = st.sampled_from([0, -1, 127, 128, 2**14, 2**21 - 1, 2**21, 2**63 - 1, -(2**63)])
BIG = st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**30, int("9" * 400)])
FLOATS = st.floats(width=32) | st.sampled_from([3.0, -0.0, 1e300, 3.4028235e38])
TEXTS = st.text(max_size=5) | st.sampled_from(["", "x" * 117, "x" * 300, '"a":', "\ud83d", "1:2"])
ONE = st.none() | st.booleans() | INTS | BIG | FLOATS | TEXTS
VALUES = st.recursive(
    ONE | st.lists(INTS, max_size=3) | st.lists(FLOATS, max_size=3) | st.lists(TEXTS, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" , ", "\t:\r ")])


def outcome(function, *arguments):
    try:
        return repr(function(*arguments))  # tells 3 from 3.0, and NaN is like NaN
    except NotARecord as error:
        return error.args


def carefully(monkeypatch):
    monkeypatch.setattr(parse_json, "_parse_plain", lambda line: None)
    monkeypatch.setattr(read_record, "_read_plain", lambda value, declared: None)


@given(OBJECTS, st.sampled_from(DECLARED))
@example({"a": 3.0, "c d": 3.0}, DECLARED[2])
@example({"b": [1.0, 2.0]}, DECLARED[2])
@settings(deadline=None, max_examples=400)
def test_a_plain_object_is_read_as_any_other(value, declared):
    with pytest.MonkeyPatch.context() as patch:
        fast = outcome(read_record.read_record, value, declared)
        carefully(patch)
        assert fast == outcome(read_record.read_record, value, declared)


@given(
    st.lists(st.tuples(KEYS, VALUES), max_size=5),
    SEPARATORS,
    st.booleans(),
    st.sampled_from(DECLARED),
)
@example([("a", 1), ("a", 2)], (",", ":"), True, DECLARED[0])
@example([("a", '":'), ("a", 2), ("b", 1)], (",", " :"), True, DECLARED[0])
@example([("b", 10**30), ("é", "1:2")], (",", ":"), False, DECLARED[1])
@settings(deadline=None, max_examples=400)
def test_a_line_is_parsed_fast_to_the_same_record_or_reason(pairs, separators, ascii, declared):
    between, colon = separators
    parts = [
        f"{json.dumps(key, ensure_ascii=ascii)}{colon}"
        f"{json.dumps(value, ensure_ascii=ascii, separators=separators)}"
        for key, value in pairs
    ]
    line = f"{{{between.join(parts)}}}".encode(errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        fast = outcome(list, parse_jsonl([line], declared))
        carefully(patch)
        assert fast == outcome(list, parse_jsonl([line], declared))


def test_most_lines_take_the_fast_way():
    lines = [b'{"a": 1, "t": "12:30", "f": [0.5, 1], "n": {"b": "\\"x\\""}}', b'{"a":null}']
    assert [parse_json._parse_plain(line) for line in lines] == list(map(json.loads, lines))


RECORDS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=140),
    st.lists(INTS, min_size=1, max_size=3)
    | st.lists(st.floats(width=32), min_size=1, max_size=3)
    | st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3)
    | st.lists(st.binary(max_size=200), min_size=1, max_size=3),
    max_size=6,
)


@given(RECORDS, st.sampled_from(["f.csv", "é" * 100, "\udcff.csv"]), st.integers(1, 2**62))
@example({"t": ["x" * size for size in (1, 113)]} | {"i": [1] * 200}, "f", 1)
@example({"t" * size: ["x" * (118 - size)] for size in range(1, 118)}, "f", 1)
@settings(deadline=None, max_examples=400)
def test_an_example_is_read_as_the_one_that_its_class_would_write(record, source, offset):
    place = {SOURCE: source.encode(errors="backslashreplace"), OFFSET: offset}
    feature = {key: build.feature(values) for key, values in (record | place).items()}
    made = tf.train.Example(features=tf.train.Features(feature=feature))
    for _ in range(2):  # once new, and once remembered
        encoded = encode_example(record, source, offset)
        read = tf.train.Example.FromString(encoded)
        texts = [each.SerializeToString(deterministic=True) for each in (read, made)]
        assert texts[0] == texts[1] and len(encoded) == len(texts[1])


@given(RECORDS, st.data())
@settings(deadline=None)
def test_what_a_split_hashes_is_its_json(record, data):
    assert _as_json(record, None) == _to_json(record)
    keys = data.draw(st.frozensets(st.sampled_from([*record, "no such"])))
    assert _as_json(record, keys) == _to_json({key: record[key] for key in keys & record.keys()})


COLUMNS = {
    "ints": pyarrow.array([1, -(2**63)]),
    "unsigned": pyarrow.array([2**64 - 1, 0], pyarrow.uint64()),
    "floats of 32 bits": pyarrow.array([1.5, 0.1], pyarrow.float32()),
    "floats": pyarrow.array([0.1, float("nan")]),
    "texts": pyarrow.array(["é\0", ""]),
    "large texts": pyarrow.array(["é", "x"], pyarrow.large_string()),
    "with nulls": pyarrow.array([1, None]),
    "booleans": pyarrow.array([True, False]),
    "bytes": pyarrow.array([b"\xff", b""]),
    "seconds": pyarrow.array([0, 1], pyarrow.timestamp("s")),
    "milliseconds": pyarrow.array([1, 2**40], pyarrow.timestamp("ms")),
    "microseconds": pyarrow.array([1, -(2**50)], pyarrow.timestamp("us")),
    "nanoseconds": pyarrow.array([1, 1000], pyarrow.timestamp("ns")),
    "with a zone": pyarrow.array([1, 2], pyarrow.timestamp("us", "Europe/Berlin")),
    "days": pyarrow.array([1, 2], pyarrow.date32()),
    "lists": pyarrow.array([[1, None], []]),
    "dictionary": pyarrow.array(["b", "a", "b"]).dictionary_encode(),
    "dictionary with nulls": pyarrow.array([None, "a", None, "b"]).dictionary_encode(),
    "dictionary of nulls": pyarrow.array([None, None], pyarrow.string()).dictionary_encode(),
    "dictionary of a null": pyarrow.DictionaryArray.from_arrays([0, 1, None], ["a", None]),
    "dictionary of bytes": pyarrow.array([b"\xff", b""]).dictionary_encode(),
    "dictionary of times": pyarrow.array([0, 1], pyarrow.timestamp("s")).dictionary_encode(),
    "part of a dictionary": pyarrow.array(["a", "b", "a", "c"]).dictionary_encode()[1:],
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_column_is_read_fast_to_the_same_cells(column):
    plain = [read_tables._plain(each.as_py()) for each in column]
    fast = [read_tables._plain(each) for each in read_parquet._to_list(column)]
    assert repr(fast) == repr(plain)


KEPT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
CELLS = [st.booleans(), INTS, BIG, FLOATS, KEPT, st.binary(max_size=3), st.decimals()]
TABLES = st.integers(1, 4).flatmap(
    lambda size: st.dictionaries(
        KEYS,
        st.sampled_from(CELLS).flatmap(
            lambda cells: st.lists(st.none() | cells, min_size=size, max_size=size)
        ),
        min_size=1,
        max_size=5,
    )
)
FIELDS = st.dictionaries(
    st.sampled_from("abz"), st.tuples(INTS | st.floats(width=32) | KEPT.filter(bool))
)
MANY = {f"s{number}": 1 for number in range(1000)}  # what is hashed otherwise shows


@given(
    TABLES,
    FIELDS,
    st.sampled_from(DECLARED),
    st.sampled_from([None, "a", "z", ""]),
    st.sampled_from(["f.parquet", "\udcff"]),
)
@example({"a": [0.0, -0.0, None]}, {}, DECLARED[0], None, "f")
@example({"a": [True, None, False], "b": ["", "x", None]}, {"b": (1,)}, DECLARED[0], "b", "f")
@example({"a": [1, 1, 2**63]}, {}, DECLARED[0], None, "f")
@settings(deadline=None, max_examples=600)
def test_plain_rows_get_together_what_each_gets_alone(columns, fields, declared, split_key, path):
    if not are_plain(columns, declared):
        return
    fields = {key: list(values) for key, values in fields.items()}
    rows = PlainRows(5, columns, fields)
    alone = list(one_by_one([rows], declared))
    records = [parsed.record for parsed in alone]

    assert [parsed.offset for parsed in alone] == list(range(5, 5 + rows.num_rows))
    each = [encode_example(parsed.record, path, parsed.offset) for parsed in alone]
    assert encode_rows(rows, path) == each
    keys = declared.keys
    each = [choose_split(record, MANY, split_key, keys) for record in records]
    assert choose_splits(rows, MANY, split_key, keys) == each
    assert rows.number_with(split_key) == sum(split_key in record for record in records)


@given(TABLES, st.sampled_from(DECLARED))
@settings(deadline=None, max_examples=400)
def test_rows_are_plain_only_if_nothing_is_wrong_with_any(columns, declared):
    if are_plain(columns, declared):
        for row in zip(*columns.values(), strict=True):
            value = dict(zip(columns, row, strict=True))
            assert read_record._read_plain(value, declared) is not None


@pytest.mark.parametrize("split", [None, "other", SplitByField("split")], ids=["", "key", "field"])
@pytest.mark.parametrize("folder", ["f", "zone=7", "other=", "branchline.source=1"])
def test_files_give_the_same_whether_their_rows_are_read_together_or_not(
    tmp_path, monkeypatch, split, folder
):
    (tmp_path / folder).mkdir()
    for name, column in COLUMNS.items():
        if name == "dictionary of a null":  # Arrow cannot write it
            continue
        texts = ["train", "eval", None, "other"][: len(column)]
        columns = {"a.b": column, "split": texts, "other": [None, *range(1, len(column))]}
        path = tmp_path / folder / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path, version="2.6")
    files, _ = find_files([str(tmp_path)])
    by_key = isinstance(split, str)
    splits, key = (MANY, split) if split is None or by_key else (split, None)

    def read():
        reader = ingest.ReadRecords(splits, key, Declared(numbers=frozenset(["other"])))
        return [
            repr([(each.tag, each.value) for each in reader.process(Range(file))]) for file in files
        ]

    together = read()
    monkeypatch.setattr(read_tables, "are_plain", lambda columns, declared: False)
    assert read() == together


def test_rows_of_plain_columns_are_read_together(tmp_path):
    plain = {"a": [1, None], "b": ["x", "x"], "c": [0.5, float("nan")], "d": [True, None]}
    pyarrow.parquet.write_table(pyarrow.table(plain), tmp_path / "a.parquet")
    (file,), _ = find_files([str(tmp_path)])
    (rows,) = ingest.read_some(file, Declared())
    assert isinstance(rows, PlainRows) and repr(rows.columns) == repr(plain)
