"""Which spans and versions a path stands for: the meaning is that of TFX's ExampleGen."""

import json

import builders as build
import pytest
from object_store import BUCKET, object_store
from tfx.components.example_gen import utils
from tfx.orchestration.portable import data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.types import standard_artifacts

from branchline.components import DataFingerprint, MixedExampleGen
from branchline.components.artifacts import Quarantine
from branchline.components.data_fingerprint import component as data_fingerprint
from branchline.components.mixed_example_gen.component import Driver, Executor
from branchline.components.mixed_example_gen.find_files import find_files
from branchline.components.mixed_example_gen.find_spans import (
    choose_spans,
    next_span,
    range_of_spans,
)
from branchline.schemas import BranchlineError, RecipeError


@pytest.fixture
def folder(tmp_path):
    """Makes files, each of one record that holds the file's path."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            build.write_jsonl(tmp_path / name, [{"name": name}])
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("names", "path", "chosen", "span", "version"),
    [
        (["s-1/a", "s-2/a", "s-10/a"], "s-{SPAN}", ["s-10"], 10, None),
        (["s-1/a", "s-2/a"], "s-{SPAN}/*", ["s-2/*"], 2, None),
        (["s-1/x/y/a", "s-2/x/b"], "s-{SPAN}/**", ["s-2/**"], 2, None),
        (["s-1/a", "s-02/a"], "s-{SPAN}", ["s-02"], 2, None),
        (["s-01/a", "s-02/a"], "s-{SPAN:2}/*", ["s-02/*"], 2, None),
        (["d1", "d2"], "d{SPAN}.jsonl", ["d2.jsonl"], 2, None),
        (["1/v1/a", "2/v1/a", "2/v3/a"], "{SPAN}/v{VERSION}", ["2/v3"], 2, 3),
        (["1-v9/a", "2-v0/a"], "{SPAN}-v{VERSION}/*", ["2-v0/*"], 2, 0),
        (["2024/02/29/a", "2023/12/31/a"], "{YYYY}/{MM}/{DD}", ["2024/02/29"], 19782, None),
        (["20240229/a"], "{YYYY}{MM}{DD}/*", ["20240229/*"], 19782, None),
        (["20240229-7/a"], "{YYYY}{MM}{DD}-{VERSION}", ["20240229-7"], 19782, 7),
    ],
    ids=[
        "newest", "files", "below", "zeros", "width", "file", "version", "version-of-newest",
        "date-folders", "date", "date-version",
    ],
)  # fmt: skip
def test_the_newest_span_and_its_newest_version_are_chosen_as_tfx_does(
    folder, names, path, chosen, span, version
):
    root = folder(*(f"{name}.jsonl" for name in names))
    found = choose_spans([f"{root}/{path}"])
    assert found == ([f"{root}/{each}" for each in chosen], [span], version)
    assert find_files(found.paths)[0]
    if "**" not in path:  # which TFX knows not
        split = example_gen_pb2.Input.Split(name="s", pattern=path)
        _, *of_tfx = utils.calculate_splits_fingerprint_span_and_version(str(root), [split])
        assert [span, version] == of_tfx and [f"{root}/{split.pattern}"] == found.paths


def test_what_holds_no_records_is_no_span(folder):
    root = folder("1/a.jsonl", "2/_SUCCESS", "3/notes.txt", "README.md", "_tmp/a.jsonl")
    (root / "4").mkdir()
    assert choose_spans([f"{root}/{{SPAN}}"]).spans == [1]


def test_d22_a_folder_of_an_odd_name_is_taken_literally(folder):
    root = folder("in [v1] (2) +é/s-1/a.jsonl", "in [v1] (2) +é/s-2/a.jsonl")
    found = choose_spans([f"{root}/in [v1] (2) +é/s-{{SPAN}}"])
    assert found.spans == [2]
    assert [file.path for file in find_files(found.paths)[0]] == [
        f"{root}/in [v1] (2) +é/s-2/a.jsonl"
    ]


def test_folders_below_a_span_give_fields_and_its_own_do_not(folder):
    root = folder("day=1/kind=a/x.jsonl", "day=2/kind=b/x.jsonl")
    for tail in ("", "/*", "/**/*.jsonl"):
        (file,), _ = find_files(choose_spans([f"{root}/day={{SPAN}}{tail}"]).paths)
        assert file.partitions == (("kind", "b"),)


def static(first, last):
    return range_of_spans((first, last))


def rolling(number, start=0):
    config = range_of_spans(number)
    config.rolling_range.start_span_number = start
    return config


@pytest.mark.parametrize(
    ("config", "spans"),
    [
        (rolling(2), [3, 7]),
        (rolling(9), [1, 3, 7]),
        (rolling(9, start=2), [3, 7]),
        (static(1, 6), [1, 3]),
        (static(3, 3), [3]),
    ],
    ids=["two", "all", "from-2", "1-to-6", "one"],
)
def test_a_range_takes_the_spans_that_there_are(folder, config, spans):
    root = folder("1/a.jsonl", "3/a.jsonl", "7/a.jsonl")
    found = choose_spans([f"{root}/{{SPAN}}"], config)
    assert found == ([f"{root}/{span}" for span in spans], spans, None)


def test_paths_without_a_span_are_read_beside_it(folder):
    root = folder("1/a.jsonl", "2/a.jsonl", "b.jsonl")
    paths = [f"{root}/b.jsonl", f"{root}/{{SPAN}}/*"]
    assert choose_spans(paths) == ([f"{root}/b.jsonl", f"{root}/2/*"], [2], None)
    assert choose_spans([f"{root}/b.jsonl"]) == ([f"{root}/b.jsonl"], [], None)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{VERSION}/*", "Version spec provided, but Span or Date spec is not present"),
        ("{SPAN}/{SPAN}", "Only one {SPAN} is allowed"),
        ("{SPAN}-{YYYY}{MM}{DD}", "must be specified exclusively"),
        ("{YYYY}-{MM}", "Exactly one of each date spec"),
        ("**/{SPAN}", r"expected the span before \*\*"),
    ],
    ids=["version-alone", "twice", "span-and-date", "half-a-date", "behind-stars"],
)
def test_a_path_that_no_span_can_have_is_refused_when_the_component_is_made(path, message):
    for component in (MixedExampleGen, DataFingerprint):
        with pytest.raises(RecipeError, match=message):
            component(f"somewhere/{path}")
    with pytest.raises(RecipeError, match=message):
        choose_spans([f"somewhere/{path}"])


@pytest.mark.parametrize(
    ("names", "path", "config", "message"),
    [
        ([], "s-{SPAN}", rolling(1), "expected files of records of a span, but found none"),
        (["s-1/a"], "s-{SPAN}", static(4, 5), "expected a span from 4 to 5, but found only 1"),
        (["s-1/a"], "s-{SPAN}", rolling(1, 4), "of a span from 4 on, but found only 1"),
        (["s-old/a"], "s-{SPAN}", rolling(1), "Cannot find span number from s-old"),
        (["20240231/a"], "{YYYY}{MM}{DD}", rolling(1), "date is invalid for file: 20240231"),
        (["s-1/a"], "s-{SPAN:0}", rolling(1), "not a positive integer"),
    ],
    ids=["none", "not-in-range", "before-start", "no-number", "no-date", "no-width"],
)
def test_where_no_span_is_found_one_error_says_what_is_there(folder, names, path, config, message):
    root = folder(*(f"{name}.jsonl" for name in names))
    with pytest.raises(BranchlineError, match=message) as error:
        choose_spans([f"{root}/{path}"], config)
    assert f"{root}/{path}" in str(error.value) and "\n" not in str(error.value)


def test_paths_with_other_spans_than_one_another_are_refused(folder):
    root = folder("a/1/x.jsonl", "a/2/x.jsonl", "b/1/x.jsonl")
    with pytest.raises(BranchlineError, match="same spans .*/a/{SPAN}: 2; .*/b/{SPAN}: 1") as error:
        choose_spans([f"{root}/a/{{SPAN}}", f"{root}/b/{{SPAN}}"])
    assert "versions" in str(error.value)


def test_a_range_of_no_spans_is_refused():
    for config in (rolling(0), range_config_pb2.RangeConfig(), static(3, 2)):
        with pytest.raises(
            RecipeError, match="MixedExampleGen.range_config: got .* at least one span"
        ):
            MixedExampleGen("somewhere", range_config=config)


def test_spans_in_a_bucket_are_found_as_on_disk(monkeypatch):
    with object_store(monkeypatch) as client:
        for key in ("d/s-1/v1/a.jsonl", "d/s-2/v1/a.jsonl", "d/s-2/v2/kind=b/a.jsonl"):
            client.put_object(Bucket=BUCKET, Key=key, Body=b'{"a": 1}\n')
        found = choose_spans([f"s3://{BUCKET}/d/s-{{SPAN}}/v{{VERSION}}/*"])
        assert found == ([f"s3://{BUCKET}/d/s-2/v2/*"], [2], 2)
        (file,), _ = find_files(found.paths)
        assert file.partitions == (("kind", "b"),)


def run(root, tmp_path, **arguments):
    """Runs the executor; gives the examples and the names in them."""
    examples = build.empty_artifact(standard_artifacts.Examples, tmp_path / "examples")
    aside = build.empty_artifact(Quarantine, tmp_path / "quarantine")
    properties = MixedExampleGen(root, splits={"all": 1}, **arguments).exec_properties
    Executor().Do({}, {"examples": [examples], "quarantine": [aside]}, properties)
    rows = map(build.read_example, build.read_split(examples, "all"))
    return examples, sorted(row["name"][1][0].decode() for row in rows)


def test_the_examples_tell_span_version_and_fingerprint(folder, tmp_path):
    root = folder("r/1/v1/a.jsonl", "r/2/v1/a.jsonl", "r/2/v4/a.jsonl")
    path = f"{root}/r/{{SPAN}}/v{{VERSION}}"
    examples, names = run(path, tmp_path / "one")
    assert names == ["r/2/v4/a.jsonl"]
    assert (examples.span, examples.version) == (2, 4)
    custom = [examples.get_int_custom_property(name) for name in ("span", "version")]
    assert custom == [2, 4] and not examples.has_custom_property("spans")
    assert examples.get_string_custom_property("input_fingerprint") == fingerprint(path)

    examples, names = run(path, tmp_path / "two", range_config=range_of_spans(2))
    assert names == ["r/1/v1/a.jsonl", "r/2/v4/a.jsonl"]
    assert (examples.span, examples.get_string_custom_property("spans")) == (2, "[1, 2]")


def fingerprint(path, **arguments):
    properties = MixedExampleGen(path, **arguments).exec_properties
    made = Driver(None).run(data_types.ExecutionInfo(exec_properties=properties))
    return made.exec_properties["input_fingerprint"].string_value


def test_a_new_span_or_version_changes_the_fingerprint_and_an_older_one_does_not(folder, tmp_path):
    root = folder("r/3/v2/a.jsonl")
    path = f"{root}/r/{{SPAN}}/v{{VERSION}}"
    first, of_two = fingerprint(path), fingerprint(path, range_config=range_of_spans(2))
    folder("r/1/v1/a.jsonl", "r/3/v1/a.jsonl")
    assert fingerprint(path) == first
    assert fingerprint(path, range_config=range_of_spans(2)) != of_two
    folder("r/3/v3/a.jsonl")
    second = fingerprint(path)
    folder("r/4/v1/a.jsonl")
    assert len({first, second, fingerprint(path)}) == 3


def test_where_no_driver_runs_the_fingerprint_is_the_same(folder, tmp_path):
    root = folder("r/1/a.jsonl", "r/2/a.jsonl", "r/3/a.jsonl")
    for spans in (1, 2):
        config = range_of_spans(spans)
        output = build.empty_artifact(standard_artifacts.String, tmp_path / "fingerprint")
        properties = DataFingerprint(f"{root}/r/{{SPAN}}", range_config=config).exec_properties
        data_fingerprint.Executor().Do({}, {"fingerprint": [output]}, properties)
        written = (tmp_path / "fingerprint").read_text()
        assert written == fingerprint(f"{root}/r/{{SPAN}}", range_config=config)


def test_a_list_of_paths_may_have_spans_too(folder):
    root = folder("1/a.jsonl", "b.jsonl")
    given = MixedExampleGen([f"{root}/{{SPAN}}", f"{root}/b.jsonl"]).exec_properties["input_base"]
    assert json.loads(given) == [f"{root}/{{SPAN}}", f"{root}/b.jsonl"]


@pytest.mark.parametrize(
    ("names", "path", "named"),
    [
        ([], "s-{SPAN}", "s-1"),
        (["s-1/a", "s-9/a"], "s-{SPAN}", "s-10"),
        (["s-01/v7/a"], "s-{SPAN:2}/v{VERSION}", "s-02/v1"),
    ],
    ids=["first", "next", "width-and-version"],
)
def test_the_next_span_is_named(folder, names, path, named):
    root = folder(*(f"{name}.jsonl" for name in names))
    assert next_span(f"{root}/{path}") == f"{root}/{named}"


def test_the_next_span_of_dates_is_refused(folder):
    with pytest.raises(RecipeError, match="place for a date, expected one for a number"):
        next_span(f"{folder()}/{{YYYY}}{{MM}}{{DD}}")
