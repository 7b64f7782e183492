"""The artifact types that branchline adds to TFX's own.

Their names are what Kubeflow's compiler asks of a custom type, `<namespace>.<Title>`, and also lead
to their classes, because TFX's entrypoint there imports a type by its name.
"""

from tfx.types.artifact import Artifact

# Custom property of a Model, a JSON list: the routes that had too few rows to be trained.
UNTRAINED = "untrained"


class Quarantine(Artifact):
    """Records that were set aside: `records-*.parquet` and `counts.json`.

    A row of the records has: `record` (bytes, as it came; of a table's row JSON), `reason` (a word
    to count by), `detail`, `source` (the file), `offset` (its line or row, from 1), `byte` (how
    many come before it; null in tables) and `component`; what is not known is null. The counts are
    {"in": n, "quarantined": {reason: n}, "samples": {reason: [line, …]}, and for a step that
    passes examples on also "out": {split: n}}, or {split: {route: n}} where it routes them, and
    "written": what was found in the files, {"examples": {split: n}, "quarantine": n}. Those of
    MixedExampleGen also have "counted_again": of how many records the files were asked once more.
    """

    TYPE_NAME = "branchline.Quarantine"


class Report(Artifact):
    """What a run came to: `report.html` for people, `metrics.json` for programs."""

    TYPE_NAME = "branchline.Report"
