import collections
import re

import builders as build
import numpy as np
import pytest
import tensorflow as tf

from branchline.components.transform.groups import output_name
from branchline.components.transform.vocabulary import vocabulary_sizes
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, Text, when

# Line breaks, tabs, what a delimiter or an escape might be, nothing at all, and no UTF-8.
ODD = [b"a\nb", b"a\rb", b"a\r\n", b"\n", b"\t", b"a\tb", b"1.a", b".", b"", b" ", b"a ", b"\\n"]
ODD += ["ü 日本 🙂".encode(), b"\xff\xfe\x00", b"\x00", b"a" * 5000, b"-", b"0", b"YQ", b"="]


def categories(limit):
    return {"colour": Categorical(limit)}


TABLE = RoutingTable(
    Route("few", when.present("a"), features=categories(3), label="y", task="binary"),
    Route("all", when.present("b"), features=categories(100), label="y", task="binary"),
    Route("odd", when.present("c"), features=categories(100), label="y", task="binary"),
    Route(
        "text",
        when.present("d"),
        features={"words": Text(max_words=6, length=4), "pairs": Text(length=4, ngrams=2)},
        label="y",
        task="binary",
    ),
    Route("none", when.present("e"), features=categories(3), label="y", task="binary"),
    Route("plain", when.present("f"), features={"x": Numeric()}, label="y", task="binary"),
)


def draw():
    random = np.random.default_rng(0)
    drawn = {
        "few": [b"v%d" % n for n in random.zipf(1.5, 200) % 20],
        "all": [b"v%d" % n for n in random.zipf(1.5, 300) % 40],
        "odd": [value for number, value in enumerate(ODD) for _ in range(number + 1)],
    }
    texts = [" ".join(f"W{n}" for n in random.zipf(1.4, 6) % 9).encode() for _ in range(60)]
    return drawn | {"text": texts}


VALUES = draw()


def row(route, value):
    if route == "text":
        return build.example({"_route": route, "words": value, "pairs": value})
    return build.example({"_route": route, "colour": value})


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    rows = [row(route, value) for route, values in VALUES.items() for value in values]
    rows = [rows[place] for place in np.random.default_rng(2).permutation(len(rows))]
    root = tmp_path_factory.mktemp("vocabulary") / "t"
    return build.transform(root, TABLE, {"a": rows}, materialize=False)[0]


@pytest.fixture(scope="module")
def transformer(output):
    return build.Transformer(output)


def index(transformer, route, key, values):
    found = transformer([row(route, value) for value in values])
    return tf.RaggedTensor.from_sparse(found[output_name(TABLE, route, key)]).to_list()


def ranked(values, limit):
    """Value → index, from 1: the more frequent first, of equally frequent ones the greater."""
    counted = sorted(((n, v) for v, n in collections.Counter(values).items()), reverse=True)
    return {value: place for place, (_, value) in enumerate(counted[:limit], start=1)}


@pytest.mark.parametrize(("route", "limit"), [("few", 3), ("all", 100), ("odd", 100)])
def test_a_category_is_its_rank_among_its_own_routes_values(route, limit, transformer):
    known = ranked(VALUES[route], limit)
    values = [*dict.fromkeys(VALUES[route]), b"never seen"]
    want = [[known.get(value, len(known) + 1)] for value in values]
    assert index(transformer, route, "colour", values) == want


def test_each_odd_value_has_an_index_of_its_own(transformer):
    assert len({place for (place,) in index(transformer, "odd", "colour", ODD)}) == len(ODD)


def words_of(text, ngrams):
    words = re.findall(rb"\w+", text.lower())
    runs = (
        b" ".join(words[at : at + n])
        for at in range(len(words))
        for n in range(1, ngrams + 1)
        if at + n <= len(words)
    )
    return list(runs)


@pytest.mark.parametrize(("key", "limit", "ngrams"), [("words", 6, 1), ("pairs", 20_000, 2)])
def test_a_text_is_its_words_ranks_in_order(key, limit, ngrams, transformer):
    texts = [words_of(text, ngrams) for text in VALUES["text"]]
    known = ranked([word for words in texts for word in words], limit)
    want = [[known.get(word, len(known) + 1) for word in words[:4]] for words in texts]
    assert index(transformer, "text", key, VALUES["text"]) == want


def test_a_text_is_cut_at_what_is_no_letter_or_digit(transformer):
    assert index(transformer, "text", "words", [b"--", b"W1, w1!W1\tw1 w1"])[0] == []
    (one,) = set(index(transformer, "text", "words", [b"-", b"W1, w1!W1\tw1 w1"])[1])
    assert one == index(transformer, "text", "words", [b"w1", b"w1"])[0][0]


def test_a_category_that_no_row_has_is_unknown(transformer):
    assert index(transformer, "none", "colour", [b"v1", b"v2"]) == [[1], [1]]


def test_sizes_are_of_every_routes_own_vocabulary(output):
    words = {word for text in VALUES["text"] for word in words_of(text, 1)}
    pairs = {word for text in VALUES["text"] for word in words_of(text, 2)}
    want = {
        ("few", "colour"): 3,
        ("all", "colour"): len(set(VALUES["all"])),
        ("odd", "colour"): len(ODD),
        ("text", "words"): min(6, len(words)),
        ("text", "pairs"): len(pairs),
        ("none", "colour"): 0,
    }
    assert vocabulary_sizes(output, TABLE) == want
    root = output.transform_savedmodel_dir.removesuffix("/transform_fn")
    assert vocabulary_sizes(root, TABLE) == want
