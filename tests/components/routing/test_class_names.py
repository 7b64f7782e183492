"""Labels by name: what the Router makes of them, and the numbers that training gets."""

import builders as build
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.branch_evaluator.labels import Label
from branchline.components.branch_evaluator.read_batch import words_of
from branchline.components.branch_trainer.streams.labels import dense_label
from branchline.components.router.route_batch import BatchRouter
from branchline.components.routing.parse_batch import parse
from branchline.components.routing.read_fields import read_table_fields
from branchline.components.routing.routing_fn import route_index
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, Target, when
from branchline.schemas.class_names import spellings

X = {"features": {"x": Numeric()}}
# `y` is a label by name in three routes, of other names, a whole number in one, and a text in one.
TABLE = RoutingTable(
    Route(
        "mail",
        when.equals("r", 0),
        **X,
        label="y",
        task="multiclass",
        classes=("spam", "ham", "1", "näh"),
    ),
    Route("answer", when.equals("r", 1), **X, label="y", task="binary", classes=("false", "true")),
    Route(
        "several",
        when.equals("r", 2),
        **X,
        targets={
            "y": Target("binary", classes=("ham", "no")),
            "pair": Target("multiclass", classes=("a", "b", "ham"), shape=(2,), optional=True),
        },
    ),
    Route("code", when.equals("r", 3), **X, label="y", task="binary"),
    Route(
        "text",
        when.equals("r", 4),
        features={"x": Numeric(), "y": Categorical()},
        label="z",
        task="binary",
    ),
)
ROUTER = BatchRouter(TABLE)
texts = st.sampled_from(
    ["spam", "ham", "1", "0", "näh", "false", "true", "TRUE", "no", "a", "b", "SPAM", "2"]
)
spaced = st.builds(str.__add__, st.sampled_from(["", " ", "\t"]), texts)
values = st.one_of(
    st.lists(spaced, min_size=1, max_size=3),
    st.lists(st.integers(-1, 2), min_size=1, max_size=2),
    st.lists(st.sampled_from([0.0, 1.0, 1.5]), min_size=1, max_size=2),
)
records = st.fixed_dictionaries(
    {"r": st.integers(0, 4), "x": st.just(1.0)},
    optional={"y": values, "pair": values, "z": st.just(1)},
)


def numbers_of(target, held):
    """The class of each value, -1 for what names none: the promise of `Target(classes=)`."""
    known = spellings(target.classes)
    read = [each if isinstance(each, str) else f"{each:g}" for each in held]
    return [known.get(each.strip(), -1) for each in read]


def fate(record):
    """The numbers of the labels by name that the record's route has, or why it is set aside."""
    found = {}
    targets = TABLE.routes[record["r"]].labels.items()
    for key, target in targets:
        held = record.get(key)
        if not target.classes:
            continue
        if not held and not target.optional:
            return "label_missing"
        if held:
            if len(held) != target.num_values:
                return "wrong_shape"
            found[key] = numbers_of(target, held)
            if -1 in found[key]:
                return "unknown_class"
    return found


