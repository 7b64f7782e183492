"""Where a run's records come from, as the command line says it."""

import pytest

from branchline.pipeline.find_data import find_data
from branchline.schemas import Numeric, Recipe, Route, RoutingTable, when

ROUTE = Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
RECIPE = Recipe("r", RoutingTable(ROUTE))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("in [v1]", ["in [v1]"]),
        ("in [v1]/*.jsonl", []),
        ("a*.jsonl", ["a1.jsonl", "a2.jsonl"]),
        ("**/b.csv", ["in [v1]/b.csv"]),
        ("a[1].jsonl", ["a1.jsonl"]),
    ],
    ids="D21-D22-{}".format,
)
def test_paths_are_taken_literally_where_they_exist_and_else_as_patterns(
    tmp_path, monkeypatch, given, found
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in [v1]").mkdir()
    for name in ("a1.jsonl", "a2.jsonl", "in [v1]/b.csv"):
        (tmp_path / name).write_text("x")
    want = [str(tmp_path / each) for each in found]
    if found:
        assert find_data(RECIPE, tmp_path / "r.py", [given]) == want
    else:
        with pytest.raises(ValueError, match="no file matches"):
            find_data(RECIPE, tmp_path / "r.py", [given])


def test_d21_objects_in_a_store_are_handed_on(tmp_path):
    given = ["s3://bucket/x/", "minio://bucket/*.csv"]
    assert find_data(RECIPE, tmp_path, given) == ["s3://bucket/x/", "s3://bucket/*.csv"]
