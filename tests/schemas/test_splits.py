from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchline.pipeline.set_fields import set_fields
from branchline.schemas import (
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    SplitByField,
    SplitByTime,
    from_json,
    to_json,
    when,
)
from branchline.schemas.splits import microseconds

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
YEARS = {"min_value": datetime(1000, 1, 1), "max_value": datetime(9998, 1, 1)}
offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
times = st.datetimes(**YEARS, timezones=offsets)
seconds = times.map(lambda time: time.replace(microsecond=0))


def recipe(**fields):
    route = Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
    return Recipe("n", RoutingTable(route), **fields)


def by_time(**fields):
    return SplitByTime("t", **{"before": {"train": "2024-01-01"}} | fields)


@given(times)
def test_a_time_is_the_same_instant_in_every_spelling(time):
    utc = time.astimezone(timezone.utc)
    spelt = [
        time.isoformat(),
        time.isoformat(" "),
        f" {time.isoformat()}\n",
        time.strftime("%Y%m%dT%H%M%S.%f%z"),
        utc.isoformat().replace("+00:00", "Z"),
        utc.isoformat().replace("+00:00", ""),  # without an offset it is UTC
    ]
    since = (utc - EPOCH) // timedelta(microseconds=1)
    assert {microseconds(text) for text in spelt} == {since}


