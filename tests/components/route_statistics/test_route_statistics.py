import pytest
import tensorflow_data_validation as tfdv
from builders_statistics import examples_artifact, run_route_statistics, run_statistics_gen
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from branchline.components import RouteStatistics
from branchline.components.route_statistics.stats_options import route_stats_options
from branchline.schemas import Categorical, Numeric, Route, RoutingTable, when

TABLE = RoutingTable(
    Route("a", when.present("p"), features={"p": Numeric()}, label="y", task="binary"),
    Route(
        "b",
        when.present("q"),
        features={"q": Numeric(), "colour": Categorical()},
        label="y",
        task="binary",
    ),
)
ROWS = {
    "a": [{"p": 0.5 * i, "y": i % 2, "junk": i if i % 2 else "text"} for i in range(20)],
    "b": [{"q": 2.0 * i, "colour": "red", "y": 1} for i in range(10)] + [{"y": 0}],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Which component → split → slice → column → its statistics."""
    root = tmp_path_factory.mktemp("statistics")
    splits = {"train": ROWS, "test": {"b": ROWS["b"]}}
    examples = examples_artifact(root / "examples", splits)
    found = {}
    for run in (run_statistics_gen, run_route_statistics):
        artifact = run(examples, root / run.__name__, TABLE)
        assert artifact_utils.decode_split_names(artifact.split_names) == list(splits)
        found[run] = {split: read(artifact, split) for split in splits}
    return found


def read(artifact, split):
    stats = tfdv.load_stats_binary(f"{artifact.uri}/Split-{split}/FeatureStats.pb")
    return {
        dataset.name: {feature.path.step[0]: feature for feature in dataset.features}
        | {None: dataset.num_examples}
        for dataset in stats.datasets
    }


@pytest.mark.parametrize("run", [run_statistics_gen, run_route_statistics])
def test_every_split_has_a_slice_per_route_with_rows(made, run):
    counts = {
        split: {name: columns[None] for name, columns in slices.items()}
        for split, slices in made[run].items()
    }
    assert counts == {
        "train": {"All Examples": 31, "_route_a": 20, "_route_b": 11},
        "test": {"All Examples": 11, "_route_b": 11},
    }


def test_a_slice_holds_the_columns_of_its_rows_alone(made):
    slices = made[run_route_statistics]["train"]
    assert set(slices["_route_a"]) == {None, "_route", "p", "y"}
    assert set(slices["_route_b"]) == {None, "_route", "q", "colour", "y"}
    assert set(slices["All Examples"]) == {None, "_route", "p", "q", "colour", "y"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_a_slice_holds_is_as_statistics_gen_says(made, split):
    for name, columns in made[run_route_statistics][split].items():
        theirs = made[run_statistics_gen][split][name]
        assert all(theirs[column] == said for column, said in columns.items())


def test_options_survive_json():
    options = tfdv.StatsOptions.from_json(route_stats_options(TABLE).to_json())
    assert options.slicing_config == route_stats_options(TABLE).slicing_config
    assert options.use_sketch_based_topk_uniques and options.experimental_filter_read_paths
    assert options.schema == route_stats_options(TABLE).schema


def test_the_component_stands_where_statistics_gen_does():
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    component = RouteStatistics(examples, TABLE)
    assert component.outputs["statistics"].type is standard_artifacts.ExampleStatistics
    assert component.exec_properties["code_version"]


def test_a_split_that_is_left_out_is_not_read(tmp_path):
    splits = {"train": {"b": ROWS["b"]}, "test": {}}
    examples = examples_artifact(tmp_path / "examples", splits)
    (tmp_path / "examples" / "Split-test" / "b-00000-of-00001.gz").write_bytes(b"no TFRecord")
    step = RouteStatistics(channel_utils.as_channel([examples]), TABLE, exclude_splits=["test"])
    artifact = run_route_statistics(
        examples, tmp_path / "out", TABLE, step.exec_properties["exclude_splits"]
    )
    assert artifact_utils.decode_split_names(artifact.split_names) == ["train"]
    assert read(artifact, "train")["_route_b"][None] == 11
