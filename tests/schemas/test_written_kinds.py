"""What the kinds that are written as texts refuse, and what they say of themselves."""

import pytest

from branchline.schemas import (
    Bool,
    Duration,
    Numeric,
    RecipeError,
    Route,
    RoutingTable,
    Timestamp,
    from_json,
    to_json,
    when,
)
from branchline.schemas.reasons import REASONS


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"unit": "min"}, "Timestamp.unit: got 'min', expected one of s, ms, us, ns"),
        ({"unit": None}, "Timestamp.unit: got None"),
        ({"unit": ["s"]}, "Timestamp.unit: got ['s']"),
        ({"zone": "Mars/Olympus"}, "Timestamp.zone: got 'Mars/Olympus', expected 'UTC', an offset"),
        ({"zone": "Europe"}, "Timestamp.zone: got 'Europe'"),
        ({"zone": "../etc"}, "Timestamp.zone: got '../etc'"),
        ({"zone": "+24:00"}, "Timestamp.zone: got '+24:00'"),
        ({"zone": ""}, "Timestamp.zone: got ''"),
        ({"zone": 2}, "Timestamp.zone: got 2"),
        ({"earliest": "soon"}, "Timestamp.earliest: got 'soon', expected a time such as"),
        ({"earliest": 1990}, "Timestamp.earliest: got 1990"),
        ({"latest": "2024-02-30"}, "Timestamp.latest: got '2024-02-30'"),
        (
            {"earliest": "2024-01-01", "latest": "2023-01-01"},
            "Timestamp.latest: got '2023-01-01', expected a time that is not before 2024-01-01",
        ),
    ],
    ids=str,
)
def test_an_error_names_the_field_the_value_and_what_is_expected(arguments, told):
    with pytest.raises(RecipeError) as error:
        Timestamp(**arguments)
    assert str(error.value).startswith(told)


HOUR = 3_600_000_000
NEW_YEAR = 1_704_067_200_000_000  # 2024


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        (Timestamp(earliest="2024-01-01"), NEW_YEAR),
        (Timestamp(earliest="2024-01-01T00:00:00Z", zone="+02:00"), NEW_YEAR),
        (Timestamp(earliest="2024-01-01", zone="+0200"), NEW_YEAR - 2 * HOUR),
        (Timestamp(earliest="2024-01-01", zone="Europe/Berlin"), NEW_YEAR - HOUR),
        (Timestamp(), -62_135_596_800_000_000),
    ],
    ids=str,
)
def test_the_earliest_time_is_in_the_zone_unless_it_has_an_offset(kind, bound):
    assert kind.bounds[0] == bound


def test_kinds_survive_json():
    kinds = {
        "came": Timestamp("ms", zone="Asia/Kathmandu", earliest="2000-01-01", latest="2030-01-01"),
        "stayed": Duration(),
        "paid": Bool(),
    }
    table = RoutingTable(Route("r", when.present("came"), features=kinds, label="y", task="binary"))
    assert from_json(to_json(table)) == table


def test_their_reasons_are_known_and_a_record_may_lack_them():
    for kind in (Timestamp(), Duration(), Bool()):
        assert kind.reason in REASONS and not kind.required


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"clip": 3}, "Numeric.clip: got 3, expected the least and the greatest number, such as"),
        ({"clip": (1, 0)}, "Numeric.clip: got (1, 0)"),
        ({"clip": (None, None)}, "Numeric.clip: got (None, None)"),
        ({"clip": (0, 1, 2)}, "Numeric.clip: got (0, 1, 2)"),
        ({"clip": (0, "1")}, "Numeric.clip: got '1', expected a finite number"),
        ({"clip": (float("nan"), 1)}, "Numeric.clip: got nan"),
        ({"scale": "minmax"}, "Numeric.scale: got 'minmax', expected one of zscore, log, quantile"),
        ({"missing": "zero"}, "Numeric.missing: got 'zero', expected one of mean, indicator"),
        ({"shape": (3,), "missing": "indicator"}, "Numeric.missing: got 'indicator'"),
    ],
    ids=str,
)
def test_numbers_are_not_scaled_in_ways_that_there_are_not(arguments, told):
    with pytest.raises(RecipeError) as error:
        Numeric(**arguments)
    assert str(error.value).startswith(told)


def test_how_numbers_are_scaled_survives_json():
    kinds = {
        "x": Numeric(clip=(0, None), scale="log"),
        "z": Numeric(scale="quantile", missing="indicator"),
    }
    table = RoutingTable(Route("r", when.present("x"), features=kinds, label="y", task="binary"))
    assert from_json(to_json(table)) == table
