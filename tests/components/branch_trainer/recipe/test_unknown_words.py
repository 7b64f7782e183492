"""How much of a text or a category its vocabulary does not know, and that it is told."""

import builders as build
import pytest

from branchline.components.branch_trainer.recipe.unknown_words import told_unknown, unknown_shares
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, Tags, Text, when

LABEL = {"label": "y", "task": "binary"}
TABLE = RoutingTable(
    Route(
        "chinese",
        when.present("t"),
        features={"t": Text(), "by": Categorical(), "x": Numeric()},
        **LABEL,
    ),
    Route(
        "cut",
        when.present("c"),
        features={"c": Text(tokens="characters"), "tags": Tags(max_values=1)},
        **LABEL,
    ),
    Route("number", when.present("n"), features={"n": Numeric()}, **LABEL),
)
SIGNS = "日本語中文字天地人山川木"


def records(shift):
    """Texts without spaces, backwards where `shift` is 1, and an id that no other shift has."""
    return [
        record | {"y": number % 2}
        for number in range(12)
        for text in [(SIGNS[number:] + SIGNS[:number])[:: 1 - 2 * shift]]
        for record in (
            {"t": text, "by": f"{shift}-{number}" if number else "0-1", "x": 1.0},
            {"c": text, "tags": ["often", "seldom"] if number < 6 else ["often"]},
            {"n": 1.0},
        )
    ]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("unknown")
    train, held = (build.route_rows(TABLE, records(shift)) for shift in (0, 1))
    output, _ = build.transform(root / "t", TABLE, train, materialize=False)
    both = build.routed_artifact(root / "both", {"train": train, "eval": held})
    alone = build.routed_artifact(root / "alone", {"fit": train})
    return *build.reader(TABLE, output), both.uri, alone.uri


@pytest.fixture(scope="module")
def shares(given):
    reader, _, both, _ = given
    return unknown_shares(reader, TABLE, [both], "train")


def test_the_share_is_counted_in_eval_of_what_has_a_vocabulary(shares):
    assert shares == {
        "chinese": {"t": 1, "by": pytest.approx(11 / 12)},
        "cut": {"c": 0, "tags": pytest.approx(6 / 18)},
    }


def test_without_eval_it_is_what_the_vocabulary_had_no_room_for(given):
    reader, _, _, alone = given
    found = unknown_shares(reader, TABLE, [alone], "fit")
    assert found["chinese"] == {"t": 0, "by": 0}
    assert found["cut"] == {"c": 0, "tags": pytest.approx(6 / 18)}


def test_more_than_half_is_one_line_with_route_key_share_and_what_to_do():
    shares = {"chinese": {"t": 0.97, "by": 0.51}, "cut": {"c": 0.5, "tags": 0.2}}
    words, categories = told_unknown(shares, TABLE)
    for each in ("route chinese", "97%", "'t'", "words", 'Text(tokens="characters"'):
        assert each in words
    for each in ("51%", "'by'", "Hashed(buckets)"):
        assert each in categories


def test_no_more_than_some_rows_of_each_file_are_read(given):
    reader, _, both, _ = given
    files = {"number": [f"{both}/Split-train/number-0000{i}-of-00002.gz" for i in (0, 1)]}
    counts = [len(labels["y"]) for _, _, labels in reader.parts(files, 4)]
    assert sum(counts) == 8
