import math
import resource
from typing import NamedTuple

import builders as build
import numpy as np
import pytest
import strategies
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_routing import expected_route, expected_values, fate, held, kind_of, problem_of

from branchline.components.router.route_batch import BatchRouter
from branchline.components.routing.find import find
from branchline.components.routing.parse_batch import parse
from branchline.components.routing.plan_conditions import plan
from branchline.components.routing.read_fields import read_table_fields
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import (
    Categorical,
    Embedding,
    Hashed,
    Ids,
    Image,
    Numeric,
    Route,
    RoutingTable,
    Sequence,
    Tags,
    Target,
    Text,
    when,
)
from branchline.schemas.conditions import MOST_NESTED


def routes_of(table, records):
    """What the routing function itself says."""
    entries = parse(tf.constant([build.example(record) for record in records]), table)
    names = [*table.names, None]
    return [names[index] for index in route_index(table, entries).numpy()]


record_lists = st.lists(strategies.records, min_size=1, max_size=30)


@given(strategies.tables(), record_lists)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_first_route_whose_condition_holds_takes_the_record(table, records):
    assert routes_of(table, records) == [expected_route(table, record) for record in records]


def num_operations(table):
    signature = [tf.TensorSpec([None], tf.string)]
    function = tf.function(lambda x: route_index(table, parse(x, table)), input_signature=signature)
    return len(function.get_concrete_function().graph.get_operations())


def kinds_table(*groups):
    """A route for each group of values."""
    return RoutingTable(
        *(
            Route(f"r{i}", when.isin("kind", group), features={"x": Numeric()}, label="y", **BINARY)
            for i, group in enumerate(groups)
        )
    )


BINARY = {"task": "binary"}
TEN_THOUSAND = range(10_000)


def test_d28_ten_thousand_values_are_looked_up_and_cost_no_operation_more_than_two():
    texts, numbers = [f"k{i}" for i in TEN_THOUSAND], [i + 0.5 for i in TEN_THOUSAND]
    table = kinds_table([*texts, *numbers], [*texts, "other"])
    records = [{"kind": [value]} for value in ("k0", "k9999", 9999.5, "other", "k10000", 9999)]
    assert routes_of(table, records) == ["r0", "r0", "r0", "r1", None, None]
    assert num_operations(table) <= num_operations(kinds_table(["a", 0.5], ["a", "b"])) + 20


def test_d28_a_thousand_routes_cost_no_operation_more_than_two():
    table = kinds_table(*([f"k{i}"] for i in range(1000)))
    records = [{"kind": [f"k{i}"]} for i in (0, 999, 1000)]
    assert routes_of(table, records) == ["r0", "r999", None]
    assert num_operations(table) <= num_operations(kinds_table(["k0"], ["k1"])) + 20


def test_d28_a_condition_as_deep_as_the_limit_is_evaluated():
    condition = when.present("x0")
    for i in range(1, MOST_NESTED):  # either its key is there, or all that the ones before want
        both = when.all if i % 2 else when.any
        condition = both(condition, when.present(f"x{i}"))
    table = RoutingTable(Route("r", condition, features={"x": Numeric()}, label="y", **BINARY))
    odd = {f"x{i}": [1] for i in range(1, MOST_NESTED, 2)}
    records = [odd | {"x0": [1]}, odd, {"x1": [1]}, {f"x{MOST_NESTED - 1}": [1]}]
    assert routes_of(table, records) == ["r", None, None, None]
    assert routes_of(table, [odd | {"x2": [1]}]) == ["r"]


def tag_records(records):
    return [
        record | {"branchline.source": ["f"], "branchline.offset": [i]}
        for i, record in enumerate(records)
    ]


kinds = st.one_of(
    st.builds(Numeric, st.sampled_from([(), (2,)])),
    st.just(Categorical()),
    st.just(Text()),
    st.builds(Ids, st.just(3), st.integers(1, 2)),
    st.just(Image(1, 1, 1)),
)


