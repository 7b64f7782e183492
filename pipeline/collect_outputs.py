"""Brings what a run came to from its artifacts to the top of the output directory."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from branchline.components.keep_quarantine import KEPT
from branchline.schemas import BranchlineError

COPIED = ("report.html", "metrics.json")


def collect_outputs(metadata_path: Path, output_dir: Path) -> dict[str, Any]:
    """Copies the latest run's report and metrics to `output_dir`, and reads the report.

    Args:
        metadata_path: The SQLite file of the pipeline's metadata.
        output_dir: Each file is written under another name, then renamed.

    Returns:
        The content of the report as `gather_report` makes it.

    Raises:
        BranchlineError: The latest run has no report.
    """
    reports = find_latest(metadata_path, "branchline.Report")
    if not reports:
        raise BranchlineError("the run ended without a report: not all components ran")
    report = reports[-1]
    for name in COPIED:
        unfinished = output_dir / f".{name}.unfinished"
        shutil.copyfile(report / name, unfinished)
        os.replace(unfinished, output_dir / name)
    return json.loads((report / "report.json").read_text(encoding="utf-8"))


def find_latest(metadata_path: Path, type_name: str) -> list[Path]:
    """Finds the artifacts of a type that the latest run made, or took from the cache.

    Args:
        metadata_path: The SQLite file of the pipeline's metadata.
        type_name: Such as "branchline.Report".

    Returns:
        Where they lie, in the order in which they were made.
    """
    from ml_metadata.proto import Artifact, Event

    store, executions = _latest_run(metadata_path)
    events = store.get_events_by_execution_ids(executions) if executions else []
    outputs = {e.artifact_id for e in events if e.type == Event.OUTPUT}
    if not outputs:
        return []
    types = {t.id for t in store.get_artifact_types() if t.name == type_name}
    return [
        Path(a.uri)
        for a in store.get_artifacts_by_id(sorted(outputs))
        if a.type_id in types and a.state == Artifact.LIVE
    ]


def find_kept(metadata_path: Path) -> list[Path]:
    """Finds what was kept of the quarantines of steps that failed in the latest run.

    Args:
        metadata_path: The SQLite file of the pipeline's metadata, beside its artifacts; there need
            be none.
    """
    if not metadata_path.is_file():
        return []
    folders = metadata_path.parent.glob(f"pipeline/*/quarantine/*{KEPT}")
    executions = {f"{number}{KEPT}" for number in _latest_run(metadata_path)[1]}
    return sorted(folder for folder in folders if folder.name in executions)


def _latest_run(metadata_path: Path) -> tuple[Any, list[int]]:
    """The metadata store, and the ids of the latest run's executions."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import ConnectionConfig

    config = ConnectionConfig()
    config.sqlite.filename_uri = str(metadata_path)
    store = metadata_store.MetadataStore(config)
    runs = store.get_contexts_by_type("pipeline_run")
    if not runs:
        return store, []
    latest = max(runs, key=lambda run: run.id)
    return store, [each.id for each in store.get_executions_by_context(latest.id)]


def find_pushed(serving_dir: Path) -> Path | None:
    """The newest version under a directory of pushed models, if there is any."""
    versions = [path for path in serving_dir.glob("*") if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=None)
