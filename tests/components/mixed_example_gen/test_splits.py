import json
from collections import Counter

import builders as build
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx.types import standard_artifacts

from branchline.components import MixedExampleGen
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen.component import Executor
from branchline.components.mixed_example_gen.declared import read_declared
from branchline.components.mixed_example_gen.read_record import NotARecord
from branchline.components.mixed_example_gen.split_records import choose_split
from branchline.schemas import (
    BranchlineError,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    SplitByField,
    SplitByTime,
    when,
)

BY_TIME = SplitByTime("at", before={"train": "2024-01-01", "eval": "2024-03-01"}, rest="test")
BY_FIELD = SplitByField("part", {"train": "train", "dev": "eval"})
HASHED = "tttettttttttttttttttettttttteteeettttett"
HASHED_BY_KEY = "teettetttettttttttttttttttttteeetttettte"


def ingest(folder, splits, limit=1.0):
    """Runs the component's executor on a folder; gives split → values of `i`, lines and counts."""
    step = MixedExampleGen(str(folder / "in"), splits=splits, quarantine_limit=limit)
    properties = {key: step.exec_properties[key] for key in ("input_base", "splits", "declared")}
    properties |= {"quarantine_limit": limit, "reason_limits": "{}"}
    examples = build.empty_artifact(standard_artifacts.Examples, folder / "examples")
    aside = build.empty_artifact(Quarantine, folder / "quarantine")
    Executor().Do({}, {"examples": [examples], "quarantine": [aside]}, properties)
    names = json.loads(examples.split_names)
    rows = {name: map(build.read_example, build.read_split(examples, name)) for name in names}
    found = {name: sorted(row["i"][1][0] for row in each) for name, each in rows.items()}
    return found, *build.read_quarantine(folder / "quarantine")


def write(folder, records, name="a.jsonl"):
    path = folder / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    build.write_jsonl(path, records)


def test_splits_by_hash_are_the_very_same_as_ever():
    splits = {"train": 4, "eval": 1}
    records = [{"id": [i], "t": ["é", "x"], "f": [0.5]} for i in range(40)]
    assert "".join(choose_split(record, splits)[0] for record in records) == HASHED
    keyed = [{"id": [i], "u": [f"a{i}"]} for i in range(40)]
    assert "".join(choose_split(record, splits, "u")[0] for record in keyed) == HASHED_BY_KEY


@pytest.mark.parametrize("value", ["2024-02-01", b"2024-02-01", 20240201])
def test_a_time_is_read_in_texts_bytes_and_digits(value):
    assert choose_split({"at": [value]}, BY_TIME) == "eval"


NO_SPLIT = {
    "missing": ({"i": [1], "att": ["x"]}, BY_TIME, "at: got no such field in a record of att, i"),
    "no-time": ({"at": ["soon"]}, BY_TIME, "at: got 'soon', expected a time in ISO 8601"),
    "no-utf8": ({"at": [b"\xff"]}, BY_TIME, r"at: got b'\xff', expected a time"),
    "number": ({"at": [1704067200]}, BY_TIME, "at: got 1704067200, expected a time"),
    "two": ({"at": ["2024", "2025"]}, BY_TIME, "at: got 2 values, expected a time"),
    "infinity": (
        {"at": [float("inf")]},
        SplitByTime("at", {"train": "2024"}, unit="ms"),
        "at: got inf, expected a time in ISO 8601, such as '2024-01-31' or "
        "'2024-01-31T10:00:00Z', or a number of ms since 1970-01-01",
    ),
    "other": ({"part": ["valid"]}, BY_FIELD, "part: got 'valid', expected one of 'dev', 'train'"),
    "absent": ({"i": [1]}, BY_FIELD, "part: got no such field in a record of i, expected"),
}


@pytest.mark.parametrize(("record", "splits", "detail"), NO_SPLIT.values(), ids=NO_SPLIT)
def test_a_record_without_a_split_is_told_with_key_value_and_what_is_expected(
    record, splits, detail
):
    with pytest.raises(NotARecord) as error:
        choose_split(record, splits)
    assert error.value.reason == "bad_split" and error.value.detail.startswith(detail)


times = st.one_of(
    st.datetimes().map(lambda time: time.isoformat()),
    st.sampled_from([None, "soon", "2023", "2024-02", "2025-01-01T00:00Z", 2024, 1.5, ["a", "b"]]),
)


@given(st.lists(times, min_size=1, max_size=30), st.randoms())
@settings(deadline=None)
def test_every_record_is_in_one_split_or_set_aside_the_same_in_any_order(values, random):
    def choose(value):
        record = {"at": value if isinstance(value, list) else [value] * (value is not None)}
        try:
            return choose_split(record, BY_TIME)
        except NotARecord as error:
            return error.reason

    places = list(range(len(values)))
    random.shuffle(places)
    shuffled = {place: choose(values[place]) for place in places}
    assert [shuffled[place] for place in range(len(values))] == [choose(v) for v in values]
    assert set(shuffled.values()) <= {"train", "eval", "test", "bad_split"}


