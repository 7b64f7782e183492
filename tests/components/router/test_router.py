import errno
import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import builders as build
import pytest
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to, is_empty
from object_store import BUCKET, object_store
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx_bsl.public import tfxio

from branchline.components import Router, quarantine
from branchline.components.artifacts import Quarantine
from branchline.components.files import write_files
from branchline.components.files.routed import route_files
from branchline.components.router import route_examples
from branchline.components.router.component import Executor
from branchline.components.router.route_examples import RouteBatches
from branchline.pipeline.explain import explain
from branchline.schemas import (
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Text,
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


def run(tmp_path, splits, *, table=TABLE, before=None, root=None, **arguments):
    """Runs the executor; gives the routed examples, quarantine lines and counts."""
    rows = {split: [build.example(record) for record in records] for split, records in splits}
    artifacts = [build.examples_artifact(tmp_path / "examples", rows)]
    return run_on(tmp_path, artifacts, table=table, before=before, root=root, **arguments)


def run_on(tmp_path, artifacts, *, table=TABLE, before=None, root=None, **arguments):
    inputs = {"examples": artifacts}
    if before is not None:
        inputs["example_quarantine"] = [
            build.quarantine_artifact(tmp_path / f"before-{number}", counts)
            for number, counts in enumerate(before)
        ]
    routed = build.empty_artifact(standard_artifacts.Examples, root or tmp_path / "routed")
    aside = build.empty_artifact(Quarantine, tmp_path / "aside")
    channel = channel_utils.as_channel([standard_artifacts.Examples()])
    properties = Router(channel, table, **arguments).exec_properties
    Executor().Do(inputs, {"routed_examples": [routed], "quarantine": [aside]}, properties)
    return routed, *build.read_quarantine(tmp_path / "aside")


def read_route(routed, split, route):
    """The routed examples of one route, read as a trainer reads them."""
    files = route_files([routed.uri], split, [route])[route]
    rows = tf.data.TFRecordDataset(files, compression_type="GZIP") if files else []
    return [build.read_example(row.numpy()) for row in rows]


def files_of(routed):
    root = Path(routed.uri)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_inside_the_splits_that_came_every_route_has_its_files(tmp_path):
    routed, lines, counts = run(tmp_path, [("train", TRAIN), ("eval", EVAL)])
    assert sorted(artifact_utils.decode_split_names(routed.split_names)) == ["eval", "train"]
    assert examples_utils.get_file_format(routed) == "tfrecords_gzip"
    assert examples_utils.get_payload_format_string(routed) == "FORMAT_TF_EXAMPLE"
    # Nothing else is left behind, hidden or not.
    assert files_of(routed) == [
        "Split-eval/lines-00000-of-00001.gz",
        "Split-train/counts-00000-of-00001.gz",
        "Split-train/lines-00000-of-00001.gz",
    ]
    assert sorted(path.name for path in Path(routed.uri).iterdir()) == ["Split-eval", "Split-train"]
    found = {
        split: {route: read_route(routed, split, route) for route in TABLE.names}
        for split in ("train", "eval")
    }
    assert found["eval"]["counts"] == []
    assert found["eval"]["lines"] == [
        {
            "_route": ("string", [b"lines"]),
            "text": ("string", [b"d"]),
            "good": ("int", [1]),
            "x": ("float", [3.0]),
        }
    ]
    assert found["train"]["counts"] == [
        {"_route": ("string", [b"counts"]), "x": ("float", [1.5]), "y": ("float", [2.0])}
    ]
    assert sorted(row["text"][1][0] for row in found["train"]["lines"]) == [b"a", b"b"]
    # What reads a whole split, as TFX's components do, reads all routes.
    assert len(build.read_split(routed, "train")) == 3

    assert counts["out"] == {
        split: {route: len(rows) for route, rows in routes.items()}
        for split, routes in found.items()
    }
    assert counts["in"] == 6 == quarantine.number_out(counts["out"]) + len(lines)
    assert counts["quarantined"] == {"label_out_of_range": 1, "no_route": 1}
    bad, stray = sorted(lines, key=lambda line: line["source"])
    assert (bad["source"], bad["offset"], bad["reason"]) == ("f.jsonl", 4, "label_out_of_range")
    assert bad["record"] == b'{"good": 7, "note": ["p", "q"], "text": "c"}'
    assert (stray["source"], stray["offset"], stray["record"]) == ("g.csv", 2, b'{"z": 1}')
    assert counts["samples"]["no_route"] == [stray | {"record": '{"z": 1}'}]
    assert {line["component"] for line in lines} == {"Router"}


def test_above_the_limit_the_run_fails_with_reasons_and_examples(tmp_path):
    with pytest.raises(BranchlineError) as error:
        run(tmp_path, [("train", TRAIN)], quarantine_limit=0.39)
    message = str(error.value)
    assert "2 of 5 records were quarantined, 40.0% against a limit of 39.0%" in message
    assert (
        "no_route (1, such as g.csv:2: no route takes it; the routes are lines, counts)" in message
    )
    assert "label_out_of_range (1, such as f.jsonl:4: good: " in message


def test_a_reason_has_a_limit_of_its_own(tmp_path):
    limits = {"wrong_type": 0.0, "no_route": 0.2, "label_out_of_range": 0.2}
    run(tmp_path / "at", [("train", TRAIN)], reason_limits=limits)
    with pytest.raises(BranchlineError) as error:
        run(tmp_path / "over", [("train", TRAIN)], reason_limits=limits | {"no_route": 0.1})
    told = (
        "1 of 5 records were quarantined as no_route, 20.0% against a limit of 10.0%: no_route (1"
    )
    assert told in str(error.value) and "raise reason_limits" in str(error.value)


def test_what_was_set_aside_before_counts_towards_the_limit(tmp_path):
    sample = {"record": "{", "reason": "malformed_json", "detail": "cut off"}
    before = {
        "in": 10,
        "out": {"train": 5},
        "quarantined": {"malformed_json": 5},
        "samples": {"malformed_json": [sample | {"source": "f.jsonl", "offset": 9}]},
    }
    run(tmp_path / "under", [("train", TRAIN)], quarantine_limit=0.7, before=[before])
    with pytest.raises(BranchlineError) as error:
        run(tmp_path / "over", [("train", TRAIN)], quarantine_limit=0.65, before=[before])
    assert "7 of 10 records" in str(error.value)
    assert "malformed_json (5, such as f.jsonl:9: cut off)" in str(error.value)


def test_of_several_windows_the_records_of_all_first_steps_count(tmp_path):
    before = {"in": 50, "out": {}, "quarantined": {"malformed_json": 5}, "samples": {}}
    before["samples"] = {"malformed_json": [dict(source="f", offset=1, detail="cut off")]}
    run(tmp_path / "under", [("train", TRAIN)], quarantine_limit=0.121, before=[before, before])
    with pytest.raises(BranchlineError, match="12 of 100 records"):
        run(tmp_path / "over", [("train", TRAIN)], quarantine_limit=0.119, before=[before, before])


def test_d24_a_route_with_too_few_examples_in_some_split_fails_and_is_told_with_the_split(tmp_path):
    splits = [("train", TRAIN), ("eval", EVAL)]
    with pytest.raises(BranchlineError) as error:
        run(tmp_path / "one", splits, least_rows=1)
    message = str(error.value)
    assert "expected every route to get 1 example(s) or more in every split" in message
    assert "got fewer of 'counts' in eval (0) (quarantined: label_out_of_range: 1" in message
    with pytest.raises(BranchlineError, match=r"'counts' in eval \(0\), 'counts' in train \(1\)"):
        run(tmp_path / "two", splits, least_rows=2, scarce={"lines": "skip"})


def test_of_the_split_test_no_route_needs_any_example(tmp_path):
    _, _, counts = run(tmp_path, [("train", TRAIN), ("test", EVAL)], least_rows=1)
    assert counts["out"]["test"]["counts"] == 0


def test_d24_a_route_that_may_be_scarce_is_passed_over_and_logged(tmp_path, caplog):
    with caplog.at_level("WARNING", "branchline.progress"):
        run(tmp_path, [("train", TRAIN), ("eval", EVAL)], least_rows=1, scarce={"*": "skip"})
    assert "fewer than 1 example(s) of the route 'counts' in eval (0)" in caplog.text
    assert "train" not in caplog.text


def test_without_a_least_number_of_rows_routes_may_be_empty(tmp_path):
    routed, _, counts = run(tmp_path, [("train", TRAIN), ("eval", EVAL)], least_rows=0)
    assert counts["out"]["eval"] == {"lines": 1, "counts": 0}
    assert route_files([routed.uri], "eval", ["counts"]) == {"counts": []}


def test_a_disk_that_is_full_is_told_with_the_path(tmp_path, monkeypatch):
    def refuse(self, path, *arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(LocalFileSystem, "create", refuse)
    with pytest.raises(Exception, match="No space left") as error:  # Beam makes another of it
        run(tmp_path, [("train", TRAIN)])
    failure = explain(error.value)
    assert f"No space left on device: '{tmp_path}/" in failure.cause
    assert "disk is full" in failure.advice


@pytest.mark.parametrize("rows", [[], [{"z": 1}]], ids=["no-record", "no-record-left"])
def test_a_split_without_an_example_has_an_empty_file_that_is_no_routes(tmp_path, rows):
    routed, lines, counts = run(tmp_path, [("train", rows), ("eval", EVAL)])
    assert (counts["in"], len(lines)) == (1 + len(rows), len(rows))
    assert counts["out"]["train"] == {"lines": 0, "counts": 0}
    assert files_of(routed) == [
        "Split-eval/lines-00000-of-00001.gz",
        "Split-train/no.route-00000-of-00001.gz",
    ]
    assert build.read_split(routed, "train") == []
    with TestPipeline() as pipeline:  # as TFX's components read it
        source = tfxio.TFExampleRecord(f"{routed.uri}/Split-train/*", telemetry_descriptors=["t"])
        assert_that(pipeline | source.RawRecordBeamSource(), is_empty())
    assert not any(route_files([routed.uri], "train", TABLE.names).values())


def test_a_split_without_a_file_is_a_split_without_an_example(tmp_path):
    examples = build.examples_artifact(tmp_path / "examples", {"train": [], "eval": []})
    for path in (tmp_path / "examples").rglob("*.gz"):
        path.unlink()
    routed, _, counts = run_on(tmp_path, [examples])
    assert counts["in"] == 0
    assert len(files_of(routed)) == 2


def test_the_same_records_give_the_same_bytes(tmp_path):
    records = [record | {"text": f"{n}"} for n in range(300) for record in TRAIN[:2]]
    splits = [("train", records + TRAIN[2:3] * 50)]
    first, again = (run(tmp_path / name, splits)[0] for name in ("first", "again"))
    assert files_of(first) == files_of(again)
    for name in files_of(first):
        assert Path(first.uri, name).read_bytes() == Path(again.uri, name).read_bytes()


def test_more_routes_than_files_are_open_at_a_time_come_out_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(write_files, "_MOST_FILES", 3)
    records = [{"k": n % 8, "x": float(n), "y": n % 2} for n in range(64)]
    table = RoutingTable(
        *(
            Route(f"r{k}", when.equals("k", k), features={"x": Numeric()}, label="y", task="binary")
            for k in range(8)
        )
    )
    routed, lines, counts = run(tmp_path, [("train", records)], table=table)
    assert lines == []
    assert counts["out"] == {"train": {f"r{k}": 8 for k in range(8)}}
    for k in range(8):
        rows = read_route(routed, "train", f"r{k}")
        assert sorted(row["x"][1][0] for row in rows) == list(range(k, 64, 8))


def test_a_file_that_did_not_get_into_its_place_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(route_examples, "make_folders", lambda folders: None)
    with pytest.raises(Exception, match=r"Split-train/lines-.*is not there, it could not be moved"):
        run(tmp_path, [("train", TRAIN[:1])])


def test_a_window_of_spans_is_read_whole_and_written_down(tmp_path):
    artifacts = []
    for span, records in {4: TRAIN[:2], 7: TRAIN[2:3]}.items():
        rows = {"train": [build.example(record) for record in records]}
        rows |= {"eval": [build.example(EVAL[0])]} if span == 7 else {}
        artifacts.append(build.examples_artifact(tmp_path / str(span), rows))
        artifacts[-1].span = span
    routed, _, counts = run_on(tmp_path, artifacts[::-1])
    assert counts["out"] == {"eval": {"counts": 0, "lines": 1}, "train": {"counts": 1, "lines": 2}}
    assert (routed.span, routed.get_string_custom_property("spans")) == (7, "[4, 7]")
    assert sorted(artifact_utils.decode_split_names(routed.split_names)) == ["eval", "train"]


def test_the_span_of_one_artifact_is_passed_on(tmp_path):
    examples = build.examples_artifact(tmp_path / "e", {"train": [build.example(TRAIN[0])]})
    examples.span = 5
    routed, _, _ = run_on(tmp_path, [examples])
    assert routed.span == 5 and not routed.has_custom_property("spans")


@pytest.mark.parametrize(
    ("name", "compression", "stated"),
    [
        ("data.gz", "GZIP", None),
        ("data.gz", "GZIP", "tfrecords_gzip"),
        ("data", "GZIP", "tfrecords_gzip"),
        ("data", "", None),
        ("data.tfrecord", "", "tfrecords"),
    ],
)
def test_compressed_and_plain_files_are_told_by_name_and_then_by_the_artifact(
    tmp_path, name, compression, stated
):
    examples = build.examples_artifact(tmp_path / "examples", {"train": []})
    folder = tmp_path / "examples" / "Split-train"
    for path in folder.iterdir():
        path.unlink()
    with tf.io.TFRecordWriter(str(folder / name), compression) as writer:
        writer.write(build.example(TRAIN[0]))
    if stated:
        examples_utils.set_file_format(examples, stated)
    _, _, counts = run_on(tmp_path, [examples])
    assert counts["out"]["train"]["lines"] == 1


def test_what_is_not_an_example_is_told_with_what_came(tmp_path):
    examples = build.examples_artifact(tmp_path / "examples", {"train": []})
    formats: Any = example_gen_pb2
    examples_utils.set_payload_format(examples, formats.FORMAT_PROTO)
    with pytest.raises(BranchlineError, match="format FORMAT_PROTO, expected FORMAT_TF_EXAMPLE"):
        run_on(tmp_path, [examples])
    examples_utils.set_payload_format(examples, formats.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "parquet")
    with pytest.raises(BranchlineError, match="the format 'parquet', expected TFRecords"):
        run_on(tmp_path, [examples])


def test_records_to_be_predicted_need_no_label(tmp_path):
    records = [{"text": "a"}, {"text": "b", "good": 7}, {"x": 1.0, "y": "later"}, {"z": 1}]
    routed, lines, counts = run(tmp_path, [("train", records)], labels="absent")
    assert [line["reason"] for line in lines] == ["no_route"]
    assert counts["out"]["train"] == {"lines": 2, "counts": 1}
    a, b = sorted(read_route(routed, "train", "lines"), key=lambda row: row["text"])
    assert a == {"_route": ("string", [b"lines"]), "text": ("string", [b"a"])}
    assert b["good"] == ("int", [7])
    # A label of another type than the schema's goes by the name of its own.
    (row,) = read_route(routed, "train", "counts")
    assert "y" not in row and row["y.string"] == ("string", [b"later"])


def test_what_another_route_declares_as_a_number_is_never_a_text_under_its_name(tmp_path):
    records = [{"text": "a", "good": 1, "x": text} for text in ("", "abc")]
    routed, *_ = run(tmp_path, [("train", records)])
    for row in read_route(routed, "train", "lines"):
        assert "x" not in row and row["x.string"][0] == "string"


def test_d11_a_record_with_other_systems_keys_is_no_lost_record(tmp_path):
    theirs = {"_source": "crawler", "_offset": 7, "_id": "x1", "_route": "elsewhere"}
    routed, (line,), _ = run(tmp_path, [("train", [TRAIN[0] | theirs, {"z": 1} | theirs])])
    (row,) = read_route(routed, "train", "lines")
    assert {key: row[key][1] for key in ("_source", "_offset", "_id", "_route")} == {
        "_source": [b"crawler"],
        "_offset": [7],
        "_id": [b"x1"],
        "_route": [b"lines"],
    }
    assert json.loads(line["record"]) == {"z": 1} | theirs
    assert (line["source"], line["offset"]) == (None, None)


def test_examples_are_routed_into_a_bucket(tmp_path, monkeypatch):
    with object_store(monkeypatch) as client:
        root = f"s3://{BUCKET}/a/1"
        splits = [("train", TRAIN), ("eval", [{"z": 1}])]
        _, _, counts = run(tmp_path, splits, root=root)
        listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert sorted(each["Key"] for each in listed) == [
            "a/1/Split-eval/no.route-00000-of-00001.gz",
            "a/1/Split-train/counts-00000-of-00001.gz",
            "a/1/Split-train/lines-00000-of-00001.gz",
        ]
        (file,) = route_files([root], "train", ["lines"])["lines"]
        with FileSystems.open(file) as opened:
            assert b"lines" in opened.read()
    assert counts["out"]["train"] == {"lines": 2, "counts": 1}


def test_examples_that_know_no_source_are_set_aside_too(tmp_path):
    _, (line,), _ = run(tmp_path, [("train", [{"z": 1}])])
    assert (line["source"], line["offset"]) == (None, None)


def test_a_batch_comes_out_route_by_route():
    rows = [build.example(record) for record in TRAIN]
    with TestPipeline() as pipeline:
        routed = (
            pipeline
            | beam.Create([("train", rows), ("train", []), ("eval", rows)])
            | beam.ParDo(RouteBatches(TABLE, label=True)).with_outputs(main="routed")
        )
        sizes = routed["routed"] | beam.Map(lambda each: (each[0], len(each[1])))
        each = {"lines": 2, "counts": 1}
        wanted = [((split, route), n) for split in ("train", "eval") for route, n in each.items()]
        assert_that(sizes, equal_to(wanted), label="routed")
        sums = routed[".counts"] | beam.CombinePerKey(sum)
        want = {
            "in": 10,
            "out/train/lines": 2,
            "out/train/counts": 1,
            "out/eval/lines": 2,
            "out/eval/counts": 1,
            "quarantined/label_out_of_range": 2,
            "quarantined/no_route": 2,
        }
        assert_that(sums, equal_to(list(want.items())), label="counts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"routing": []}, r"Router.routing: got \[\], expected a RoutingTable"),
        ({"quarantine_limit": 5}, r"Router.quarantine_limit: got 5, expected a share in \[0, 1\]"),
        ({"labels": "no"}, "Router.labels: got 'no', expected one of required, absent"),
        ({"least_rows": -1}, "Router.least_rows: got -1, expected an int of at least 0"),
        ({"scarce": {"a": "skip"}}, "Router.scarce: got 'a', expected one of the routes lines, co"),
        ({"scarce": {"*": "go"}}, 'Router.scarce.*: got \'go\', expected "fail" or "skip"'),
    ],
    ids=["routing", "limit", "labels", "least_rows", "scarce-route", "scarce-policy"],
)
def test_a_wrong_argument_is_named(arguments, message):
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    with pytest.raises(RecipeError, match=message):
        Router(examples, **{"routing": TABLE} | arguments)
