"""No record lies between two stages of FnApiRunner, which keeps in memory what does."""

import json

import builders as build
import pytest
from apache_beam.runners.portability.fn_api_runner import execution
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Channel, standard_artifacts

from branchline.components import MixedExampleGen, Router
from branchline.components.artifacts import Quarantine
from branchline.components.mixed_example_gen.component import Executor as Ingester
from branchline.components.router.component import Executor as RouterExecutor
from branchline.pipeline.local import BEAM_ARGS
from branchline.schemas import Numeric, Route, RoutingTable, when

RECORD, SET_ASIDE = b"what a record holds", b"what no route takes"
TABLE = RoutingTable(
    Route("a", when.present("x"), features={"x": Numeric()}, label="y", task="binary")
)


@pytest.fixture
def between(monkeypatch):
    """All that is put between two stages."""
    kept = []
    for kind in (execution.ListBuffer, execution.GroupingBuffer):

        def append(self, content, _append=kind.append):
            kept.append(bytes(content))
            _append(self, content)

        monkeypatch.setattr(kind, "append", append)
    return kept


def context():
    return BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM_ARGS))


def ingest(root, rows):
    build.write_jsonl(root / "a.jsonl", rows)
    examples = build.empty_artifact(standard_artifacts.Examples, root / "examples")
    aside = build.empty_artifact(Quarantine, root / "aside")
    step = MixedExampleGen(str(root / "a.jsonl"), routing=TABLE)
    outputs = {"examples": [examples], "quarantine": [aside]}
    Ingester(context()).Do({}, outputs, step.exec_properties)
    examples.split_names = json.dumps(["eval", "train"])
    return examples


def test_no_record_is_buffered_between_stages(tmp_path, between):
    rows = [{"x": i, "y": 1, "t": RECORD.decode()} for i in range(200)]
    examples = ingest(tmp_path, [*rows, {"z": 1, "t": SET_ASIDE.decode()}])
    assert any(b"a.jsonl" in each for each in between)
    assert not any(RECORD in each or SET_ASIDE in each for each in between)
    between.clear()

    step = Router(Channel(standard_artifacts.Examples), TABLE)
    routed = build.empty_artifact(standard_artifacts.Examples, tmp_path / "routed")
    outputs = {
        "routed_examples": [routed],
        "quarantine": [build.empty_artifact(Quarantine, tmp_path / "aside2")],
    }
    RouterExecutor(context()).Do({"examples": [examples]}, outputs, step.exec_properties)
    assert not any(RECORD in each for each in between)
    # What is set aside is grouped by its file, so as to be found there again.
    assert any(SET_ASIDE in each for each in between)
    assert sum(map(len, between)) < 100_000
