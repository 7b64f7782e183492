import apache_beam as beam
import builders as build
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from tfx.components.util import examples_utils
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from branchline.components import Router
from branchline.components.artifacts import Quarantine
from branchline.components.router.component import Executor
from branchline.components.router.route_examples import RouteBatches
from branchline.schemas import (
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Text,
    to_json,
    when,
)

# The names that the quarantine's own streams would have.
TABLE = RoutingTable(
    Route("lines", when.present("text"), features={"text": Text()}, label="good", task="binary"),
    Route("counts", when.present("x"), features={"x": Numeric()}, label="y", task="regression"),
)
TRAIN = [
    {"text": "a", "good": 1, "branchline.source": "f.jsonl", "branchline.offset": 1},
    {"text": "b", "good": 0, "branchline.source": "f.jsonl", "branchline.offset": 2},
    {"x": 1.5, "y": 2, "branchline.source": "f.jsonl", "branchline.offset": 3},
    {
        "text": "c",
        "good": 7,
        "note": ["p", "q"],
        "branchline.source": "f.jsonl",
        "branchline.offset": 4,
    },
    {"z": 1, "branchline.source": "g.csv", "branchline.offset": 2},
]
EVAL = [{"text": "d", "good": 1, "x": 3.0, "branchline.source": "f.jsonl", "branchline.offset": 5}]


def run(tmp_path, splits, *, limit=1.0, every_route=False, before=None):
    """Runs the executor; gives the routed examples, quarantine lines and counts."""
    rows = {split: [build.example(record) for record in records] for split, records in splits}
    inputs = {"examples": [build.examples_artifact(tmp_path / "examples", rows)]}
    if before is not None:
        inputs["example_quarantine"] = [build.quarantine_artifact(tmp_path / "before", before)]
    routed = build.empty_artifact(standard_artifacts.Examples, tmp_path / "routed")
    aside = build.empty_artifact(Quarantine, tmp_path / "aside")
    properties = {
        "routing": to_json(TABLE),
        "quarantine_limit": limit,
        "every_route": int(every_route),
        "code_version": "",
    }
    Executor().Do(inputs, {"routed_examples": [routed], "quarantine": [aside]}, properties)
    return routed, *build.read_quarantine(tmp_path / "aside")


def test_every_split_gets_a_split_for_every_route(tmp_path):
    routed, lines, counts = run(tmp_path, [("train", TRAIN), ("eval", EVAL)])
    splits = ["eval-counts", "eval-lines", "train-counts", "train-lines"]
    assert sorted(artifact_utils.decode_split_names(routed.split_names)) == splits
    assert examples_utils.get_file_format(routed) == "tfrecords_gzip"
    found = {
        split: list(map(build.read_example, build.read_split(routed, split))) for split in splits
    }
    assert found["eval-counts"] == []
    assert found["eval-lines"] == [
        {
            "_route": ("string", [b"lines"]),
            "text": ("string", [b"d"]),
            "good": ("int", [1]),
            "x": ("float", [3.0]),
        }
    ]
    assert found["train-counts"] == [
        {"_route": ("string", [b"counts"]), "x": ("float", [1.5]), "y": ("float", [2.0])}
    ]
    assert sorted(row["text"][1][0] for row in found["train-lines"]) == [b"a", b"b"]

    assert counts["in"] == 6 == sum(map(len, found.values())) + len(lines)
    assert counts["out"] == {split: len(rows) for split, rows in found.items()}
    assert counts["quarantined"] == {"label_out_of_range": 1, "no_route": 1}
    bad, stray = sorted(lines, key=lambda line: line["source"])
    assert (bad["source"], bad["offset"], bad["reason"]) == ("f.jsonl", 4, "label_out_of_range")
    assert bad["record"] == '{"good": 7, "note": ["p", "q"], "text": "c"}'
    assert (stray["source"], stray["offset"], stray["record"]) == ("g.csv", 2, '{"z": 1}')
    assert counts["samples"]["no_route"] == [stray]


def test_above_the_limit_the_run_fails_with_reasons_and_examples(tmp_path):
    with pytest.raises(BranchlineError) as error:
        run(tmp_path, [("train", TRAIN)], limit=0.39)
    message = str(error.value)
    assert "2 of 5 records were quarantined, 40.0% against a limit of 39.0%" in message
    assert (
        "no_route (1, such as g.csv:2: no route takes it; the routes are lines, counts)" in message
    )
    assert "label_out_of_range (1, such as f.jsonl:4: good: " in message


def test_what_was_set_aside_before_counts_towards_the_limit(tmp_path):
    sample = {"record": "{", "reason": "malformed_json", "detail": "cut off"}
    before = {
        "in": 10,
        "out": {"train": 5},
        "quarantined": {"malformed_json": 5},
        "samples": {"malformed_json": [sample | {"source": "f.jsonl", "offset": 9}]},
    }
    run(tmp_path / "under", [("train", TRAIN)], limit=0.7, before=before)
    with pytest.raises(BranchlineError) as error:
        run(tmp_path / "over", [("train", TRAIN)], limit=0.65, before=before)
    assert "7 of 10 records" in str(error.value)
    assert "malformed_json (5, such as f.jsonl:9: cut off)" in str(error.value)


def test_a_route_without_a_record_in_some_split_fails_if_every_route_needs_some(tmp_path):
    with pytest.raises(BranchlineError) as error:
        run(tmp_path, [("train", TRAIN), ("eval", EVAL)], every_route=True)
    assert "no record came to eval-counts;" in str(error.value)
    assert "train" not in str(error.value)


def test_an_empty_split_is_routed_to_empty_splits(tmp_path):
    routed, lines, counts = run(tmp_path, [("train", []), ("eval", EVAL)])
    assert build.read_split(routed, "train-lines") == []
    assert (counts["in"], lines) == (1, [])


def test_examples_that_know_no_source_are_set_aside_too(tmp_path):
    _, (line,), _ = run(tmp_path, [("train", [{"z": 1}])])
    assert (line["source"], line["offset"]) == (None, None)


def test_a_batch_comes_out_under_the_tags_of_its_routes():
    rows = [build.example(record) for record in TRAIN]
    with TestPipeline() as pipeline:
        routed = (
            pipeline
            | beam.Create([rows, rows])
            | beam.ParDo(RouteBatches(TABLE, "train")).with_outputs()
        )
        for route, number in {"lines": 4, "counts": 2}.items():
            many = routed[route] | f"Count{route}" >> beam.combiners.Count.Globally()
            assert_that(many, equal_to([number]), label=route)
        sums = routed[".counts"] | beam.CombinePerKey(sum)
        want = {
            "in/": 10,
            "out/train-lines": 4,
            "out/train-counts": 2,
            "quarantined/label_out_of_range": 2,
            "quarantined/no_route": 2,
        }
        assert_that(sums, equal_to(list(want.items())), label="counts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"routing": []}, r"Router.routing: got \[\], expected a RoutingTable"),
        ({"quarantine_limit": 5}, r"Router.quarantine_limit: got 5, expected a share in \[0, 1\]"),
    ],
    ids=["routing", "limit"],
)
def test_a_wrong_argument_is_named(arguments, message):
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    with pytest.raises(RecipeError, match=message):
        Router(examples, **{"routing": TABLE} | arguments)
