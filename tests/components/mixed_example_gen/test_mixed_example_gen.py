import codecs
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import builders as build
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.input_resolution.strategies.span_range_strategy import SpanRangeStrategy
from tfx.orchestration.portable import data_types
from tfx.proto import range_config_pb2
from tfx.types import artifact_utils, standard_artifacts

from branchline.components import MixedExampleGen, quarantine
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen.component import Driver, Executor
from branchline.components.mixed_example_gen.count_again import check_count
from branchline.components.mixed_example_gen.declared import Declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import RecordFile
from branchline.components.mixed_example_gen.ingest import EXAMPLES, TALLIES, ReadRecords
from branchline.components.mixed_example_gen.ranges import Range
from branchline.schemas import BranchlineError, RecipeError

SPLITS = {"train": 4, "eval": 1}


def ingest(tmp_path, paths, *, limit=1.0, text_keys=(), splits=None, split_key=None):
    """Runs the executor on files; gives the examples artifact, quarantine lines and counts."""
    examples = build.empty_artifact(standard_artifacts.Examples, tmp_path / "examples")
    aside = build.empty_artifact(Quarantine, tmp_path / "quarantine")
    properties = {
        "input_base": json.dumps([str(path) for path in paths]),
        "splits": json.dumps(splits or SPLITS),
        "split_key": split_key,
        "declared": json.dumps({"texts": list(text_keys)}),
        "quarantine_limit": limit,
        "reason_limits": "{}",
        "code_version": "",
    }
    Executor().Do({}, {"examples": [examples], "quarantine": [aside]}, properties)
    return examples, *build.read_quarantine(tmp_path / "quarantine")


def rows_of(examples, splits=SPLITS):
    """(file name, line) → (split, what the example holds)."""
    found = {}
    for split in splits:
        for row in map(build.read_example, build.read_split(examples, split)):
            place = (
                os.path.basename(row.pop("branchline.source")[1][0].decode()),
                row.pop("branchline.offset")[1][0],
            )
            assert place not in found
            found[place] = (split, row)
    return found


@pytest.fixture
def folder(tmp_path):
    """JSONL and CSV, plain and compressed, good and bad records, and a file of another kind."""
    folder = tmp_path / "records"
    (folder / "deep").mkdir(parents=True)
    good = [{"id": i, "text": f"t{i}", "x": [i / 2, 1]} for i in range(40)]
    build.write_jsonl(folder / "a.jsonl", good)
    (folder / "b.jsonl").write_bytes(b'{"id": 1}\n{"id": \n{"id": "\xff"}\n\n{"id": 2}')
    rows = 'code,id,text\r\n007,1,\r\n8,x\r\n9,2,"two\r\nlines"\r\n010,3,end\r\n'
    (folder / "deep" / "c.csv").write_text(rows, newline="")
    with gzip.open(folder / "d.json.gz", "wt") as file:
        file.write('{"id": 5, "nested": {"list": [[1.5], [2]]}}\n')
    (folder / "README.txt").write_text("no records")
    return folder


def test_a_folder_of_mixed_files_becomes_examples_and_quarantine(folder, tmp_path):
    examples, lines, counts = ingest(tmp_path, [folder], text_keys=["code"])
    rows = rows_of(examples)
    assert artifact_utils.decode_split_names(examples.split_names) == ["eval", "train"]
    assert {place[0] for place in rows} == {"a.jsonl", "b.jsonl", "c.csv", "d.json.gz"}
    assert rows["a.jsonl", 4][1] == {
        "id": ("int", [3]),
        "text": ("string", [b"t3"]),
        "x": ("float", [1.5, 1.0]),
    }
    assert rows["c.csv", 2][1] == {"code": ("string", [b"007"]), "id": ("int", [1])}
    assert rows["c.csv", 4][1]["text"] == ("string", [b"two\r\nlines"])
    assert rows["c.csv", 6][1]["code"] == ("string", [b"010"])
    assert rows["d.json.gz", 1][1]["nested.list"] == ("float", [1.5, 2.0])

    aside = {(os.path.basename(line["source"]), line["offset"]): line for line in lines}
    assert {place: line["reason"] for place, line in aside.items()} == {
        ("b.jsonl", 2): "malformed_json",
        ("b.jsonl", 3): "invalid_utf8",
        ("c.csv", 3): "csv_row_length",
    }
    assert aside["c.csv", 3]["record"] == b"8,x"
    assert aside["b.jsonl", 3]["record"] == b'{"id": "\xff"}'
    assert counts["in"] == len(rows) + len(lines) == 49
    assert counts["quarantined"] == {"malformed_json": 1, "invalid_utf8": 1, "csv_row_length": 1}
    assert counts["out"] == {
        split: sum(found == split for found, _ in rows.values()) for split in SPLITS
    }
    assert counts["samples"]["csv_row_length"] == [aside["c.csv", 3] | {"record": "8,x"}]
    for line in lines:  # the place is that of the very bytes
        content = Path(line["source"]).read_bytes()[line["byte"] :]
        assert content.startswith(line["record"]) and line["component"] == "MixedExampleGen"


