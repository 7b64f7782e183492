"""What the Router sets aside is written as it came, and nothing is opened that was not read."""

import gzip
import json
import os
import random
from pathlib import Path

import builders as build
import pyarrow
import pyarrow.parquet
import pytest
from tfx.types import channel_utils, standard_artifacts

from branchline.components import quarantine
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen import component as example_gen
from branchline.components.mixed_example_gen import ingest as ingest_records
from branchline.components.mixed_example_gen import ranges, raw_records, read_again
from branchline.components.mixed_example_gen.declared import read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.router import component as router
from branchline.components.router.route_batch import describe_record
from branchline.schemas import Numeric, Route, RoutingTable, when

TABLE = RoutingTable(
    Route("a", when.equals("kind", "a"), features={"x": Numeric()}, label="y", task="binary"),
    Route("b", when.equals("kind", "b"), features={"x": Numeric()}, label="y", task="binary"),
)
GOOD = {"kind": "a", "x": 1.5, "y": 1}
# No route takes it; floats of 64 bits, objects in objects, null: an example holds none of these.
STRAY = '{"kind": "c", "y": 1, "x": 0.1234567890123456789, "deep": {"er": [1, {"z": null}]}}'
BAD_LABEL = '{"y": 7,  "kind": "b", "x": [1.0]}'


def ingest(root, paths):
    component = example_gen.MixedExampleGen(paths, routing=TABLE, splits={"train": 1})
    examples = build.empty_artifact(standard_artifacts.Examples, root / "examples")
    aside = build.empty_artifact(Quarantine, root / "aside")
    outputs = {"examples": [examples], "quarantine": [aside]}
    example_gen.Executor().Do({}, outputs, component.exec_properties)
    return examples, aside


def route(root, examples, aside):
    """Routes; gives source and offset → line."""
    channel = channel_utils.as_channel([standard_artifacts.Examples()])
    component = router.Router(channel, TABLE)
    found = build.empty_artifact(Quarantine, root / "set_aside")
    outputs = {
        "routed_examples": [build.empty_artifact(standard_artifacts.Examples, root / "routed")],
        "quarantine": [found],
    }
    inputs = {"examples": [examples], "example_quarantine": [aside]}
    router.Executor().Do(inputs, outputs, component.exec_properties)
    lines, counts = build.read_quarantine(Path(found.uri))
    assert counts["written"]["quarantine"] == len(lines) == sum(counts["quarantined"].values())
    return {(os.path.basename(line["source"] or ""), line["offset"]): line for line in lines}


@pytest.mark.parametrize("case", ["D23"])
def test_what_the_router_sets_aside_is_as_it_came_in_every_format(tmp_path, case):
    folder = tmp_path / "records"
    (folder / "kind=c").mkdir(parents=True)
    lines = f"{json.dumps(GOOD)}\n\n{STRAY}\n{BAD_LABEL}\n{json.dumps(GOOD)}\n".encode()
    (folder / "l.jsonl").write_bytes(lines)
    (folder / "z.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "c.csv").write_text(
        'kind,x,y,note\na,1,1,\n"c",0.10000000000000001,0,"two\r\nlines"\n'
    )
    (folder / "list.json").write_text(json.dumps([GOOD])[:-1] + f",\n {STRAY}]")
    (folder / "kind=c" / "p.jsonl").write_text('{"x": 1e-3, "y": 0}\n')
    row = {"kind": "c", "x": 0.1234567890123456789, "y": 1, "deep": {"er": [1]}}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), folder / "t.parquet")

    found = route(tmp_path, *ingest(tmp_path, [folder]))

    wanted = {
        ("l.jsonl", 3): STRAY.encode(),
        ("l.jsonl", 4): BAD_LABEL.encode(),
        ("z.jsonl.gz", 3): STRAY.encode(),
        ("z.jsonl.gz", 4): BAD_LABEL.encode(),
        ("c.csv", 3): b'"c",0.10000000000000001,0,"two\r\nlines"',
        ("list.json", 2): STRAY.encode(),
        ("p.jsonl", 1): b'{"x": 1e-3, "y": 0}',
    }
    parquet = found.pop(("t.parquet", 1))
    assert {place: line["record"] for place, line in found.items()} == wanted
    assert json.loads(parquet["record"]) == row and parquet["byte"] is None
    for place in [("l.jsonl", 3), ("l.jsonl", 4)]:
        assert lines[found[place]["byte"] :].startswith(wanted[place])
    assert {line["reason"] for line in found.values()} == {"no_route", "label_out_of_range"}


def test_of_a_file_that_changed_or_went_since_what_the_example_holds_is_written(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for name in ("changed.jsonl", "gone.jsonl"):
        (folder / name).write_text(f"{json.dumps(GOOD)}\n{STRAY}\n")
    ingested = ingest(tmp_path, [folder])
    (folder / "changed.jsonl").write_text(f'{json.dumps(GOOD)}\n{{"secret": 1}}\n')
    (folder / "gone.jsonl").unlink()

    found = route(tmp_path, *ingested)

    assert sorted(found) == [("changed.jsonl", 2), ("gone.jsonl", 2)]
    for line in found.values():
        assert json.loads(line["record"])["kind"] == "c" and line["byte"] is None


def test_an_example_that_names_a_file_of_its_own_opens_none(tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"x": 1}\n')
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(GOOD) + "\n")
    _, aside = ingest(tmp_path, [folder])
    theirs = {"x": 1, "branchline.source": str(secret), "branchline.offset": 1}
    rows = {"train": [build.example(theirs), build.example(GOOD)]}
    (tmp_path / "aside" / "counts.json").write_text(
        json.dumps({"in": 2, "out": {"train": 2}, "quarantined": {}, "samples": {}})
    )

    found = route(tmp_path, build.examples_artifact(tmp_path / "theirs", rows), aside)

    assert found["secret.jsonl", 1]["record"] == b'{"x": 1}'
    assert found["secret.jsonl", 1]["byte"] is None  # rebuilt, not read


