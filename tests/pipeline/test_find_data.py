"""Where a run's records come from, as the command line says it."""

import dataclasses

import pytest

from branchline.pipeline.find_data import find_data
from branchline.schemas import Numeric, Recipe, RecipeError, Route, RoutingTable, when

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


@pytest.fixture
def spans(tmp_path):
    for name in ("s-1/a.jsonl", "s-2/kind=b/a.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize("given", ["s-{SPAN}", "s-{SPAN}/*", "s-{SPAN}/**/*.jsonl"])
def test_a_path_with_a_place_for_a_span_stays_as_it_is(spans, monkeypatch, given):
    monkeypatch.chdir(spans)
    assert find_data(RECIPE, spans / "r.py", [given]) == [f"{spans}/{given}"]
    of_recipe = dataclasses.replace(RECIPE, data=given)
    assert find_data(of_recipe, spans / "r.py", None) == [f"{spans}/{given}"]


@pytest.mark.parametrize(
    ("given", "spans_of_recipe", "message"),
    [
        ("t-{SPAN}", 1, "--data .*t-{SPAN}: expected files of records of a span, but found none"),
        ("s-{SPAN}", (5, 6), "--data .* expected a span from 5 to 6, but found only 1, 2"),
        ("s-{VERSION}", 1, "--data .* Version spec provided, but Span or Date spec is not present"),
        ("s-{x}", 1, "--data .*s-{x} does not exist"),
    ],
    ids=["none", "not-in-range", "version-alone", "no-place"],
)
def test_spans_that_are_not_there_are_told_before_anything_runs(
    spans, given, spans_of_recipe, message
):
    recipe = dataclasses.replace(RECIPE, spans=spans_of_recipe)
    with pytest.raises(RecipeError, match=message):
        find_data(recipe, spans / "r.py", [f"{spans}/{given}"])
