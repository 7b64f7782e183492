"""D27: numbers that are told to be too large for their differences, and those that are not."""

import builders_statistics as build
import pytest
from tfx.components.statistics_gen import stats_artifact_utils

from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.route_validator.validate import describe, validate_split
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Numeric, Route, RoutingTable, Target, when

NOW = 1_764_000_000_123
TABLE = RoutingTable(
    Route(
        "r",
        when.present("x"),
        features={"x": Numeric(), "t": Numeric(whole=True)},
        targets={"y": Target("regression"), "z": Target("regression", whole=True)},
    )
)
VALUES = {  # what x and y hold, and whether that is told
    "D27-minutes": ([NOW + 60_000 * i for i in range(50)], True),
    "D27-within-a-step": ([NOW + i for i in range(50)], True),
    "D27-seconds": ([NOW // 1000 + i for i in range(50)], True),
    "D27-a-century": ([NOW * i // 50 for i in range(50)], False),
    "D27-small": ([2**24 - 50 + i for i in range(50)], False),
    "D27-large-counts": ([1_000_000 * i for i in range(50)], False),
    "K4-fill-value": ([*range(49), 10**30], False),
}


@pytest.mark.parametrize(("values", "told"), VALUES.values(), ids=VALUES)
def test_fields_of_32_bits_are_told_where_their_steps_hide_differences(tmp_path, values, told):
    rows = [
        {"x": float(v), "y": float(v), "t": min(v, NOW) + i % 2, "z": min(v, NOW)}
        for i, v in enumerate(values)
    ]
    examples = build.examples_artifact(tmp_path / "examples", {"train": {"r": rows}})
    artifact = build.run_route_statistics(examples, tmp_path / "statistics", TABLE)
    statistics = stats_artifact_utils.load_statistics(artifact, "train").proto()
    _, anomalies = validate_split(statistics, RouteSchemas(declared_schema(TABLE), TABLE), "train")[
        "r"
    ]
    found = describe(anomalies)
    assert set(found) == ({"x", "y"} if told else set())
    if told:
        assert "read as a float of 32 bits, which has steps of" in found["x"]
        assert "Numeric(whole=True)" in found["x"]
        assert 'Target("regression", whole=True)' in found["y"]