def test_above_the_limit_the_run_fails_with_reasons_and_examples(folder, tmp_path):
    with pytest.raises(BranchlineError) as error:
        ingest(tmp_path, [folder], limit=0.06)
    message = str(error.value)
    assert "3 of 49 records were quarantined, 6.1% against a limit of 6.0%" in message
    for reason in ("malformed_json", "invalid_utf8", "csv_row_length"):
        assert f"{reason} (1, such as " in message
    assert "b.jsonl:3: byte" in message and "c.csv:3: got 2 cells, expected 3" in message
    assert "quarantine_limit" in message and "\n" not in message


def test_a_share_of_exactly_the_limit_is_allowed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\n{\n')
    _, lines, _ = ingest(tmp_path, [tmp_path / "a.jsonl"], limit=0.25)
    assert len(lines) == 1


def test_a_json_array_and_one_object_over_many_lines_are_records(tmp_path):
    (tmp_path / "D9.json").write_text(json.dumps([{"a": 1}, {"a": 2}], indent=1))
    (tmp_path / "one.json").write_text(json.dumps({"a": 3}, indent=1))
    examples, lines, counts = ingest(tmp_path, [tmp_path / "D9.json", tmp_path / "one.json"])
    found = sorted(row["a"][1][0] for _, row in rows_of(examples).values())
    assert found == [1, 2, 3] and counts["in"] == 3 and not lines


def test_d16_a_split_key_that_no_record_has_is_an_error_that_names_those_seen(tmp_path):
    build.write_jsonl(tmp_path / "a.jsonl", [{"user": f"u{i}", "x": i} for i in range(9)])
    with pytest.raises(BranchlineError, match="got 'usr', which no record has; .* one of user, x"):
        ingest(tmp_path, [tmp_path / "a.jsonl"], split_key="usr")


def test_files_without_a_record_fail(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n\n")
    (tmp_path / "b.csv").write_text("x,y\n")
    with pytest.raises(BranchlineError, match="the files hold no record"):
        ingest(tmp_path, [tmp_path / "a.jsonl", tmp_path / "b.csv"])


def test_a_file_whose_name_is_not_utf8_is_read_and_named(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / os.fsdecode(b"bad\xff.jsonl")).write_text('{"x": 1}\noops\n')
    _, (line,), _ = ingest(tmp_path, [tmp_path / "in"])
    assert line["source"].endswith(r"/bad\udcff.jsonl") and line["reason"] == "malformed_json"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x,x\n1,2\n", "a.csv:1: got x more than once"),
        ("a.csv", b",\nx,y\n", "a.csv:1: got ['', '']"),
    ],
    ids=["header-twice", "no-header"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BranchlineError) as error:
        ingest(tmp_path, [tmp_path / name])
    assert message in str(error.value)


def test_of_a_file_that_is_cut_off_the_rest_is_counted_once_and_told(tmp_path):
    content = gzip.compress(b"".join(b'{"a": %d}\n' % i for i in range(9999)))
    (tmp_path / "a.jsonl.gz").write_bytes(content[:-2000])
    (tmp_path / "b.jsonl.bz2").write_bytes(b'{"a": 1}\n')
    examples, lines, counts = ingest(tmp_path, [tmp_path], limit=0.01)
    rows = rows_of(examples)
    whole = len(rows)
    assert whole > 5000
    assert {place: line["offset"] for place, line in by_file(lines).items()} == {
        "a.jsonl.gz": whole + 1,
        "b.jsonl.bz2": 0,
    }
    assert counts["quarantined"] == {"unreadable_rest": 2} and counts["in"] == whole + 2
    with pytest.raises(BranchlineError, match="unreadable_rest .2, such as .*a.jsonl.gz"):
        ingest(tmp_path / "again", [tmp_path], limit=0.0)


def by_file(lines):
    return {os.path.basename(line["source"]): line for line in lines}


@pytest.mark.parametrize("reverse", [False, True], ids=["in-order", "in-reverse"])
def test_a_record_stays_in_its_split_whatever_stands_around_it(tmp_path, reverse):
    records = [{"id": i, "t": f"n{i}"} for i in range(60)]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    build.write_jsonl(first / "a.jsonl", records)
    cells = [f"n{r['id']},{r['id']}\n" for r in (reversed(records) if reverse else records)]
    (second / "b.csv").write_text("t,id\n" + "".join(cells[:30]))
    (second / "c.csv").write_text("t,id\n" + "".join(cells[30:]))

    def split_of_ids(root):
        rows = rows_of(ingest(root, [root])[0])
        return {row["id"][1][0]: split for split, row in rows.values()}

    splits = split_of_ids(first)
    assert splits == split_of_ids(second) and len(splits) == 60


def test_records_with_equal_split_keys_share_a_split(tmp_path):
    records = [{"user": f"u{i % 7}", "i": i} for i in range(70)]
    build.write_jsonl(tmp_path / "a.jsonl", records)
    examples, _, _ = ingest(
        tmp_path, [tmp_path / "a.jsonl"], split_key="user", splits={"a": 1, "b": 1}
    )
    splits = {}
    for split, row in rows_of(examples, "ab").values():
        splits.setdefault(row["user"][1][0], set()).add(split)
    assert len(splits) == 7 and all(len(found) == 1 for found in splits.values())


lines = st.one_of(
    st.binary(max_size=20).filter(lambda line: b"\n" not in line),
    st.integers(0, 99).map(lambda i: json.dumps({"i": i}).encode()),
    st.just(b'"text"'),
)


@given(st.lists(lines, max_size=20), st.sampled_from([".jsonl", ".csv"]))
@example([codecs.BOM_UTF8], ".jsonl")
@settings(deadline=None, max_examples=60)
def test_what_goes_in_comes_out_or_is_set_aside(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("records") / f"a{suffix}"
    path.write_bytes(b"\n".join([b"i,j"] * (suffix == ".csv") + content))
    reader = ReadRecords(SPLITS, None, Declared())
    kind = "csv" if suffix == ".csv" else "jsonl"
    out, counts = {quarantine.LINES: 0, "train": 0, "eval": 0}, {}
    for tagged in reader.process(Range(RecordFile(str(path), kind))):
        if tagged.tag == quarantine.COUNTS:
            key, number = tagged.value
            counts[key] = counts.get(key, 0) + number
        elif tagged.tag == TALLIES:
            list(check_count(tagged.value[0], [tagged.value[1]]))  # the file holds as many
        elif tagged.tag == EXAMPLES:
            split, examples = tagged.value
            out[split] += len(examples)
        else:
            out[tagged.tag] += 1
    assert counts["in"] == sum(out.values())
    assert out[quarantine.LINES] == sum(
        n for key, n in counts.items() if key.startswith("quarantined/")
    )
    assert [out[split] for split in SPLITS] == [counts.get(f"out/{s}", 0) for s in SPLITS]
    if suffix == ".jsonl":
        text = b"\n".join(content).removeprefix(codecs.BOM_UTF8)  # a mark at the start of a file
        assert sum(out.values()) == sum(bool(line.strip()) for line in text.split(b"\n"))


def test_an_example_holds_texts_ints_and_floats_as_they_are():
    record = {"t": ["ä", ""], "i": [1, 2**62], "f": [0.5]}
    example = build.read_example(encode_example(record, "f.csv", 7))
    assert example == {
        "t": ("string", ["ä".encode(), b""]),
        "i": ("int", [1, 2**62]),
        "f": ("float", [0.5]),
        "branchline.source": ("string", [b"f.csv"]),
        "branchline.offset": ("int", [7]),
    }


def test_a_resolver_of_a_window_of_spans_takes_the_examples(folder, tmp_path):
    examples, *_ = ingest(tmp_path, [folder])
    examples.mlmd_artifact.state = metadata_store_pb2.Artifact.LIVE
    assert examples.span == 0
    window: Any = range_config_pb2
    window = window.RangeConfig(rolling_range=window.RollingRange(num_spans=2))
    taken = SpanRangeStrategy(window)._resolve({"examples": [examples]})
    assert taken == {"examples": [examples]}


def fingerprint(paths):
    properties = {"input_base": json.dumps([str(path) for path in paths]), "split_key": None}
    made = Driver(None).run(data_types.ExecutionInfo(exec_properties=properties))
    assert json.loads(made.exec_properties["input_base"].string_value) == list(map(str, paths))
    return made.exec_properties["input_fingerprint"].string_value


def test_d25_the_fingerprint_changes_with_the_files_and_only_with_them(tmp_path):
    first = tmp_path / "a.jsonl"
    first.write_text('{"a": 1}\n')
    before = fingerprint([tmp_path])
    assert before == fingerprint([tmp_path])
    (tmp_path / "notes.txt").write_text("no records")
    assert before == fingerprint([tmp_path])
    (tmp_path / "b.csv").write_text("a\n1\n")
    with_another = fingerprint([tmp_path])
    assert with_another != before
    time.sleep(0.01)
    first.write_text('{"a": 2}\n')  # as long as before
    assert fingerprint([tmp_path]) != with_another


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_base": []}, r"MixedExampleGen.input_base: got \[\]"),
        ({"splits": {"train": 0}}, r"MixedExampleGen.splits\['train'\]: got 0"),
        ({"quarantine_limit": -1}, "MixedExampleGen.quarantine_limit: got -1"),
        ({"quarantine_limit": 5}, "MixedExampleGen.quarantine_limit: got 5"),
        ({"reason_limits": {"typo": 0}}, "MixedExampleGen.reason_limits: got 'typo'"),
        ({"splits": {".lines": 1}}, "MixedExampleGen.splits: got '.lines'"),
        ({"splits": {"a b": 1}}, "MixedExampleGen.splits: got 'a b'"),
    ],
    ids=[
        "no-path",
        "no-parts",
        "negative",
        "no-share",
        "no-reason",
        "reserved-split",
        "split-name",
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(RecipeError, match=message):
        MixedExampleGen(**{"input_base": "somewhere"} | arguments)
