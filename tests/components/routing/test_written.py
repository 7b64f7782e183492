import datetime as dt
import functools
from fractions import Fraction
from zoneinfo import ZoneInfo

import builders as build
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.mixed_example_gen.declared import declared_by, read_declared
from branchline.components.mixed_example_gen.encode_example import encode_example
from branchline.components.mixed_example_gen.parse_csv import parse_csv
from branchline.components.mixed_example_gen.parse_json import parse_jsonl
from branchline.components.router.route_batch import BatchRouter
from branchline.components.routing.written.read_written import read_written
from branchline.components.routing.written.zones import offset_at
from branchline.schemas import Bool, Categorical, Duration, Route, RoutingTable, Timestamp, when
from branchline.schemas.features.timestamp import UNITS

EPOCH = dt.datetime(1970, 1, 1)
MICROSECOND = dt.timedelta(microseconds=1)
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]


@functools.cache
def reader(kind):
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(lambda texts: read_written(kind, texts), input_signature=signature)


def read(kind, texts):
    """A value for each text, None for one that cannot be read."""
    values, readable = reader(kind)(tf.constant(texts, tf.string))
    found = zip(values.numpy().tolist(), readable.numpy(), strict=True)
    return [value if good else None for value, good in found]


def microseconds(time):
    return (time - EPOCH) // MICROSECOND


@st.composite
def iso_times(draw):
    """A text in ISO 8601, and the microseconds since 1970 that it stands for in UTC."""
    time = draw(st.datetimes())
    text = time.date().isoformat()
    if draw(st.booleans()):
        return text, microseconds(dt.datetime.combine(time.date(), dt.time()))
    digits = draw(st.integers(0, 9))
    spec = draw(st.sampled_from(["minutes", "seconds", "fraction"]))
    if spec == "fraction" and digits:
        more = f"{time.microsecond:06}{draw(st.integers(0, 999)):03}"[:digits]
        text += draw(st.sampled_from("Tt ")) + time.strftime("%H:%M:%S")
        text += draw(st.sampled_from(".,")) + more
        time = time.replace(microsecond=int(f"{more:0<6}"[:6]))
    elif spec == "seconds":
        text, time = f"{text}T{time:%H:%M:%S}", time.replace(microsecond=0)
    else:
        text, time = f"{text} {time:%H:%M}", time.replace(second=0, microsecond=0)
    minutes = draw(st.integers(-23 * 60 - 59, 23 * 60 + 59))
    sign, hours, rest = "-" if minutes < 0 else "+", abs(minutes) // 60, abs(minutes) % 60
    zone = draw(st.sampled_from(["", "Z", "z", " UTC", "hh:mm", "hhmm", " hh:mm", "hh"]))
    if "hh" in zone:
        rest = rest if "mm" in zone else 0
        minutes = (60 * hours + rest) * (-1 if sign == "-" else 1)
        zone = zone.replace("hh", f"{sign}{hours:02}").replace("mm", f"{rest:02}")
        return text + zone, microseconds(time) - minutes * 60_000_000
    return text + zone, microseconds(time)


@given(st.lists(iso_times(), max_size=20))
@settings(deadline=None, max_examples=60)
def test_iso_times_are_what_python_takes_them_for(times):
    first, last = Timestamp().bounds
    want = [time if first <= time <= last else None for _, time in times]
    assert read(Timestamp(), [text for text, _ in times]) == want


def date_or_none(year, month, day):
    try:
        return microseconds(dt.datetime(year, month, day))
    except ValueError:
        return None


days = st.tuples(
    st.integers(0, 9999) | st.sampled_from([1900, 2000, 2023, 2024]),
    st.integers(0, 13),
    st.integers(0, 32) | st.sampled_from([28, 29, 30, 31]),
)


@given(st.lists(days, max_size=50))
@settings(deadline=None, max_examples=60)
def test_a_day_that_no_calendar_holds_is_none(dates):
    texts = [f"{year:04}-{month:02}-{day:02}" for year, month, day in dates]
    assert read(Timestamp(), texts) == [date_or_none(*date) for date in dates]