@given(strategies.tables(kinds), record_lists)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_example_comes_out_once_where_the_documentation_says(table, records):
    records = [record | {"number": [i]} for i, record in enumerate(records)]
    routed = BatchRouter(table)([build.example(record) for record in tag_records(records)])
    found = {row: (None, problem.reason) for row, problem in routed.aside}
    assert len(found) == len(routed.aside)
    for name, examples in routed.examples.items():
        for example in map(build.read_example, examples):
            row = example["number"][1][0]
            assert row not in found, "an example came out twice"
            found[row] = (name, None)
            check_rewritten(table, name, records[row], example)
    assert found == {row: fate(table, record) for row, record in enumerate(records)}


def check_rewritten(table, name, record, example):
    """The declared fields in their types, every other one as it came, and nothing else."""
    route = table[name]
    assert example.pop("_route") == ("string", [name.encode()])
    for key, dtype in route.dtypes.items():
        kind, values = example.pop(table.column(name, key), (dtype, []))
        assert kind == dtype
        wanted = expected_values(held(record, key), dtype)
        assert wanted is None or values == wanted
    undeclared = {key: values for key, values in record.items() if key not in route.dtypes}
    for key, values in undeclared.items():
        # Under its own name, or with its type where that would stand in for another column.
        kind = kind_of(values)
        kept = example.pop(key, None) or example.pop(f"{key}.{kind}", None)
        stored = values if kind != "float" else [float(np.float32(value)) for value in values]
        stored = [value.encode() for value in values] if kind == "string" else stored
        assert kept == (kind, stored)
    assert example == {}