def test_records_are_split_by_time_and_those_without_one_set_aside(tmp_path):
    days = ["2023-05-01", "2024-01-01", "2024-02-29T23:59:59Z", "2024-03-01", "soon", None]
    write(tmp_path, [{"i": i, "at": day} for i, day in enumerate(days)])
    found, lines, counts = ingest(tmp_path, BY_TIME)
    assert found == {"train": [0], "eval": [1, 2], "test": [3]}
    assert [(line["reason"], line["offset"]) for line in lines] == [
        ("bad_split", 5),
        ("bad_split", 6),
    ]
    assert counts["in"] == 6 and counts["quarantined"] == {"bad_split": 2}


def test_a_folder_says_the_split_and_a_record_s_own_field_comes_first(tmp_path):
    write(tmp_path, [{"i": 0}, {"i": 1}], "part=train/a.jsonl")
    write(
        tmp_path,
        [{"i": 2}, {"i": 3, "part": "train"}, {"i": 4, "part": "valid"}],
        "part=dev/a.jsonl",
    )
    found, lines, _ = ingest(tmp_path, BY_FIELD)
    assert found == {"train": [0, 1, 3], "eval": [2]}
    assert lines[0]["detail"] == "part: got 'valid', expected one of 'dev', 'train'"


def test_the_same_times_in_csv_and_jsonl_fall_into_the_same_splits(tmp_path):
    days = ["20230501", "2024-02-01", "2025", "2024-01-01 00:00:00"]
    write(tmp_path, [{"i": i, "at": day} for i, day in enumerate(days)])
    rows = "".join(f"{i},{day}\n" for i, day in enumerate(days))
    (tmp_path / "in" / "b.csv").write_text(f"i,at\n{rows}")
    found, lines, _ = ingest(tmp_path, BY_TIME)
    assert found == {"train": [0, 0], "eval": [1, 1, 3, 3], "test": [2, 2]} and not lines


@pytest.mark.parametrize("splits", [BY_TIME, BY_FIELD], ids=["time", "field"])
def test_d16_a_key_that_no_record_has_is_an_error_that_names_those_seen(tmp_path, splits):
    write(tmp_path, [{"i": i, "day": "2024"} for i in range(3)])
    with pytest.raises(BranchlineError) as error:
        ingest(tmp_path, splits)
    assert f"{splits.key}: got no such field in a record of day, i" in str(error.value)


def test_a_split_without_a_record_is_an_error_that_names_the_values_seen(tmp_path):
    write(tmp_path, [{"i": i, "part": "valid" if i == 4 else "train"} for i in range(5)])
    with pytest.raises(BranchlineError) as error:
        ingest(tmp_path, BY_FIELD)
    assert str(error.value) == (
        "MixedExampleGen.splits: no record is in eval; train: 4 records, part such as 'train'; "
        "quarantined as bad_split: 1, such as part: got 'valid', expected one of 'dev', 'train'. "
        f"What was set aside is kept in {tmp_path}/quarantine-kept"
    )


def test_a_period_without_a_record_is_an_error_that_names_the_times_seen(tmp_path):
    write(tmp_path, [{"i": 1, "at": "2023-05-01"}, {"i": 2, "at": "2024-01-05"}])
    with pytest.raises(
        BranchlineError, match="in test; .*eval: 1 records, at such as '2024-01-05'"
    ):
        ingest(tmp_path, BY_TIME)


def test_d17_a_further_column_changes_no_split_by_time(tmp_path):
    records = [{"at": [f"2024-0{i}-15"], "i": [i]} for i in range(1, 10)]
    before = Counter(choose_split(record, BY_TIME) for record in records)
    assert before == {"eval": 2, "test": 7}
    assert all(
        choose_split(record | {"new": ["x"]}, BY_TIME) == choose_split(record, BY_TIME)
        for record in records
    )


def test_the_key_of_the_splits_is_read_though_no_route_reads_it():
    route = Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
    step = MixedExampleGen("a.csv", splits=BY_TIME, routing=RoutingTable(route))
    assert read_declared(step.exec_properties["declared"]).keys == {"at", "x", "y"}


def test_d12_other_missing_cells_are_another_key_of_the_cache():
    route = Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="binary")

    def declared(**given):
        step = MixedExampleGen("a.csv", routing=RoutingTable(route), **given)
        return step.exec_properties["declared"]

    assert declared(missing_cells=["?"]) != declared()
    assert declared(missing_cells=["b", "a"]) == declared(missing_cells=("a", "b"))
    assert read_declared(declared(missing_cells=["?"])).missing_cells == {"?"}


def test_a_split_key_beside_splits_by_time_is_refused():
    with pytest.raises(RecipeError, match="MixedExampleGen.split_key: got 'user', expected None"):
        MixedExampleGen("a.csv", splits=BY_TIME, split_key="user")