@given(
    st.sampled_from(list(UNITS)),
    st.lists(st.tuples(st.integers(-(10**19), 10**19), st.text("0123456789", max_size=12))),
)
@settings(deadline=None, max_examples=60)
def test_numbers_count_their_unit_since_1970_to_the_microsecond(unit, numbers):
    texts = [f"{number}.{behind}" if behind else f"{number}" for number, behind in numbers]
    first, last = Timestamp().bounds
    want = []
    for text, (number, _) in zip(texts, numbers, strict=True):
        exact = int(Fraction(text) * Fraction(10) ** UNITS[unit])  # towards zero
        is_int64 = abs(number) < 9 * 10**18
        want.append(exact if is_int64 and first <= exact <= last else None)
    assert read(Timestamp(unit=unit), texts) == want


@pytest.mark.parametrize("unit", list(UNITS))
def test_a_float_of_json_keeps_its_microseconds_or_sixteen_digits(unit):
    number = 1_714_550_400.123456 * 10.0 ** (6 - UNITS[unit])
    (found,) = read(Timestamp(unit=unit), [repr(number)])
    assert abs(found - 1_714_550_400_123_456) <= (0 if unit in ("s", "ms") else 1)
    assert read(Timestamp(unit=unit), ["1.5e4"]) == read(Timestamp(unit=unit), ["15000"])


NO_TIMES = [
    *("", " ", "x", "now", "-", "+", ".", "+.", "e5", "1e", "NaN", "inf", "1_000", "0x10", "1,5"),
    *("2024-05", "2024-5-1", "2024-W18-3", "2024-122", "20240501T10", "01.05.2024", "5/1/2024"),
    *("2024-02-30", "2023-02-29", "1900-02-29", "2024-00-01", "2024-13-01", "0000-01-01"),
    *("2024-05-01T", "2024-05-01T10", "2024-05-01T24:00", "2024-05-01T10:60", "2024-05-01T1:20"),
    *("2024-05-01T10:20:60", "2024-05-01T10:20:30.", "2024-05-01Z", "2024-05-01T10:20 CET"),
    *("2024-05-01T10:20+24:00", "2024-05-01T10:20+02:60", "2024-05-01T10:20+2", "10:20:30"),
    *("0001-01-01T00:00+00:01", "9999-12-31T23:59-00:01", "1e300", "1e999", "9" * 4000),
    *("２０２４-05-01", "2024-05-01\0", "é", b"\xff", b"2024-05-01\xff", "1714550400123"),
]


def test_what_is_no_time_is_told_and_fails_no_other():
    assert read(Timestamp(), [*NO_TIMES, "2024-05-01"]) == [None] * len(NO_TIMES) + [
        microseconds(dt.datetime(2024, 5, 1))
    ]


anything = st.one_of(
    st.binary(max_size=30),
    st.text("0123456789-+:.TZ, ePTHMSDWyesnotru", max_size=30).map(str.encode),
    iso_times().map(lambda pair: pair[0].encode()),
)


@given(
    st.lists(anything, max_size=20),
    st.sampled_from([Bool(), Duration(), Timestamp(), Timestamp("ns", zone="Europe/Berlin")]),
)
@settings(deadline=None, max_examples=300)
def test_no_text_fails_its_batch_nor_changes_what_another_is(texts, kind):
    found = read(kind, texts)
    assert len(found) == len(texts)
    assert found == [each for text in texts for each in read(kind, [text])]


@given(
    st.sampled_from(ZONES), st.lists(st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2100, 1, 1)))
)
@settings(deadline=None, max_examples=60)
def test_a_local_time_is_taken_in_its_zone(name, times):
    texts = [time.isoformat(" ") for time in times]
    utc = [time.replace(tzinfo=ZoneInfo(name)).astimezone(dt.timezone.utc) for time in times]
    want = [microseconds(time.replace(tzinfo=None)) for time in utc]
    assert read(Timestamp(zone=name), texts) == want


@given(st.sampled_from(ZONES), st.lists(st.integers(-5 * 10**9, 4 * 10**9), min_size=1))
@settings(deadline=None, max_examples=60)
def test_a_zones_offset_is_known_at_every_second(name, seconds):
    found = offset_at(ZoneInfo(name), tf.constant(seconds, tf.int64)).numpy().tolist()
    utc = [EPOCH.replace(tzinfo=dt.timezone.utc) + dt.timedelta(seconds=s) for s in seconds]
    local = [time.astimezone(ZoneInfo(name)).utcoffset() for time in utc]
    assert found == [offset.total_seconds() for offset in local]