@given(st.lists(records, min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_a_label_is_the_place_of_its_name_and_no_record_is_lost(some):
    routed = ROUTER([build.example(record) for record in some])
    aside = {row: problem.reason for row, problem in routed.aside}
    assert sum(map(len, routed.examples.values())) + len(aside) == len(some)
    for number, route in enumerate(TABLE.routes[:3]):
        mine = [row for row, record in enumerate(some) if record["r"] == number]
        wanted = {row: fate(some[row]) for row in mine}
        assert {row: aside[row] for row in mine if row in aside} == {
            row: reason for row, reason in wanted.items() if isinstance(reason, str)
        }
        kept = [row for row in mine if row not in aside]
        labels_of: dict = wanted
        rows = routed.examples.get(route.name, [])
        assert len(rows) == len(kept)
        for key, target in route.labels.items():
            column = TABLE.column(route.name, key)
            for example, row in zip(rows, kept, strict=True):
                numbers = labels_of[row].get(key)
                names = [target.classes[each].encode() for each in numbers or ()]
                held = build.read_example(example).get(column, ("string", []))
                assert held == ("string", names)
            parsed = tf.io.parse_example(
                tf.constant(rows, tf.string), {column: tf.io.VarLenFeature(tf.string)}
            )
            labels = dense_label(parsed[column], target).numpy()
            missing = [-1] * target.num_values
            want = [labels_of[row].get(key, missing) for row in kept]
            assert labels.dtype == np.int64 and labels.shape == (len(kept), *target.shape)
            assert labels.reshape(-1, target.num_values).tolist() == want


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def read_columns(serialized):
    entries = parse(serialized, TABLE)
    return read_table_fields(TABLE, entries, route_index(TABLE, entries), label=True).columns


@given(st.lists(records, min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_columns_hold_the_names_that_the_routed_examples_hold(some):
    serialized = [build.example(record) for record in some]
    columns = read_columns(tf.constant(serialized))
    routed = ROUTER(serialized)
    for route in TABLE.names:
        column = TABLE.column(route, "y")
        sparse = columns[column]
        rows = sparse.indices.numpy()[:, 0].tolist()
        held = [rows.count(row) for row in range(len(some))]
        found = dict.fromkeys(range(len(some)), ())
        for row, value in zip(rows, sparse.values.numpy().tolist(), strict=True):
            found[row] += (value,)
        examples = iter(routed.examples.get(route, []))
        aside = {row for row, _ in routed.aside}
        for row, record in enumerate(some):
            if TABLE.routes[record["r"]].name == route and row not in aside:
                _, values = build.read_example(next(examples)).get(column, (None, []))
                assert list(found[row]) == values and held[row] == len(values)


def test_a_text_that_names_no_class_is_told_with_those_that_there_are():
    rows = [{"r": 0, "x": 1.0, "y": "nope"}, {"r": 2, "x": 1.0, "y": "no", "pair": ["a", "x"]}]
    routed = ROUTER([build.example(row) for row in rows])
    assert [(problem.reason, problem.detail) for _, problem in routed.aside] == [
        ("unknown_class", "y: expected one of 'spam', 'ham', '1', 'näh'"),
        ("unknown_class", "pair: expected one of 'a', 'b', 'ham'"),
    ]


def test_of_many_names_twenty_are_told():
    classes = tuple(f"c{i}" for i in range(300))
    table = RoutingTable(
        Route("r", when.present("x"), **X, label="y", task="multiclass", classes=classes)
    )
    (told,) = BatchRouter(table)([build.example({"x": 1.0, "y": "c300"})]).aside
    assert told[1].detail.endswith("'c19' … (300 in all)") and "c20" not in told[1].detail


def test_a_name_that_is_none_stops_training():
    target = Target("binary", classes=("no", "yes"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="none of the classes no, yes"):
        dense_label(tf.constant(["no", "maybe"]), target)


def test_the_schema_lists_the_names():
    features = {each.name: each for each in declared_schema(TABLE).feature}
    # A category of one route is under `y` too, whose values nobody knows.
    assert not features["y.string"].HasField("string_domain")
    assert list(features["pair"].string_domain.value) == ["a", "b", "ham"]
    table = RoutingTable(*TABLE.routes[:3])
    features = {each.name: each for each in declared_schema(table).feature}
    names = ["spam", "ham", "1", "näh", "false", "true", "no"]
    assert list(features["y"].string_domain.value) == names
    assert not features["y"].HasField("int_domain")


def test_what_a_row_has_to_hold_is_worded_as_names():
    route = TABLE["several"]
    assert words_of(Label(route, "y", "y.string", (), {})) == "one class name in 'y.string'"
    assert words_of(Label(route, "pair", "pair", (), {})) == "2 class names or none in 'pair'"