@given(seconds, st.sampled_from([("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]))
def test_a_number_counts_the_unit_since_1970(time, unit):
    name, per_second = unit
    number = (time - EPOCH) // timedelta(seconds=1) * per_second
    assert microseconds(number, name) == microseconds(time.isoformat())
    assert microseconds(f"{number}", name) == microseconds(number, name)
    assert microseconds(time.isoformat(), name) == microseconds(number, name)  # text is text


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2), st.sampled_from(["s", "ns"]))
def test_later_numbers_are_never_earlier_times(numbers, unit):
    read = [microseconds(number, unit) for number in sorted(numbers)]
    assert read == sorted(read)


@pytest.mark.parametrize(
    ("number", "text"),
    [(2024, "2024-01-01"), (20240131, "2024-01-31"), ("2024-01", "2024-01-01")],
    ids=["year", "day", "month"],
)
def test_without_a_unit_a_number_is_read_by_its_digits(number, text):
    assert microseconds(number) == microseconds(text)


NO_TIMES = ["", "soon", "01/02/2024", "2024-13-01", "9999-12-31T24:00", 1704067200, 1701010900000]


@pytest.mark.parametrize("value", [*NO_TIMES, 2024.5, -1, "1704067200"])
def test_what_is_no_time_is_told_and_never_guessed(value):
    with pytest.raises(ValueError):
        microseconds(value)


@given(st.text() | st.floats() | st.integers(), st.sampled_from([None, "s", "ms", "us", "ns"]))
def test_whatever_comes_is_a_time_or_a_value_error(value, unit):
    try:
        assert isinstance(microseconds(value, unit), int)
    except ValueError:
        pass


@given(st.lists(seconds, min_size=1, max_size=5, unique=True), seconds, st.randoms())
def test_a_time_is_in_the_split_with_the_earliest_end_after_it(ends, time, random):
    names = {end: f"s{i}" for i, end in enumerate(sorted(ends))}
    random.shuffle(ends)  # the order in which they are written means nothing
    splits = SplitByTime("t", {names[end]: end.isoformat() for end in ends}, rest="rest")
    later = [end for end in sorted(ends) if time < end]
    assert splits.choose(time.isoformat()) == (names[later[0]] if later else "rest")
    assert splits.names == (*(names[end] for end in sorted(ends)), "rest")


def test_a_record_at_the_very_end_is_in_the_next_split():
    splits = by_time(unit="s")
    end = 1704067200
    assert [splits.choose(end - 1), splits.choose(end)] == ["train", "eval"]
    assert splits.choose("2023-12-31T23:59:59.999999999Z") == "train"  # rounded down, not up
    assert splits.choose("2024-01-01T00:30:00+01:00") == "train"


@pytest.mark.parametrize("value", [1, 1.0, "1", True], ids=["int", "float", "text", "true"])
def test_one_value_is_one_split_however_a_format_writes_it(value):
    assert SplitByField("fold", {1: "eval", 0: "train"}).choose(value) == "eval"
    assert SplitByField("fold", {value: "eval"} if value != 1.0 else {"1": "eval"}).choose(1)


@given(st.text() | st.integers() | st.floats())
def test_a_value_of_no_split_is_told(value):
    splits = SplitByField("part", {"dev": "eval", "tr": "train", 7: "train"})
    known = {"dev": "eval", "tr": "train", "7": "train", 7: "train"}
    if value in known:
        assert splits.choose(value) == known[value]
    else:
        with pytest.raises(ValueError):
            splits.choose(value)


SPLITS = {
    "hash": {"train": 8, "eval": 1, "test": 1},
    "time": by_time(before={"type": "2025", "train": "2024-01-01"}, unit="ms"),
    "field": SplitByField("part", {"type": "train", "dev": "eval", 3: "test"}),
    "names": SplitByField("part", ("train", "eval", "test")),
}


@pytest.mark.parametrize("splits", SPLITS.values(), ids=SPLITS)
def test_splits_travel_as_json(splits):
    made = recipe(splits=splits)
    read = from_json(to_json(made))
    assert read == made and to_json(read) == to_json(made)
    assert set_fields(recipe(), [f"splits={to_json(splits)}"]).splits == splits


def test_set_changes_one_field_of_splits():
    changed = set_fields(recipe(splits=by_time()), ["splits.before.train=2023-06-30"])
    assert changed.splits == by_time(before={"train": "2023-06-30"})


WRONG = {
    "no-key": (lambda: SplitByTime("", {"train": "2024"}), "SplitByTime.key: got ''", "key"),
    "no-ends": (lambda: by_time(before={}), "SplitByTime.before: got {}", "2024-01-31"),
    "bad-split": (lambda: by_time(before={"a b": "2024"}), "SplitByTime.before: got 'a b'", "name"),
    "bad-end": (
        lambda: by_time(before={"train": "01/02/2024"}),
        "SplitByTime.before['train']: got '01/02/2024'",
        "ISO 8601",
    ),
    "end-number": (
        lambda: by_time(before={"train": 1704067200}),
        "SplitByTime.before['train']: got 1704067200",
        "ISO 8601",
    ),
    "equal-ends": (
        lambda: by_time(before={"train": "2024-01-01", "eval": "2024-01-01T00:00Z"}, rest="test"),
        "SplitByTime.before['eval']: got '2024-01-01T00:00Z'",
        "another time than that of 'train'",
    ),
    "rest-twice": (lambda: by_time(rest="train"), "SplitByTime.rest: got 'train'", "not in"),
    "bad-unit": (lambda: by_time(unit="d"), "SplitByTime.unit: got 'd'", "one of s, ms, us, ns"),
    "no-values": (lambda: SplitByField("f", {}), "SplitByField.values: got {}", "train"),
    "a-text": (lambda: SplitByField("f", "train"), "SplitByField.values: got 'train'", "train"),
    "name-twice": (lambda: SplitByField("f", ["a", "a"]), "SplitByField.values: got", "names"),
    "value-twice": (
        lambda: SplitByField("f", {1: "train", "1": "eval"}),
        "SplitByField.values: got '1'",
        "each value once",
    ),
    "split-number": (lambda: SplitByField("f", {"a": 1}), "SplitByField.values['a']: got 1", "na"),
    "no-eval": (
        lambda: recipe(splits=SplitByField("f", {"a": "train", "b": "test"})),
        "Recipe.splits: got SplitByField",
        '"eval"',
    ),
    "no-splits": (lambda: recipe(splits=None), "Recipe.splits: got None", "SplitByTime"),
    "key-twice": (
        lambda: recipe(splits=by_time(), split_key="user"),
        "Recipe.split_key: got 'user'",
        "None, as SplitByTime has its own key",
    ),
}


@pytest.mark.parametrize(("make", "got", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_splits_are_told_when_they_are_made(make, got, expected):
    with pytest.raises(RecipeError) as error:
        make()
    message = str(error.value)
    assert message.startswith(got) and expected in message.partition("expected")[2], message