def test_an_hour_that_a_clock_skips_or_has_twice_goes_by_the_offset_before():
    skipped, twice = read(Timestamp(zone="Europe/Berlin"), ["2024-03-31 02:30", "2024-10-27 02:30"])
    assert skipped == microseconds(dt.datetime(2024, 3, 31, 1, 30))
    assert twice == microseconds(dt.datetime(2024, 10, 27, 0, 30))


def test_a_fixed_offset_holds_for_times_that_have_none():
    texts = ["2024-05-01", "2024-05-01T00:00Z", "1714521600"]
    found = read(Timestamp(zone="-03:30"), texts)
    midnight = microseconds(dt.datetime(2024, 5, 1))
    assert found == [midnight + 12_600_000_000, midnight, midnight]


def test_times_out_of_the_range_are_none():
    kind = Timestamp(earliest="2000-01-01", latest="2024-05-01T10:00:00Z", zone="+02:00")
    texts = ["1999-12-31T21:59:59.999999Z", "1999-12-31T22:00Z", "2024-05-01T12:00", "2024-05-02"]
    assert [time is not None for time in read(kind, texts)] == [False, True, True, False]


parts = st.tuples(*[st.integers(0, 10**6)] * 4, st.integers(0, 10**9))


@given(st.lists(st.tuples(st.sampled_from(["", "+", "-"]), parts), max_size=20))
@settings(deadline=None, max_examples=60)
def test_durations_add_up(durations):
    texts, want = [], []
    for sign, (weeks, days, hours, minutes, millis) in durations:
        texts.append(
            f"{sign}P{weeks}W{days}DT{hours}H{minutes}M{millis // 1000}.{millis % 1000:03}S"
        )
        whole = dt.timedelta(days, weeks=weeks, hours=hours, minutes=minutes, milliseconds=millis)
        want.append(whole.total_seconds() * (-1 if sign == "-" else 1))
    assert read(Duration(), texts) == pytest.approx(want, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("PT1H30M", 5400), ("pt90m", 5400), ("P2W", 1_209_600), ("P1DT2H", 93_600)),
        *(("PT0.25S", 0.25), ("-PT5M", -300), ("PT36H", 129_600), ("P0D", 0)),
        *(("1:30", 5400), ("01:30:00", 5400), ("100:00", 360_000), ("-0:00:01.5", -1.5)),
        *(("90", 90), (" 90.5 ", 90.5), ("-1e3", -1000), (".5", 0.5), ("+7", 7)),
    ],
)
def test_a_duration_is_so_many_seconds(text, seconds):
    assert read(Duration(), [text]) == [seconds]


NO_DURATIONS = ["", "P", "PT", "P1DT", "P1Y", "P1M", "1:60", "1:30:60", "1:3", "1:2:3:4", "PT1,5S"]
NO_DURATIONS += ["PT1H30", "1h", "-", "NaN", "inf", "1e99", "1e999", "9" * 4000, "PT1M1H", b"\xff"]
NO_DURATIONS += ["P999999999999999W", "P9999999999999999D", "9" * 18]


def test_what_is_no_duration_is_told():
    assert read(Duration(), NO_DURATIONS) == [None] * len(NO_DURATIONS)


YES, NO = ["true", "t", "yes", "y", "1"], ["false", "f", "no", "n", "0"]


@pytest.mark.parametrize("written", [str, str.upper, str.title, " {} ".format])
def test_yes_and_no_are_read_in_any_case(written):
    assert read(Bool(), list(map(written, YES))) == [1] * 5
    assert read(Bool(), list(map(written, NO))) == [-1] * 5


def test_pandas_booleans_with_gaps_are_read():
    assert read(Bool(), ["1.0", "0.0"]) == [1, -1]


def test_what_is_neither_yes_nor_no_is_told():
    texts = ["", "2", "-1", "10", "01", "0.5", "on", "truee", "ye s", "nil", "1e0", b"\xff"]
    assert read(Bool(), texts) == [None] * len(texts)


TABLE = RoutingTable(
    Route(
        "visit",
        when.present("id"),
        features={
            "came": Timestamp(earliest="1990-01-01"),
            "left": Timestamp("ms"),
            "stayed": Duration(),
            "paid": Bool(),
        },
        label="y",
        task="binary",
    ),
    Route("other", when.present("tag"), features={"tag": Categorical()}, label="y", task="binary"),
)
ROUTER = BatchRouter(TABLE)
FINE = {"came": "2024-05-01", "left": 1_714_550_400_123, "stayed": 90, "paid": "yes"}


