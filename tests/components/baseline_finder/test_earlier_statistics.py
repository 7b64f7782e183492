import builders_mixed
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.components.evaluator import constants
from tfx.types import channel_utils, standard_artifacts

from branchline.components import BaselineFinder
from branchline.components.baseline_finder.earlier_statistics import EarlierStatistics
from branchline.components.route_validator.component import RouteValidator
from branchline.schemas import Numeric, Route, RoutingTable, Validation, when


class Runs:
    """Real metadata: each run reads examples, makes statistics and a model of them."""

    def __init__(self):
        config = mlmd.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = metadata_store.MetadataStore(config)
        self._kind = self.store.put_artifact_type(mlmd.ArtifactType(name="any"))
        self._step = self.store.put_execution_type(mlmd.ExecutionType(name="step"))
        self.inputs = {"previous_statistics": [], "model": [], "model_blessing": []}
        self._statistics = {}

    def _artifact(self, of_class):
        artifact = of_class()
        [artifact.id] = self.store.put_artifacts([mlmd.Artifact(type_id=self._kind)])
        return artifact

    def _make(self, examples, made):
        [step] = self.store.put_executions([mlmd.Execution(type_id=self._step)])
        kinds = {examples.id: mlmd.Event.INPUT, made.id: mlmd.Event.OUTPUT}
        self.store.put_events(
            [mlmd.Event(artifact_id=i, execution_id=step, type=kind) for i, kind in kinds.items()]
        )

    def statistics(self, data):
        """Those of the data of this name; made once, then from the cache."""
        if data not in self._statistics:
            examples = self._artifact(standard_artifacts.Examples)
            made = self._artifact(standard_artifacts.ExampleStatistics)
            self._make(examples, made)
            self.inputs["previous_statistics"].append(made)
            self._statistics[data] = examples, made
        return self._statistics[data][1]

    def train(self, data, blessed):
        self.statistics(data)
        model = self._artifact(standard_artifacts.Model)
        self._make(self._statistics[data][0], model)
        blessing = standard_artifacts.ModelBlessing()
        key = constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
        blessing.set_int_custom_property(key, model.id)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
        self.inputs["model"].append(model)
        self.inputs["model_blessing"].append(blessing)


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        ([], "a", None),
        ([("a", True)], "a", None),  # once more: compared as it was at first
        ([("a", True)], "b", "a"),
        ([("a", True), ("b", True)], "b", "a"),  # once more
        ([("a", True), ("b", True)], "c", "b"),
        ([("a", True), ("b", False)], "c", "a"),
        ([("a", False)], "b", None),
        ([("a", True), ("b", True), ("a", True)], "c", "a"),  # trained again on the first
    ],
)
def test_the_statistics_are_of_the_last_blessed_run_and_not_its_own(earlier, now, expected):
    runs = Runs()
    for data, blessed in earlier:
        runs.train(data, blessed)
    current = runs.statistics(now)
    inputs = {**runs.inputs, "statistics": [current]}
    found = EarlierStatistics().resolve_artifacts(runs.store, inputs)
    wanted = [] if expected is None else [runs.statistics(expected).id]
    assert [artifact.id for artifact in found["previous_statistics"]] == wanted
    assert found["statistics"] == [current]


def test_the_documentations_resolver_gives_what_route_validator_takes():
    _, code, *_ = builders_mixed.examples()
    made = {}
    exec(code, made)
    statistics = channel_utils.as_channel([standard_artifacts.ExampleStatistics()])
    outputs = made["earlier_statistics"](statistics).outputs
    table = RoutingTable(
        Route("r", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
    )
    schema = channel_utils.as_channel([standard_artifacts.Schema()])
    earlier = outputs["previous_statistics"]
    validator = RouteValidator(statistics, schema, table, earlier, Validation(drift=0.1))
    assert validator.inputs["previous_statistics"].type is standard_artifacts.ExampleStatistics


def test_the_documentations_finder_gives_what_route_validator_takes():
    *_, code, _ = builders_mixed.examples()
    statistics = channel_utils.as_channel([standard_artifacts.ExampleStatistics()])
    made = {"BaselineFinder": BaselineFinder, "statistics": RouteStatisticsLike(statistics)}
    exec(code, made)
    finder = made["finder"]
    assert finder.inputs["statistics"] is statistics
    earlier = finder.outputs["previous_statistics"]
    assert earlier.type is standard_artifacts.ExampleStatistics


class RouteStatisticsLike:
    """What makes statistics, in somebody's pipeline."""

    def __init__(self, statistics):
        self.outputs = {"statistics": statistics}
