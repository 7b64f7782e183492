"""What a pipeline's parameters bring to the components: steps, thresholds; and baselines."""

import json

import builders as build
import builders_evaluator
import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
from tfx.types import channel_utils, standard_artifacts

from branchline.components import BranchEvaluator, BranchTrainer
from branchline.components.branch_evaluator.read_thresholds import read_thresholds
from branchline.components.branch_trainer.component import Executor, _checkpoint_dir
from branchline.components.branch_trainer.recipe.overrides import with_training
from branchline.schemas import (
    Bound,
    Numeric,
    Recipe,
    RecipeError,
    Route,
    RoutingTable,
    Training,
    to_json,
    when,
)

ROUTE = Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="regression")
RECIPE = Recipe("one", RoutingTable(ROUTE), training=Training(steps=4, batch_size=8))


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    """Routed examples of 40 rows, and Transform's graph."""
    root = tmp_path_factory.mktemp("transformed")
    records = [{"x": i / 40, "y": i / 20} for i in range(40)]
    routed = build.route_rows(RECIPE.routing, records)["r"]
    build.transform(root / "transform", RECIPE.routing, {"train": routed}, materialize=False)
    examples = build.routed_artifact(root / "examples", {"train": {"r": routed}})
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(root / "transform" / "graph")
    return {"examples": [examples], "transform_graph": [graph]}


def train(folder, transformed, properties):
    outputs = {
        name: [build.empty_artifact(kind, folder / name)]
        for name, kind in (
            ("model", standard_artifacts.Model),
            ("model_run", standard_artifacts.ModelRun),
        )
    }
    Executor().Do(transformed, outputs, properties)
    return json.loads((folder / "model_run" / "history.json").read_text())


def trainer(**arguments):
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    graph = channel_utils.as_channel([standard_artifacts.TransformGraph()])
    return BranchTrainer(examples, graph, RECIPE, **arguments)


@pytest.mark.parametrize(("steps", "trained"), [(None, 4), (7, 7)], ids=["recipe's", "parameter's"])
def test_the_trainer_takes_as_many_steps_as_the_run_says(tmp_path, transformed, steps, trained):
    properties = trainer().exec_properties | {"steps": steps}
    assert train(tmp_path, transformed, properties)["steps"] == trained


@pytest.mark.parametrize("steps", [0, -5, 2.5, "many"], ids=repr)
def test_steps_that_are_no_number_of_steps_are_told_by_the_parameters_name(
    tmp_path, transformed, steps
):
    with pytest.raises(RecipeError, match=f"the pipeline parameter steps: got {steps!r}"):
        train(tmp_path, transformed, trainer().exec_properties | {"steps": steps})


def test_steps_may_be_given_by_the_pipeline_or_its_parameter():
    parameter = RuntimeParameter("steps", ptype=int, default=9)
    assert trainer(steps=parameter).exec_properties["steps"] is parameter
    assert trainer(steps=9).exec_properties["steps"] == 9
    assert trainer().exec_properties["steps"] is None
    with pytest.raises(RecipeError, match="BranchTrainer.steps: got 0"):
        trainer(steps=0)
    with pytest.raises(RecipeError, match="BranchTrainer.steps: got <class 'str'>"):
        trainer(steps=RuntimeParameter("steps", ptype=str, default="9"))


def test_runs_with_other_steps_do_not_go_on_from_each_others_checkpoints():
    properties = trainer(checkpoint_dir="/checkpoints").exec_properties
    recipes = [RECIPE, *(with_training(RECIPE, {"steps": steps}) for steps in (7, 8))]
    places = {_checkpoint_dir(properties, recipe, ["/e"]) for recipe in recipes}
    assert len(places) == 3


def test_the_compiler_may_say_a_recipe_files_hash_that_lies_elsewhere():
    properties = trainer(recipe_file="/in/image.py", recipe_hash="abc").exec_properties
    assert (properties["recipe_file"], properties["recipe_hash"]) == ("/in/image.py", "abc")


TWO = RoutingTable(
    Route("type", when.present("x"), features={"x": Numeric()}, label="y", task="binary"),
    ROUTE,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        ('{"r": {"mae": 2}}', {"r": {"mae": Bound(greatest=2)}}),
        (
            '{"type": {"auc": 0.9, "loss": 1}}',
            {"type": {"auc": Bound(least=0.9), "loss": Bound(greatest=1)}},
        ),
        (
            '{"r": {"calibration": {"least": 0.9, "greatest": 1.1}}}',
            {"r": {"calibration": Bound(0.9, 1.1)}},
        ),
    ],
    ids=["none", "number", "route-named-type", "both-sides"],
)
def test_thresholds_are_read_as_people_write_them(text, expected):
    assert read_thresholds(text, TWO) == expected