def fates(records):
    """The reason of each record that is set aside, else None."""
    routed = ROUTER([build.example({"id": 1, "y": 1} | record) for record in records])
    assert sum(map(len, routed.examples.values())) + len(routed.aside) == len(records)
    aside = {row: problem for row, problem in routed.aside}
    return [aside.get(row) for row in range(len(records))]


def test_a_record_whose_text_cannot_be_read_is_set_aside_with_the_reason():
    bad = [
        *({"came": "yesterday"}, {"came": "1970-01-01"}, {"left": "2024-02-30"}),
        *({"stayed": "long"}, {"paid": "maybe"}, {"paid": 2}, {"paid": 0.5}),
        *({"came": ["2024-05-01", "x"]}, {"came": float("nan")}, {"stayed": float("inf")}),
    ]
    found = fates([FINE, *(FINE | each for each in bad), {}])
    assert found[0] is None and found[-1] is None  # what is missing is filled in
    assert [problem.reason for problem in found[1:-1]] == [
        *("bad_time", "bad_time", "bad_time", "bad_duration", "wrong_type", "wrong_type"),
        *("wrong_type", "wrong_shape", "bad_time", "bad_duration"),
    ]
    told = found[2].detail
    assert told.startswith("came: got another text, expected a time in ISO 8601")
    assert told.endswith("since 1970 from 1990-01-01")


values = st.one_of(
    st.text(max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32),
    st.lists(st.sampled_from(["yes", "2024-05-01"]), max_size=2),
    st.sampled_from([*FINE.values(), 1, 0.0, "1:30"]),
)


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(FINE, values)), max_size=10))
@settings(deadline=None, max_examples=50)
def test_every_record_comes_out_or_is_set_aside(records):
    reasons = {problem.reason for problem in fates(records) if problem}
    assert reasons <= {"bad_time", "bad_duration", "wrong_type", "wrong_shape"}


def routed_values(parsed, key):
    rows = [encode_example(each.record, "f", each.offset) for each in parsed]
    routed = ROUTER(rows)
    assert not routed.aside
    return [build.read_example(row)[key][1] for row in routed.examples["visit"]]


DECLARED = read_declared(declared_by(TABLE, None))


def test_k7_a_float_of_json_keeps_all_digits_on_its_way_through_the_router():
    texts = ["1714550400.123456", "1.714550400123456e9", "1714550400.5", "1e3", "1714550400"]
    lines = [f'{{"id": 1, "y": 1, "came": {text}}}\n'.encode() for text in texts]
    lines += [f'{{"id": 1, "y": 1, "came": [{texts[0]}]}}\n'.encode()]
    (*found,) = routed_values(parse_jsonl(lines[:3] + lines[4:], DECLARED), "came")
    kept = [b"1714550400.123456"]
    assert found == [kept, kept, [b"1714550400.5"], [b"1714550400"], kept]


def test_cells_that_mean_nothing_are_missing_and_true_is_read_in_csv():
    lines = [b"id,y,came,paid,stayed\n", b"1,1,NA,TRUE,\n", b"1,1,2024-05-01, No ,1:30\n"]
    (*parsed,) = parse_csv(lines, "f.csv", DECLARED)
    assert "came" not in (parsed[0].record or {})
    assert routed_values(parsed, "paid") == [[b"TRUE"], [b" No "]]


def test_a_key_that_is_a_category_too_keeps_its_floats_as_they_are():
    table = RoutingTable(
        Route("a", when.present("a"), features={"k": Timestamp()}, label="y", task="binary"),
        Route("b", when.present("b"), features={"k": Categorical()}, label="y", task="binary"),
    )
    assert table.written_keys == () and TABLE.written_keys == ("came", "left", "paid", "stayed")


def num_operations(table):
    router = BatchRouter(table)
    return len(router._fn.get_concrete_function().graph.get_operations())


def test_many_routes_with_times_cost_no_operation_more_than_two():
    def table(number):
        features = {"came": Timestamp(), "paid": Bool(), "stayed": Duration()}
        routes = [
            Route(
                f"r{i}", when.equals("kind", f"k{i}"), features=features, label="y", task="binary"
            )
            for i in range(number)
        ]
        return RoutingTable(*routes)

    assert num_operations(table(60)) <= num_operations(table(2)) + 20
