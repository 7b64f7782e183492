"""All kinds of feature: as documented, and prepared alike in training and when it serves."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import builders as build
import keras
import numpy as np
import pytest
import tensorflow as tf
from builders_encoder import write_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from branchline import schemas
from branchline.components.branch_trainer.recipe.encoders import encode
from branchline.components.branch_trainer.recipe.prepare import BY_TABLE, Preparation
from branchline.components.router.route_batch import BatchRouter
from branchline.schemas import Feature, Route, RoutingTable, features, when

DOCS = Path(__file__).parents[4] / "docs" / "reference" / "recipes.md"
ROW = re.compile(
    r"^ *\| `(?P<kind>\w+\(.*?\))` \| (?P<dtype>\w+) (?P<shape>\[.*?\])"
    r" \| (?P<layers>.*?) \| (?P<encoded>\[.*?\]) \|$",
    re.MULTILINE,
)
DOCUMENTED = {row["kind"]: row for row in ROW.finditer(DOCS.read_text(encoding="utf-8"))}
OPTIONS = (
    'Numeric(scale="log")',
    'Numeric((2,), scale="quantile")',
    "Numeric(clip=(0, 5))",
    "Numeric(whole=True)",
    'Text(tokens="characters", ngrams=2)',
    'Timestamp("ms", zone="Europe/Berlin")',
    'Tags(length=3, separator=";")',
    "Sequence(Numeric(whole=True), max_length=3)",
    'Image(70, 4, 1, stored="path")',
)
KEYS = {source: f"f{number}" for number, source in enumerate([*DOCUMENTED, *OPTIONS])}
NAMES = ("one", "two")


class Sides(NamedTuple):
    """What training gets and what is served."""

    table: RoutingTable
    router: BatchRouter
    reader: Any
    inputs: dict
    preparation: Preparation


def table_of(encoder):
    """A route of all kinds and options, and one of every third, in the opposite order."""
    kinds = {KEYS[source]: eval(source, vars(schemas)) for source in KEYS}
    encoded = {
        key: schemas.Text(encoder=str(encoder)) if getattr(kind, "encoder", None) else kind
        for key, kind in kinds.items()
    }
    return RoutingTable(
        *(
            Route(
                name,
                when.equals("kind", name),
                features=dict(list(encoded.items())[::step]),
                label="y",
                task="binary",
            )
            for name, step in zip(NAMES, (1, -3), strict=True)
        )
    )


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    table = table_of(write_encoder(root))
    random = np.random.default_rng(0)
    records = [draw(table, name, random, WORDS) for name in NAMES for _ in range(30)]
    output, _ = build.transform(
        root / "t", table, build.route_rows(table, records), materialize=False
    )
    reader, inputs = build.reader(table, output)
    return Sides(table, BatchRouter(table), reader, inputs, Preparation(table, inputs, output))


WORDS = ["good", "bad one", "日本語 中文", "x\ty;z", "résumé", "a\nb", "7"]
PNG, JPEG = (
    encode_fn(np.random.default_rng(1).integers(0, 256, (9, 7, 3)).astype(np.uint8)).numpy()
    for encode_fn in (tf.io.encode_png, tf.io.encode_jpeg)
)


def value_of(kind, random, words):
    """A value of a kind that a record may hold, as one of those who write records would."""
    some = lambda fn: [fn() for _ in range(random.integers(0, 6))]  # noqa: E731
    word = lambda: words[random.integers(0, len(words))]  # noqa: E731
    number = lambda: float(np.float32(random.normal() * 10.0 ** random.integers(-3, 6)))  # noqa: E731
    match kind:
        case features.Sequence():
            return some(lambda: value_of(kind.kind, random, words))
        case features.Tags():
            return some(word)
        case features.Bool():
            return [True, 0, "yes", "F"][random.integers(0, 4)]
        case features.Timestamp():
            return ["2024-02-29", "1999-12-31T23:59:59.5+02:00", int(random.integers(0, 2**31))][
                random.integers(0, 3)
            ]
        case features.Duration():
            return ["PT1H30M", "-0:20", number()][random.integers(0, 3)]
        case features.Ids():
            ids = random.integers(0, kind.num_ids, kind.length).tolist()
            return ids if kind.length > 1 else ids[0]
        case features.Image():
            if kind.is_file:
                return [PNG, JPEG][random.integers(0, 2)]
            return random.integers(0, 256, kind.num_pixels).tolist()
        case features.Numeric(whole=True):
            return 1_764_000_000_000 + int(random.integers(0, 9000))
        case features.Numeric() | features.Embedding():
            numbers = [number() for _ in range(kind.num_values or 1)]
            return numbers if kind.num_values != 1 else numbers[0]
    return word()


def draw(table, name, random, words):
    """A record of a route; what need not be there is missing at times."""
    record = {"kind": name, "y": int(random.integers(0, 2))}
    for key, kind in table[name].features.items():
        value = value_of(kind, random, words)
        if (kind.required or random.integers(0, 4)) and value not in ([], ""):
            record[key] = value
    return record


def test_every_kind_is_documented():
    kinds = {kind for kind in vars(features).values() if isinstance(kind, type)}
    due = {kind.__name__ for kind in kinds if issubclass(kind, Feature)} - {"Feature", "Written"}
    assert {source.partition("(")[0] for source in DOCUMENTED} == due


@pytest.mark.parametrize("source", DOCUMENTED)
def test_an_encoder_has_the_documented_input_layers_and_output(source, sides):
    row, key = DOCUMENTED[source], KEYS[source]
    spec = sides.inputs["one"][key]
    shape = [size if size is not None else "n" for size in spec.shape]
    assert f"{spec.dtype} {shape}".replace("'", "") == f"{row['dtype']} {row['shape']}"
    values = keras.Input(spec.shape, dtype=spec.dtype)
    encoded = encode(sides.table["one"], key, spec, values)
    assert list(encoded.shape[1:]) == eval(row["encoded"])
    layers = [] if encoded is values else keras.Model(values, encoded).layers[1:]
    assert [type(layer).__name__ for layer in layers] == re.findall(r"`(\w+)", row["layers"])


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2**32)), max_size=5),
    st.lists(st.text(max_size=9), max_size=3),
)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_served_is_prepared_as_what_is_trained_on(sides, drawn, words):
    records = [
        draw(sides.table, name, np.random.default_rng(seed), [*WORDS, *words])
        for name, seed in drawn
    ]
    raw = [{key: value for key, value in record.items() if key != "y"} for record in records]
    index, found = sides.preparation(
        tf.constant([*map(build.example, raw), ""], tf.string), tf.constant(BY_TABLE)
    )
    assert index.numpy().tolist() == [*(NAMES.index(name) for name, _ in drawn), -1]
    routed = sides.router([*map(build.example, records)])  # traced once, not for each example
    assert not routed.aside, routed.aside
    for name in NAMES:
        mine = [row for row, (route, _) in enumerate(drawn) if route == name]
        trained, _ = sides.reader.parse(name, tf.constant(routed.examples.get(name, []), tf.string))
        for key, spec in sides.inputs[name].items():
            served = found[spec.output].numpy()[mine]
            want = trained[key]
            want = want.to_tensor() if isinstance(want, tf.RaggedTensor) else want
            width = want.shape[1] if None in spec.shape else served.shape[1]
            np.testing.assert_array_equal(served[:, :width], want, err_msg=key)
            assert not served[:, width:].any()