def test_thresholds_are_read_as_the_compiler_writes_them():
    bounds = {"r": {"mae": Bound(greatest=2.5), "mse": Bound(0.5, 3)}, "type": {}}
    assert read_thresholds(to_json(bounds), TWO) == bounds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "got '', expected JSON such as"),
        ("{'r': 1}", "expected JSON such as"),
        ("[1]", "got \\[1\\], expected an object such as"),
        ('{"q": {}}', "got 'q', expected one of the routes type, r"),
        ('{"r": 0.9}', "\\['r'\\]: got 0.9, expected an object of metric to number"),
        ('{"r": {"oddity": 1}}', "\\['r'\\]\\['oddity'\\]: got 1, .*does not say which"),
        ('{"r": {"mae": "2"}}', "\\['r'\\]\\['mae'\\]: got '2', expected a finite number"),
        ('{"r": {"mae": NaN}}', "\\['r'\\]\\['mae'\\]: got nan"),
        ('{"r": {"mae": {}}}', "\\['r'\\]\\['mae'\\]: got {}, expected a number, or an object"),
        ('{"r": {"mae": {"most": 1}}}', "got {'most': 1}"),
        ('{"r": {"mae": {"least": "x"}}}', "\\['r'\\]\\['mae'\\]: Bound.least: got 'x'"),
    ],
)
def test_thresholds_that_are_wrong_are_told_by_the_parameters_name(text, told):
    with pytest.raises(RecipeError, match=f"the pipeline parameter thresholds.*{told}"):
        read_thresholds(text, TWO)


def test_thresholds_may_be_a_parameter_of_the_pipeline():
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    model = channel_utils.as_channel([standard_artifacts.Model()])
    parameter = RuntimeParameter("thresholds", ptype=str, default="{}")
    made = BranchEvaluator(examples, model, TWO, thresholds=parameter)
    assert made.exec_properties["thresholds"] is parameter
    with pytest.raises(RecipeError, match="BranchEvaluator.thresholds: got <class 'int'>"):
        BranchEvaluator(examples, model, TWO, thresholds=RuntimeParameter("n", int, 1))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The routing, examples and model of one regression, as an Evaluator takes them."""
    table = RoutingTable(builders_evaluator.routing()["r"])
    root = tmp_path_factory.mktemp("evaluated")
    rows = {"r": builders_evaluator.rows(size=60)["r"]}
    examples = builders_evaluator.routed_examples(root / "examples", rows, table)
    return table, examples, builders_evaluator.model(root / "model", table)


def evaluate(folder, evaluated, thresholds="{}", baseline=()):
    table, examples, model = evaluated
    return builders_evaluator.run(
        folder, examples, model, thresholds, baseline=baseline, table=table
    )


def as_kubeflow_hands_it_over(uri, **metadata):
    """A model as an input of a step: properties come as numbers and texts of a JSON object."""
    artifact = {"uri": uri, "type": {"schemaTitle": "tfx.Model"}, "metadata": metadata}
    listed = json_format.ParseDict({"artifacts": [artifact]}, pipeline_spec_pb2.ArtifactList())
    return kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict({"baseline": listed}, {})[
        "baseline"
    ]


@pytest.mark.parametrize(("most", "blessed"), [(5, True), (0.01, False)], ids=["holds", "misses"])
def test_the_runs_thresholds_decide_and_the_verdict_names_the_model(
    tmp_path, evaluated, most, blessed
):
    text = json.dumps({"r": {"mean_absolute_error": most}})
    summary, *_ = evaluate(tmp_path, evaluated, text)
    assert summary["blessed"] is blessed
    verdict = tmp_path / "blessing" / ("BLESSED" if blessed else "NOT_BLESSED")
    assert verdict.read_text() == evaluated[2].uri
    assert [file.name for file in (tmp_path / "blessing").iterdir()] == [verdict.name]


def test_a_baseline_that_is_absent_is_none(tmp_path, evaluated):
    local = standard_artifacts.Model()
    local.uri = str(tmp_path / "nothing")
    local.set_int_custom_property("absent", 1)
    for number, found in enumerate([[local], as_kubeflow_hands_it_over("/nothing", absent=1.0)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        summary, blessing, _ = evaluate(folder, evaluated, baseline=found)
        assert summary["baseline"] is None and summary["blessed"] is True
        assert not blessing.has_custom_property("baseline_model")


def test_a_baseline_that_is_there_is_compared_and_told_by_where_it_came_from(tmp_path, evaluated):
    better = builders_evaluator.model(tmp_path / "b", evaluated[0], transform=lambda x: x - 0.5)
    text = json.dumps({"r": {"mean_absolute_error": 10}})
    found = as_kubeflow_hands_it_over(better.uri, copied_from="/s3/b/model")
    summary, *_ = evaluate(tmp_path, evaluated, text, found)
    assert summary["baseline"] == "s3://b/model"  # not the path that it had in its container
    assert [check["kind"] for check in summary["routes"]["r"]["checks"]] == [
        "threshold",
        "regression",
    ]


def test_a_copy_of_the_model_itself_is_not_compared(tmp_path, evaluated):
    model = evaluated[2]
    found = as_kubeflow_hands_it_over(str(tmp_path / "copy"), copied_from=model.uri)
    summary, *_ = evaluate(tmp_path, evaluated, baseline=found)
    assert summary["baseline"] is None
