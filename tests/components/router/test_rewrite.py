"""The Router writes every field in its declared type, as Protobuf would write it."""

import builders as build
import pytest
import tensorflow as tf

from branchline.components.router.route_batch import BatchRouter
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, Text, when

LONG = "k" * 150  # so that lengths take two bytes
NUMBERS = [0, 1, -3, 2**24 + 1] * 20
CASES = {
    "float-of-int": ([0], Numeric(), "float", [0.0]),
    "floats-of-ints": (NUMBERS, Numeric(shape=(80,)), "float", [0.0, 1.0, -3.0, 2.0**24] * 20),
    "floats": ([0.0, 0.5, -2.0], Numeric(shape=(3,)), "float", [0.0, 0.5, -2.0]),
    "ints-of-floats": (
        [0.0, 300.0, -1.0],
        Numeric(shape=(3,), whole=True),
        "int",
        [0, 300, -1],
    ),
    "ints": ([0, 2**62, -1], Numeric(shape=(3,), whole=True), "int", [0, 2**62, -1]),
    "text-of-int": ([-(2**62)], Categorical(), "string", [b"%d" % -(2**62)]),
    "text-of-float": ([0.1], Categorical(), "string", [b"0.1"]),
    "text": (["ä" * 100], Categorical(), "string", ["ä".encode() * 100]),
}


@pytest.mark.parametrize("key", ["x", LONG], ids=["short-key", "long-key"])
@pytest.mark.parametrize("case", CASES)
def test_a_field_is_written_in_its_declared_type(case, key):
    values, kind, dtype, wanted = CASES[case]
    table = RoutingTable(
        Route("r", when.present(key), features={key: kind}, label="y", task="regression")
    )
    record = {key: values, "y": 1, "note": "n", "branchline.offset": 3}
    (text,) = BatchRouter(table)([build.example(record)]).examples["r"]
    assert build.read_example(text) == {
        key: (dtype, wanted),
        "y": ("float", [1.0]),
        "note": ("string", [b"n"]),
        "_route": ("string", [b"r"]),
    }
    rewritten = tf.train.Example.FromString(text)
    assert len(text) == len(rewritten.SerializeToString())  # nothing stands there twice


def test_rows_of_many_routes_keep_their_own_fields_in_order():
    table = RoutingTable(
        *(
            Route(
                f"r{n}",
                when.equals("kind", n),
                features={f"x{n}": Text()},
                label="y",
                task="binary",
            )
            for n in range(3)
        )
    )
    records = [{"kind": n % 4, f"x{n % 3}": f"t{n}", "y": n % 2} for n in range(24)]
    routed = BatchRouter(table)([build.example(record) for record in records])
    for n in range(3):
        rows = [build.read_example(text) for text in routed.examples[f"r{n}"]]
        mine = [build.example(each | {"_route": f"r{n}"}) for each in records if each["kind"] == n]
        assert rows == [build.read_example(each) for each in mine]
    assert [row for row, _ in routed.aside] == list(range(3, 24, 4))