@given(strategies.tables(kinds), record_lists, st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_columns_of_a_mixed_batch_hold_each_rows_own_fields(table, records, label):
    fields = fields_of(table, [build.example(record) for record in records], label)
    routes = [table[name] if name else None for name in routes_of(table, records)]
    wanted = [
        problem_of(route, record, label=label) if route else None
        for route, record in zip(routes, records, strict=True)
    ]
    assert [problem.reason if problem else None for problem in fields.problems] == wanted
    keys = [list(r.dtypes if label else r.features) for r in table.routes]
    columns = [
        {key: table.column(route.name, key) for key in of}
        for route, of in zip(table.routes, keys, strict=True)
    ]
    assert set(fields.columns) == {name for of in columns for name in of.values()}
    for row, (route, record) in enumerate(zip(routes, records, strict=True)):
        of = columns[table.routes.index(route)] if route and not wanted[row] else {}
        found = {name: values[row] for name, values in fields.columns.items() if values[row]}
        assert set(found) == {name for key, name in of.items() if held(record, key)}
        for key, name in of.items():
            values = expected_values(held(record, key), route.dtypes[key])
            assert values is None or found.get(name, []) == values


TYPES = {"string": tf.string, "float": tf.float32, "int": tf.int64}


class Held(NamedTuple):
    """What `read_table_fields` gives, as Python's values: of every row a list, and a problem."""

    columns: dict
    problems: list


def fields_of(table, examples, label=True):
    problems = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def read(serialized):
        entries = parse(serialized, table)
        fields = read_table_fields(table, entries, route_index(table, entries), label=label)
        problems.extend(fields.problems)
        return fields.columns, fields.problem

    found, problem = read(tf.constant(examples, tf.string))
    columns = {}
    for name, column in found.items():
        assert column.dtype == TYPES[dtype_of(table, name)]
        assert column.dense_shape[0] == len(examples)
        order = column.indices.numpy().tolist()
        assert order == sorted(order)
        columns[name] = [[] for _ in examples]
        for (row, _), value in zip(order, column.values.numpy().tolist(), strict=True):
            columns[name][row].append(value)
    return Held(columns, [problems[each] if each >= 0 else None for each in problem.numpy()])


def dtype_of(table, column):
    """The type of a column's values."""
    for route in table.routes:
        for key, name in table.columns(route.name).items():
            if name == column:
                return route.dtypes[key]
    raise AssertionError(column)


LABEL_BINARY = {"label": "y", "task": "binary"}
TABLE = RoutingTable(
    Route("f", when.dtype("value", "float"), features={"value": Numeric()}, **LABEL_BINARY),
    Route("i", when.dtype("value", "int"), features={"value": Ids(5)}, **LABEL_BINARY),
    Route(
        "s",
        when.dtype("value", "string"),
        features={"value": Text(), "x/é. y": Categorical()},
        label="amount",
        task="regression",
    ),
    Route(
        "m",
        when.present("pixels"),
        features={"pixels": Image(1, 2, 1), "amount": Numeric(), "pair": Ids(3, length=2)}
        | {"series": Sequence(Numeric()), "steps": Sequence(Ids(4))},
        label="class",
        task="multiclass",
        num_classes=3,
    ),
    Route(
        "v",
        when.any(when.present("vector"), when.present("user")),
        features={"vector": Embedding(3), "user": Hashed(9)},
        **LABEL_BINARY,
    ),
)


@pytest.fixture(scope="module")
def router():
    return BatchRouter(TABLE)


def route_one(router, record):
    """(route, what the rewritten example holds) or (None, the problem)."""
    routed = router([build.example(record)])
    if routed.aside:
        assert not any(routed.examples.values())
        return None, routed.aside[0][1]
    (found,) = [(name, rows) for name, rows in routed.examples.items() if rows]
    (example,) = found[1]
    return found[0], build.read_example(example)


def test_a_float_an_int_and_a_text_under_one_key_are_three_kinds_with_a_column_each(router):
    records = [{"value": [v], "y": [1], "amount": [2.0]} for v in (3.0, 3, "3")]
    found = [route_one(router, record) for record in records]
    assert [name for name, _ in found] == ["f", "i", "s"]
    assert found[0][1]["value.float"] == ("float", [3.0])
    assert found[1][1]["value.int"] == ("int", [3])
    assert found[2][1]["value.string"] == ("string", [b"3"])
    assert not any("value" in example for _, example in found)


def test_an_empty_batch_gives_nothing(router):
    assert router([]) == ({}, [])


def test_a_batch_of_which_all_rows_take_one_route_gives_that_route_only(router):
    routed = router([build.example({"value": [1.5], "y": [0]})] * 3)
    assert {name: len(rows) for name, rows in routed.examples.items()} == {"f": 3}


def test_numbers_of_another_type_are_read_as_the_declared_one(router):
    record = {"pixels": [0, 255], "amount": [7], "pair": [0.0, 2.0], "class": [2.0]}
    name, example = route_one(router, record)
    assert name == "m"
    assert example["pixels"] == ("float", [0.0, 255.0])
    assert example["amount"] == ("float", [7.0])
    assert example["pair"] == ("int", [0, 2])
    assert example["class"] == ("int", [2])


def test_numbers_are_read_as_their_decimal_text_where_a_text_is_declared(router):
    for value, text in ((7, b"7"), (-1, b"-1"), (2.5, b"2.5"), (0.1, b"0.1")):
        record = {"value": ["t"], "x/é. y": [value], "amount": [1]}
        assert route_one(router, record)[1]["x/é. y"] == ("string", [text])


GOOD_M = {"pixels": [0.0, 1.0], "amount": [1.0], "pair": [0, 2], "class": [2]}
GOOD_V = {"vector": [1.0, 2.0, 3.0], "user": ["u"], "y": [1]}
BAD = {
    "label-missing": ({"value": [1.0]}, "label_missing", "y: the label is missing"),
    "label-empty": ({"value": [1.0], "y": []}, "label_missing", "y: "),
    "label-2": ({"value": [1.0], "y": [2]}, "label_out_of_range", "y: expected a label in [0, 2)"),
    "label-minus-1": ({"value": [1.0], "y": [-1]}, "label_out_of_range", "y: "),
    "label-half": ({"value": [1.0], "y": [0.5]}, "wrong_type", "y: got a fraction"),
    "label-nan": ({"value": [1.0], "y": [math.nan]}, "wrong_type", "y: got a fraction"),
    "label-huge": ({"value": [1.0], "y": [1e30]}, "wrong_type", "y: "),
    "label-text": ({"value": [1.0], "y": ["1"]}, "wrong_type", "y: got a text"),
    "label-twice": ({"value": [1.0], "y": [1, 1]}, "wrong_shape", "y: expected one label"),
    "label-class": (GOOD_M | {"class": [3]}, "label_out_of_range", "class: expected a label in [0"),
    "label-infinite": ({"value": ["t"], "amount": [math.inf]}, "not_finite", "amount: got NaN"),
    "nan": ({"value": [math.nan], "y": [1]}, "not_finite", "value: got NaN or infinity"),
    "infinity": (GOOD_M | {"pixels": [0.0, -math.inf]}, "not_finite", "pixels: "),
    "shape-short": (GOOD_M | {"pixels": [0.0]}, "wrong_shape", "pixels: expected 2 value(s)"),
    "shape-long": (GOOD_M | {"pixels": [0, 1, 2]}, "wrong_shape", "pixels: expected 2 value(s)"),
    "several-numbers": (GOOD_M | {"amount": [1.0, 2.0]}, "wrong_shape", "amount: expected 1"),
    "several-texts": ({"value": ["a", "b"], "amount": [1.0]}, "wrong_shape", "value: expected 1"),
    "text": (GOOD_M | {"amount": ["1"]}, "wrong_type", "amount: got a text, expected a number"),
    "ids-5": ({"value": [5], "y": [1]}, "out_of_range", "value: expected ids in [0, 5)"),
    "ids-minus-1": ({"value": [-1], "y": [1]}, "out_of_range", "value: "),
    "ids-second": (GOOD_M | {"pair": [0, 3]}, "out_of_range", "pair: expected ids in [0, 3)"),
    "ids-one": (GOOD_M | {"pair": [0]}, "wrong_shape", "pair: expected 2 value(s)"),
    "ids-half": (GOOD_M | {"pair": [0.5, 1.0]}, "wrong_type", "pair: got a fraction"),
    "ids-missing": (GOOD_M | {"pair": []}, "feature_missing", "pair: is missing, expected Ids"),
    "sequence-text": (GOOD_M | {"series": ["a"]}, "wrong_type", "series: got a text, expected a"),
    "sequence-nan": (GOOD_M | {"series": [1.0, math.nan]}, "not_finite", "series: got NaN"),
    "sequence-ids": (
        GOOD_M | {"steps": [0, 1, 4]},
        "out_of_range",
        "steps: expected ids in [0, 4)",
    ),
    "sequence-half": (GOOD_M | {"steps": [0.0, 0.5]}, "wrong_type", "steps: got a fraction"),
    "vector-missing": (GOOD_V | {"vector": []}, "feature_missing", "expected Embedding(dim=3)"),
    "vector-short": (GOOD_V | {"vector": [1, 2]}, "wrong_shape", "vector: expected 3 value(s)"),
    "vector-text": (GOOD_V | {"vector": ["1", "2", "3"]}, "wrong_type", "vector: got a text"),
    "hashed-twice": (GOOD_V | {"user": ["a", "b"]}, "wrong_shape", "user: expected 1 value(s)"),
    "no-route": ({"other": [1]}, "no_route", "no route takes it; the routes are f, i, s, m, v"),
    "nothing": ({}, "no_route", "no route takes it"),
}


@pytest.mark.parametrize(("record", "reason", "detail"), BAD.values(), ids=BAD)
def test_a_record_that_its_route_cannot_use_is_set_aside_and_says_why(
    router, record, reason, detail
):
    routed = router([build.example(record)])
    assert not any(routed.examples.values())
    (problem,) = [each for _, each in routed.aside]
    assert problem.reason == reason and detail in problem.detail


def test_the_good_record_behind_the_bad_ones_is_good(router):
    assert route_one(router, GOOD_M)[0] == "m"


def test_optional_values_may_be_missing(router):
    name, example = route_one(router, {k: v for k, v in GOOD_M.items() if k != "amount"})
    assert name == "m" and "amount" not in example
    name, example = route_one(router, {"value": ["t"], "amount": [1.5]})
    assert name == "s" and "x/é. y" not in example


def test_a_bad_row_does_not_disturb_its_neighbours(router):
    rows = [record for record, _, _ in BAD.values()]
    both = [record for bad in rows for record in (GOOD_M, bad)]
    routed = router([build.example(record) for record in both])
    assert [row for row, _ in routed.aside] == list(range(1, len(both), 2))
    alone = build.read_example(router([build.example(GOOD_M)]).examples["m"][0])
    assert [build.read_example(e) for e in routed.examples["m"]] == [alone] * len(rows)


# Every declared type with whatever may come, see the test below.
KINDS = [Numeric(), Numeric((3,)), Ids(9), Ids(9, 3), Categorical(), Categorical(3), Text()]
KINDS += [Tags(), Sequence(Numeric()), Sequence(Ids(9)), Sequence(Hashed(9)), Embedding(3)]
TARGETS = [Target(task, shape=shape) for task in ("binary", "regression") for shape in ((), (3,))]
CAME = [[value] * size for value in (1, 1.0, 1.5, "a") for size in (0, 1, 2, 3, 1000)]


def every_declaration():
    """A route for each kind of feature and label, and for each a record of its own."""
    routes, records = [], []
    for number, (kind, target) in enumerate((k, t) for k in KINDS for t in TARGETS):
        is_mine = when.equals("k", number)
        routes.append(Route(f"r{number}", is_mine, features={"x": kind}, targets={"y": target}))
        x, y = [1] * (kind.num_values or 1), [1] * math.prod(target.shape)
        records.append({"k": [number], "x": x, "y": y})
    return RoutingTable(*routes), records


def test_whatever_comes_for_what_is_declared_is_judged_in_its_own_row_alone():
    table, records = every_declaration()
    router = BatchRouter(table)
    mixed = [
        record
        for good in records
        for key in ("x", "y")
        for came in CAME
        for record in (good, good | {key: came})
    ]
    serialized = [build.example(record) for record in mixed]
    want = [fate(table, record) for record in mixed]

    def check(rows):
        routed = router([serialized[row] for row in rows])
        found = {rows[place]: problem.reason for place, problem in routed.aside}
        assert found == {row: want[row][1] for row in rows if want[row][1]}
        for name in table.names:
            taken = sum(want[row] == (name, None) for row in rows)
            assert len(routed.examples.get(name, [])) == taken

    check(range(len(mixed)))
    for first in range(0, len(mixed), 2):
        check([first, first + 1])
    assert {problem for _, problem in want} >= {None, "wrong_type", "wrong_shape", "label_missing"}


def test_d29_a_route_of_its_own_sets_texts_for_a_number_aside():
    table = RoutingTable(Route("x", when.present("x"), features={"x": Numeric()}, **LABEL_BINARY))
    good, bad = {"x": 1.5, "y": 1}, {"x": ["a", "b", "c"], "y": 0}
    routed = BatchRouter(table)([build.example(record) for record in (good, bad)])
    assert len(routed.examples["x"]) == 1
    ((row, problem),) = routed.aside
    assert (row, problem.reason) == (1, "wrong_type")


def test_undeclared_fields_pass_byte_for_byte(router):
    undeclared = {
        "bytes": build.feature([b"\x00\xff", b""]),
        "é/ü": build.feature([1.5, math.nan, -0.0]),
        "": build.feature([-(2**63), 2**63 - 1]),
        "class": build.feature("label of another route, as a text"),
        "none": build.feature([]),
        "empty": tf.train.Feature(float_list=tf.train.FloatList()),
    }
    example = tf.train.Example.FromString(build.example({"value": [1.0], "y": [1]}))
    for key, feature in undeclared.items():
        example.features.feature[key].CopyFrom(feature)
    (routed,) = router([example.SerializeToString()]).examples["f"]
    found = tf.train.Example.FromString(routed).features.feature
    # "class" would stand in for a column of ints.
    undeclared["class.string"] = undeclared.pop("class")
    assert {key: found[key].SerializeToString() for key in undeclared} == {
        key: feature.SerializeToString() for key, feature in undeclared.items()
    }
    assert set(found) == {*undeclared, "value.float", "y", "_route"}


def test_where_a_record_came_from_and_a_route_of_its_own_do_not_pass(router):
    record = {
        "value": [1.0],
        "y": [1],
        "branchline.source": ["f"],
        "branchline.offset": [3],
        "_route": ["i"],
    }
    name, example = route_one(router, record)
    assert (name, example["_route"]) == ("f", ("string", [b"f"]))
    assert not {"branchline.source", "branchline.offset"} & set(example)


def test_a_key_can_be_a_feature_of_one_route_and_the_label_of_another(router):
    name, example = route_one(router, {"value": ["t"], "amount": [3]})
    assert name == "s" and example["amount"] == ("float", [3.0])
    name, example = route_one(router, GOOD_M)
    assert name == "m" and example["amount"] == ("float", [1.0])


def test_bytes_that_are_no_example_fail_loudly(router):
    with pytest.raises(tf.errors.OpError):
        router([b"\xff\xff"])


def test_a_routed_example_can_be_routed_again(router):
    (routed,) = router([build.example(GOOD_M)]).examples["m"]
    (again,) = router([routed]).examples["m"]
    assert build.read_example(again) == build.read_example(routed)


def test_a_routed_example_is_read_again_though_its_keys_were_renamed(router):
    records = [{"value": [v], "y": [1], "amount": [2.0]} for v in (3.0, 3, "3")] + [GOOD_M, GOOD_V]
    routed = router([build.example(record) for record in records])
    again = router([example for name in TABLE.names for example in routed.examples[name]])
    assert again.aside == []
    for name in TABLE.names:
        first, second = (
            [build.read_example(example) for example in each.examples[name]]
            for each in (routed, again)
        )
        assert first == second


def test_of_a_key_and_its_columns_name_the_key_counts(router):
    name, example = route_one(router, {"value": [1.5], "value.float": [2.5], "y": [1]})
    assert (name, example["value.float"]) == ("f", ("float", [1.5]))


def test_an_empty_batch_has_no_fields():
    fields = fields_of(TABLE, [])
    assert fields.problems == [] and set(map(len, fields.columns.values())) == {0}


def test_one_long_record_is_not_what_all_others_are_padded_to(router):
    short, num = build.example(GOOD_M), 2000
    for values in ([1] * 200_000, [1.0] * 200_000, ["a"] * 200_000):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        routed = router([*[short] * num, build.example(GOOD_M | {"amount": values})])
        ((row, problem),) = routed.aside
        assert (row, len(routed.examples["m"])) == (num, num)
        assert problem.reason == ("wrong_type" if values[0] == "a" else "wrong_shape")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 500_000, f"{grown / 1e6:.1f} GB more"


def test_of_equal_keys_the_last_counts(router):
    features = [
        tf.train.Example.FromString(build.example(record)).features.SerializeToString()
        for record in (GOOD_M, {"amount": 9.0})
    ]
    # As a text field of another message, Features end to end become Features with a key twice.
    twice = tf.train.BytesList(value=[b"".join(features)]).SerializeToString()
    routed = router([twice])
    assert build.read_example(routed.examples["m"][0])["amount"] == ("float", [9.0])


def two_routes(condition):
    return RoutingTable(
        Route("a", condition, features={"x": Numeric()}, **LABEL_BINARY),
        Route("b", when.present("x"), features={"x": Numeric()}, **LABEL_BINARY),
    )


@pytest.mark.parametrize(
    "condition",
    [
        when.isin("k", [f"v{n}" for n in range(0, 4000, 2)]),
        when.isin("k", [*range(2**53, 2**53 + 40, 2), 0.1, "0.1", -0.0]),
        when.equals("k", 2**53 + 1),
        when.equals("k", float(2**53)),
        when.isin("k", [1e39, -1.5]),
        when.any(when.equals("k", 1.0), when.equals("other", 1)),
        when.all(when.isin("k", ["v2", "v4"]), when.not_(when.isin("k", ["v4", "v6"]))),
        when.not_(when.any(when.greater("k", 2**53), when.less("k", 0.1))),
        when.any(when.less("k", 0.5), when.greater("k", float(2**53))),
        when.any(when.less("k", -1e30), when.all(when.greater("k", -1e30), when.less("k", 1e30))),
    ],
    ids=["many", "mixed", "int", "float", "infinite", "keys", "overlap", "nested", "cast", "far"],
)
def test_comparisons_are_exact_whatever_the_kind_and_number_of_values(condition):
    values = [
        *(f"v{n}" for n in range(8)),
        2**53 - 1,
        2**53,
        2**53 + 1,
        2**53 + 2,
        0,
        1,
        -2,
        -(2**63),
        2**63 - 1,
    ]
    values += [0.1, -0.0, 1.0, -1.5, float(2**53), math.inf, math.nan, "0.1", "1", ""]
    records = [{"k": [value], "x": [1.0]} for value in values]
    records += [{"k": values[:2], "x": [1.0]}, {"other": [1], "x": [1.0]}]
    table = two_routes(condition)
    assert routes_of(table, records) == [expected_route(table, record) for record in records]


def wide_table(num, shared):
    """Routes that share their keys, or that have each their own."""
    routes = []
    for n in range(num):
        mine = "" if shared else f"{n}."
        condition = when.equals("kind", f"k{n}") if shared else when.present(f"{mine}x")
        features = {f"{mine}x": Numeric((2,)), f"{mine}c": Categorical()}
        routes.append(Route(f"r{n}", condition, features=features, label=f"{mine}y", task="binary"))
    return RoutingTable(*routes)


@pytest.mark.parametrize("shared", [True, False], ids=["same-keys", "own-keys"])
def test_the_router_is_as_large_for_two_hundred_routes_as_for_two(shared):
    sizes = []
    for num in (2, 200):
        table = wide_table(num, shared)
        router = BatchRouter(table)
        sizes.append(len(router._fn.get_concrete_function().graph.get_operations()))
    assert sizes[0] == sizes[1]
    mine = ["" if shared else f"{n}." for n in range(200)]
    records = [
        {"kind": [f"k{n}"], f"{key}x": [n, 1], f"{key}c": [n], f"{key}y": [n % 2]}
        for n, key in enumerate(mine)
    ]
    routed = router([build.example(record) for record in records])
    assert routed.aside == [] and list(routed.examples) == list(table.names)
    for n, key in enumerate(mine):
        (example,) = map(build.read_example, routed.examples[f"r{n}"])
        assert example[f"{key}x"] == ("float", [float(n), 1.0])
        assert example[f"{key}c"] == ("string", [str(n).encode()])


def test_equal_parts_of_conditions_are_evaluated_once():
    both = when.all(when.present("a"), when.equals("b", 1))
    planned = plan([both, when.not_(both), when.any(both, when.present("a"))])
    assert len(planned.atoms) == 2
    assert planned.roots[0] == (2, False) and planned.roots[1] == (2, True)


def test_a_thousand_values_of_one_condition_are_one_class():
    planned = plan([when.isin("a", range(1000)), when.isin("a", [5, "x"])])
    assert len(planned.atoms) == len(set(planned.classes.values())) == 3


def test_texts_are_found_among_known_ones_and_no_others():
    known = [f"k{n}" for n in range(999, -1, -1)]
    values = ["k0", "k999", "k1000", "", "K0", "k0 "]
    assert find(tf.constant(values), known).numpy().tolist() == [999, 0, -1, -1, -1, -1]
    assert find(tf.constant(["a"]), []).numpy().tolist() == [-1]
    assert find(tf.constant([], tf.string), known).numpy().tolist() == []
