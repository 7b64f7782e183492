"""Labels that are lists of names: what the Router makes of them, and the entries training gets."""

import json

import builders as build
import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.branch_trainer.streams.labels import dense_label
from branchline.components.mixed_example_gen.declared import declared_by, read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.parse_csv import parse_csv
from branchline.components.mixed_example_gen.parse_json import parse_jsonl
from branchline.components.mixed_example_gen.split_records import choose_split
from branchline.components.router.route_batch import BatchRouter
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, Target, when
from branchline.schemas.class_names import NONE_OF_THEM

NAMES = ("a", "b c", "näh")
TABLE = RoutingTable(
    Route(
        "one",
        when.equals("r", 0),
        features={"x": Numeric()},
        label="t",
        task="multilabel",
        classes=NAMES,
        separator=";",
    ),
    Route(
        "some",
        when.equals("r", 1),
        features={"x": Numeric()},
        targets={
            "t": Target("multilabel", classes=NAMES[::-1], optional=True),
            "n": Target("multilabel", num_classes=3, optional=True),
            "learnt": Target("multilabel", classes="learn", optional=True),
            "kind": Target("multiclass", classes="learn", optional=True),
        },
    ),
    Route("text", when.present("x"), features={"t": Categorical()}, label="z", task="binary"),
)
ROUTER = BatchRouter(TABLE)
DECLARED = read_declared(declared_by(TABLE, None))
texts = st.sampled_from(["a", " a", "b c", "näh ", "", " ", "c", "a;b c", ";", "0", "2"])
some_texts = st.one_of(st.lists(texts, max_size=4), st.lists(st.integers(-1, 3), max_size=3))
kinds = st.sampled_from(["k", " ", " l", 3])
records = st.fixed_dictionaries(
    {"r": st.integers(0, 2), "x": st.just(1.0)},
    optional={"t": some_texts, "n": some_texts, "learnt": some_texts, "kind": kinds},
)


def wanted(target, held):
    """The entries of a list that a record holds; None if something in it is no name."""
    parts = [part for each in held for part in str(each).split(target.separator or "\0")]
    names = {part.strip() for part in parts} - {""}
    return None if names - set(target.names) else [int(name in names) for name in target.names]


def fate(record):
    """Label → entries (of what is learnt nothing), or why the record is set aside."""
    route = TABLE.routes[record["r"]]
    if route.name == "text" or not any(key in record for key in route.labels):
        return "label_missing"
    if record.get("kind") == " " and route.name == "some":
        return "unknown_class"
    there = {key: target for key, target in route.labels.items() if key in record and target.names}
    found = {key: wanted(target, record[key]) for key, target in there.items()}
    return "unknown_class" if None in found.values() else found


def as_read(record):
    (parsed,) = parse_jsonl([json.dumps(record).encode()], DECLARED)
    choose_split(parsed.record, {"train": 1})
    return encode_example(parsed.record, "file", 1)


@given(st.lists(records, min_size=1, max_size=20))
@settings(deadline=None, max_examples=80)
def test_a_list_has_an_entry_for_each_name_and_no_record_is_lost(some):
    routed = ROUTER([as_read(record) for record in some])
    aside = {row: problem.reason for row, problem in routed.aside}
    assert sum(map(len, routed.examples.values())) + len(aside) == len(some)
    for number, route in enumerate(TABLE.routes[:2]):
        fates = {row: fate(record) for row, record in enumerate(some) if record["r"] == number}
        bad = {row: of for row, of in fates.items() if isinstance(of, str)}
        assert {row: aside[row] for row in fates if row in aside} == bad
        good = [of for of in fates.values() if not isinstance(of, str)]
        rows = routed.examples.get(route.name, [])
        assert len(rows) == len(good)
        assert ROUTER(rows).examples.get(route.name, []) == rows  # as they are, once more
        for key, target in route.labels.items():
            if target.names and rows:
                column = TABLE.column(route.name, key)
                spec = {column: tf.io.VarLenFeature(tf.string)}
                parsed = tf.io.parse_example(tf.constant(rows, tf.string), spec)
                missing = [-1] * len(target.names)
                want = [of.get(key, missing) for of in good]
                labels = dense_label(parsed[column], target).numpy()
                assert labels.tolist() == want and labels.dtype == np.int8


def test_an_empty_list_to_be_learnt_from_is_told_from_a_missing_one():
    rows = ROUTER([as_read({"r": 1, "x": 1.0, "learnt": []}), as_read({"r": 1, "x": 1, "n": []})])
    held = [build.read_example(row).get("learnt") for row in rows.examples["some"]]
    assert held == [("string", [NONE_OF_THEM.encode()]), None]


def test_an_empty_list_is_none_of_them_in_every_format():
    lines = [b"r,x,t", b"0,1,", b"0,1,;", b"0,1,b c; a", b'0,1," a"']
    rows = [(each.record or {}).get("t") for each in parse_csv(lines, "", DECLARED)]
    assert rows == [None, [";"], ["b c; a"], [" a"]]
    records = [{"t": []}, {"t": [""]}, {"t": ""}, {"t": None}, {"u": {"v": 1}, "t": []}]
    found = [next(parse_jsonl([json.dumps(each).encode()], DECLARED)).record for each in records]
    assert [each.get("t") for each in found] == [[], [], None, None, []]


def test_the_schema_knows_the_names_and_none_of_them():
    schema = {feature.name: feature for feature in declared_schema(TABLE).feature}
    assert [*schema["n"].string_domain.value] == ["0", "1", "2", NONE_OF_THEM]
    assert not schema["n"].value_count.HasField("max")
    assert not schema["learnt"].HasField("string_domain")