def written(folder, name, content):
    """A file that MixedExampleGen has read, and (line, example) of each of its records."""
    (folder / name).write_bytes(content)
    (file,), _ = find_files([str(folder / name)])
    pairs = []
    for parsed in ingest_records.read_records(file, read_declared("{}")):
        line = {"record": b"rebuilt", "source": file.path, "offset": parsed.offset, "byte": None}
        pairs.append((line, encode_example(parsed.record, file.path, parsed.offset)))
    return raw_records.ReadFiles("{}", {file.path: file}), pairs


def found(sources, pairs):
    """The lines that are given after each pair, and last those of the end."""
    find = raw_records.Find(sources)
    find.start_bundle()
    for pair in pairs:
        yield list(find.process(pair))
    yield [each.value for each in find.finish_bundle()]


MANY = b"".join(b'{"x": [%d,  [%d]]}\n' % (number, number) for number in range(50))


@pytest.fixture
def reads(monkeypatch):
    """The ranges of files that are read again."""
    ranges, read_records = [], read_again.read_records

    def counted(file, declared, start, stop):
        ranges.append((start, stop))
        return read_records(file, declared, start, stop)

    monkeypatch.setattr(read_again, "read_records", counted)
    return ranges


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("limit", [("MOST_WAITING", 4), ("BYTES_WAITING", 400)])
def test_no_more_lines_wait_than_fit_into_memory(tmp_path, monkeypatch, reads, name, limit):
    monkeypatch.setattr(raw_records, *limit)
    source, pairs = written(tmp_path, name, gzip.compress(MANY) if name[-3:] == ".gz" else MANY)
    given = list(found([source], pairs))
    for number in range(len(pairs)):
        assert number + 1 - sum(map(len, given[: number + 1])) <= 4
    lines = MANY.splitlines()
    assert [line["record"] for part in given for line in part] == lines
    assert len(reads) == 1  # forward, over all the times


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_in_whatever_order_lines_come_all_are_as_they_came(tmp_path, monkeypatch, reads, name):
    monkeypatch.setattr(raw_records, "MOST_WAITING", 10)
    source, pairs = written(tmp_path, name, gzip.compress(MANY) if name[-3:] == ".gz" else MANY)
    random.Random(0).shuffle(pairs)
    lines = [line for part in found([source], pairs + pairs[:1]) for line in part]
    of_number = MANY.splitlines()
    assert len(lines) == len(pairs) + 1 and len(reads) <= 6
    for line in lines:
        assert line["record"] == of_number[line["offset"] - 1]


def test_of_a_large_file_only_the_ranges_are_read_in_which_lines_are(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(ranges, "RANGE_BYTES", 100)
    source, pairs = written(tmp_path, "a.jsonl", MANY)
    kept = [pair for pair in pairs if pair[0]["offset"] in (2, 3, 30, 50)]
    *_, lines = found([source], kept)
    assert [line["offset"] for line in lines] == [2, 3, 30, 50]
    for line in lines:
        assert line["record"] == MANY.splitlines()[line["offset"] - 1]
        assert MANY[line["byte"] :].startswith(line["record"] + b"\n")
    assert len(reads) == 3 and all(stop - start < 200 for start, stop in reads if stop)


def test_records_of_one_line_of_a_list_are_told_apart(tmp_path):
    source, pairs = written(tmp_path, "a.json", b'[{"x": 1}, {"x": [2]},{"y": 0.10}]')
    *_, lines = found([source], pairs[::-1])
    assert {line["record"] for line in lines} == {b'{"x": 1}', b'{"x": [2]}', b'{"y": 0.10}'}


def test_an_example_whose_place_is_of_another_type_has_none():
    theirs = {"x": 1, "branchline.source": [1, 2], "branchline.offset": "first"}
    assert describe_record(build.example(theirs)) == ({"x": 1}, None, None)


COUNTS = {
    "in": 10,
    "out": {"train": {"a": 4, "b": 2}, "eval": {"a": 1}},
    "quarantined": {"no_route": 2, "wrong_type": 1},
    "samples": {},
    "written": {"examples": {"train": 6, "eval": 1}, "quarantine": 3},
}


def test_counts_that_add_up_pass():
    quarantine.check_conserved("Router", COUNTS, 10)
    quarantine.check_conserved("Router", COUNTS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"in": 11}, "11 records came in, 7 went out, 3 were quarantined"),
        ({"out": {"train": {"a": 4, "b": 3}, "eval": {"a": 1}}}, "'train' hold 6 examples, not 7"),
        ({"written": {"examples": {"train": 6}, "quarantine": 3}}, "'eval' hold 0 examples, not 1"),
        ({"written": {"examples": {"train": 6, "eval": 1}}}, "quarantine's files hold 0, not 3"),
    ],
)
def test_counts_that_do_not_add_up_fail_the_run(change, told):
    with pytest.raises(quarantine.BranchlineError, match="Router: records were lost") as error:
        quarantine.check_conserved("Router", COUNTS | change)
    assert told in str(error.value)


def test_examples_that_are_lost_between_two_steps_fail_the_run():
    with pytest.raises(quarantine.BranchlineError, match="put out 12 examples, 10 came in"):
        quarantine.check_conserved("Router", COUNTS, 12)
