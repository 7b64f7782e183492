"""Numeric features that do not vary in the training rows are told."""

import builders_statistics as build
from tfx.components.statistics_gen import stats_artifact_utils

from branchline.components.route_validator.route_schema import RouteSchemas
from branchline.components.route_validator.validate import describe, validate_split
from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Ids, Numeric, Route, RoutingTable, when

NOW = 1_764_000_000_123
FEATURES = {
    "same": Numeric(),
    "list": Numeric((2,)),
    "whole": Numeric(whole=True),
    "gaps": Numeric(missing="indicator"),
    "varies": Numeric(),
    "entries": Numeric((2,)),
    "id": Ids(9),
}
TABLE = RoutingTable(
    Route("r", when.present("same"), features=FEATURES, label="y", task="binary", weight="w"),
    Route("s", when.present("z"), features={"z": Numeric()}, label="y", task="binary"),
)


def row(i):
    return {
        "same": 3.5,
        "list": [2.0, 2.0],
        "whole": NOW,
        **({"gaps": -1.0} if i % 2 else {}),
        "varies": 1.0 + (i == 7) / 8,
        "entries": [0.0, 1.0],
        "id": 4,
        "y": 1,
        "w": 2.0,
    }


def test_numbers_that_do_not_vary_are_told_of_the_rows_that_are_trained_on(tmp_path):
    rows = {"r": [row(i) for i in range(20)], "s": [{"z": 1.0, "y": 0}]}
    examples = build.examples_artifact(tmp_path / "examples", {"train": rows, "eval": rows})
    artifact = build.run_route_statistics(examples, tmp_path / "statistics", TABLE)
    schemas = RouteSchemas(declared_schema(TABLE), TABLE)
    found = {}
    for split in ("train", "eval"):
        statistics = stats_artifact_utils.load_statistics(artifact, split).proto()
        for route, (_, anomalies) in validate_split(statistics, schemas, split).items():
            found[split, route] = describe(anomalies)
    told = found.pop(("train", "r"))
    assert set(told) == {"same", "list", "whole", "gaps"}
    assert "Does not vary: same is 3.5 wherever it is there" in told["same"]
    assert found == {("train", "s"): {}, ("eval", "r"): {}, ("eval", "s"): {}}
