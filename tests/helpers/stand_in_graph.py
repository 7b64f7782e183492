# type: ignore  (TFX reads the annotations of components as objects)
"""A small pipeline with the interface of branchline.pipeline.graph, for tests of what runs it."""

import glob
import json
import logging
import os
import tempfile
import time

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from branchline.components.artifacts import Quarantine
from branchline.components.run_report.component import RunReport
from branchline.schemas import BranchlineError

ROUTES = ("text", "meter")
_progress = logging.getLogger("branchline.progress")


class Refuse(beam.DoFn):
    """Fails as a component of ours does within Beam."""

    def process(self, element):
        raise BranchlineError(f"record {element} is\nno good: mend it")


@component(use_beam=True)
def Ingest(
    quarantine: OutputArtifact[Quarantine],
    paths: Parameter[str],
    mode: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Counts lines, and fails or lingers if it is told to."""
    print("chatter of a library on stdout")
    tempfile.mkstemp(prefix="left-by-a-library")
    os.system("echo chatter of a subprocess >&2")
    logging.getLogger("some.library").error("a harmless error\nwith details")
    with beam_pipeline as p:
        numbers = p | beam.Create([1])
        if mode == "fail":
            _ = numbers | beam.ParDo(Refuse())
    if mode == "linger":
        open(os.path.join(quarantine.uri, "half-written"), "w").close()
        open(f"{paths}.lingers", "w").close()
        time.sleep(60)
    files = [paths] if os.path.isfile(paths) else glob.glob(f"{paths}/*")
    number = sum(1 for file in files for _ in open(file))
    counts = {"in": number + 1, "quarantined": {"malformed JSON": 1}, "samples": {}}
    counts["out"] = {"train": number - 1, "eval": 1}
    with open(os.path.join(quarantine.uri, "counts.json"), "w") as file:
        json.dump(counts, file)
    told = {"component": "Ingest", "records": number + 1, "quarantined": 1}
    _progress.info("counted", extra={"progress": told})


@component
def Judge(
    quarantine: InputArtifact[Quarantine],
    evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    least: Parameter[float],
) -> None:
    """Judges an invented value."""
    for step in range(1, 101):
        told = {"component": "Judge", "step": step, "steps": 100, "losses": {"text": 1 / step}}
        _progress.info("stepped", extra={"progress": told})
    holds = 0.95 >= least
    check = {"metric": "auc", "kind": "threshold", "least": least, "greatest": None}
    route = {"examples": 1, "metrics": {"auc": 0.95}, "baseline": None, "note": None}
    routes = {"text": route | {"checks": [check | {"value": 0.95, "holds": holds}]}}
    with open(os.path.join(evaluation.uri, "evaluation.json"), "w") as file:
        json.dump({"blessed": holds, "baseline": None, "routes": routes}, file)
    name = "BLESSED" if holds else "NOT_BLESSED"
    open(os.path.join(blessing.uri, name), "w").close()


CHECKPOINTS = "checkpoints"


def create_pipeline(
    recipe,
    *,
    recipe_file,
    recipe_module,
    data_paths,
    output_dir,
    enable_cache,
    beam_pipeline_args,
):
    """Makes the pipeline; the recipe's split_key says whether it works, fails or lingers."""
    ingest = Ingest(paths=data_paths[0], mode=recipe.split_key or "work")  # type: ignore
    least = recipe.thresholds["text"]["auc"].least
    judge = Judge(quarantine=ingest.outputs["quarantine"], least=least)  # type: ignore
    report = RunReport(
        evaluation=judge.outputs["evaluation"],
        blessing=judge.outputs["blessing"],
        example_quarantine=ingest.outputs["quarantine"],
        recipe=recipe,
    )
    return Pipeline(
        pipeline_name=recipe.name,
        pipeline_root=str(output_dir / "pipeline"),
        components=[ingest, judge, report],
        enable_cache=enable_cache,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(output_dir / "metadata.sqlite")
        ),
        beam_pipeline_args=beam_pipeline_args,
    )
