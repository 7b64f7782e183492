"""A table of kinds that take any number of values, records of it, and what they come to.

`expected` says in plain Python what the documentation of the kinds says.
"""

import collections
import functools
import tempfile
from pathlib import Path
from typing import Any

import builders as build
import numpy as np
import tensorflow as tf

from branchline.schemas import (
    Categorical,
    Embedding,
    Hashed,
    Ids,
    Numeric,
    Route,
    RoutingTable,
    Sequence,
    Tags,
    when,
)


def features(prefix):
    return {
        f"{prefix}tags": Tags(max_values=4, length=3),
        f"{prefix}cell": Tags(max_values=9, separator=";"),
        f"{prefix}clicks": Sequence(Categorical(max_values=4), max_length=3),
        f"{prefix}ids": Sequence(Ids(9), max_length=4),
        f"{prefix}readings": Sequence(Numeric(), max_length=3),
        f"{prefix}times": Sequence(Numeric(whole=True), max_length=3),
        f"{prefix}pages": Sequence(Hashed(50), max_length=2),
        "user": Hashed(1000),
        "vector": Embedding(3),
    }


def route(name, prefix):
    mine = when.equals("kind", name)
    return Route(name, mine, features=features(prefix), label="y", task="binary")


TABLE = RoutingTable(route("one", ""), route("two", "b_"))


def is_sequence_of(kind, of):
    return isinstance(kind, Sequence) and isinstance(kind.kind, of)


def as_text(value):
    return value.encode() if isinstance(value, str) else str(value).encode()


def used(kind, values):
    """The values of a feature that count, as the type they are stored as."""
    if kind.dtype == "string":
        values = [as_text(value) for value in values]
    if isinstance(kind, Tags):
        if kind.separator:
            pieces = [value.split(kind.separator.encode()) for value in values]
            values = [piece.strip() for some in pieces for piece in some]
        return [value for value in values if value][: kind.length]
    if isinstance(kind, Sequence):
        return values[-kind.max_length :]
    return values


def learn(route, records):
    """Key → value → index, where there is a vocabulary, or (mean, deviation) of numbers."""
    found: dict[str, Any] = {}
    for key, kind in TABLE[route].features.items():
        values = [each for record in records for each in used(kind, held(record, key))]
        if kind.vocabulary:
            counted = sorted(((n, v) for v, n in collections.Counter(values).items()), reverse=True)
            found[key] = {v: place for place, (_, v) in enumerate(counted[: kind.vocabulary], 1)}
        elif is_sequence_of(kind, Numeric):
            numbers = np.array(values, np.float64)
            found[key] = (numbers.mean(), numbers.std())
    return found


def held(record, key):
    values = record.get(key, [])
    values = values if isinstance(values, list) else [values]
    return [] if values == [""] else values


def expected(route, record, learnt):
    """Feature → what a branch gets of a record; the padding of a list that varies is cut off."""
    found = {}
    for key, kind in TABLE[route].features.items():
        values: Any = used(kind, held(record, key))
        of = kind.kind if isinstance(kind, Sequence) else kind
        if kind.vocabulary:
            values = [learnt[key].get(v, len(learnt[key]) + 1) for v in values]
        elif isinstance(of, Hashed):
            values = [tf.strings.to_hash_bucket_fast(v, of.buckets).numpy() + 1 for v in values]
            values = values if isinstance(kind, Sequence) else (values or [0])
        elif isinstance(of, Ids):
            values = [value + 1 for value in values]
        elif is_sequence_of(kind, Numeric):
            mean, deviation = learnt[key]
            values = [each for v in values for each in ((v - mean) / deviation, 1.0)]
        else:
            norm = np.linalg.norm(values)
            values = [v / norm * 3**0.5 if norm else 0.0 for v in values]
        found[key] = values
    return found


def draw(random, name, prefix):
    """A record of a route; whole numbers for texts at times, nothing at times."""
    words = ["a", "b", "c", "d", "e", "", "ü 日本", "x\ty", 7]

    def some(most, draw_fn):
        return [draw_fn() for _ in range(random.integers(0, most + 1))]

    record = {
        f"{prefix}tags": some(6, lambda: words[random.zipf(1.5) % 8]),
        f"{prefix}cell": "; ".join(some(4, lambda: "pqrst"[random.zipf(1.5) % 5])),
        f"{prefix}clicks": some(6, lambda: words[random.zipf(1.5) % 8]),
        f"{prefix}ids": some(6, lambda: int(random.integers(0, 9))),
        f"{prefix}readings": some(6, lambda: float(np.float32(random.normal(5, 3)))),
        f"{prefix}times": some(6, lambda: 1_764_000_000_000 + int(random.integers(0, 9000))),
        f"{prefix}pages": some(4, lambda: int(random.integers(-9, 9))),
        "user": [f"u{random.integers(0, 99)}", int(random.integers(0, 99))][random.integers(0, 2)],
        "vector": [float(np.float32(each)) for each in random.normal(0, 9, 3)],
    }
    filled = {key: values for key, values in record.items() if values not in ([], "", [""])}
    return {"kind": name, "y": int(random.integers(0, 2))} | filled


@functools.cache
def learnt():
    """Route → records, route → routed examples, and what the preprocessing has learnt of them."""
    random, folder = np.random.default_rng(0), tempfile.TemporaryDirectory()
    records = {
        name: [draw(random, name, prefix) for _ in range(80)]
        for name, prefix in (("one", ""), ("two", "b_"))
    }
    rows = build.route_rows(TABLE, [record for some in records.values() for record in some])
    root = Path(folder.name) / "t"
    output, _ = build.transform(root, TABLE, rows, materialize=False)
    return records, rows, output, folder
