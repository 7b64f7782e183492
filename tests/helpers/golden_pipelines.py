"""The compiled pipelines that are kept in tests/golden, and how they are made anew.

`uv run python tests/helpers/golden_pipelines.py` writes them all; look at the diff before
committing it.
"""

import re
import sys
import tempfile
from pathlib import Path

import yaml

GOLDEN = Path(__file__).parents[1] / "golden"
_IMAGE = "--image=registry.example.com/branchline:1"
PIPELINES = {
    "kfp_mixed": [_IMAGE, "--pipeline-root=s3://bucket/branchline"],
    "vertex_mixed": [_IMAGE, "--pipeline-root=gs://bucket/branchline", "--backend=vertex"],
    "kfp_volume": [
        "--recipe=tangled",
        _IMAGE,
        "--pipeline-root=volume://records-and-models/branchline",
        "--data",
        "/branchline-volume/records",
        "--gpus=2",
        "--set=resources.BranchTrainer.memory=32",
        '--set=resources.BranchTrainer.node_selector={"pool": "gpu"}',
        '--set=resources.BranchTrainer.tolerations=["nvidia.com/gpu:NoSchedule"]',
        "--set=resources.*.cpu=2",
        "--step-image=RunReport=registry.example.com/branchline:1-report",
        "--secret=MixedExampleGen:TOKEN=records/token",
        "--env=LANG=C.UTF-8",
        "--beam-arg=--direct_num_workers=2",
        "--no-cache",
    ],
}
# What changes with every change of the sources, or with TFX's release.
_VARIES = [
    (re.compile(r"\b\d+\.\d+\.\d+\+[0-9a-f]{16} \([^)]*\)"), "<code version>"),
    (re.compile(r"sdkVersion: tfx-[\d.]+"), "sdkVersion: <tfx>"),
    (re.compile(r"(recipe_hash\W+)[0-9a-f]{16}"), r"\1<hash>"),
    (re.compile(r'(?<=": ")[0-9a-f]{16}(?=")'), "<hash>"),  # of --recipe_files
    (re.compile(r"(recipe_hash:\n +runtimeValue:\n +constant: '?)[0-9a-f]{16}"), r"\1<hash>"),
]


def compile_yaml(arguments: list[str]) -> str:
    """The YAML that `run_kubeflow.py compile` writes, without what varies."""
    from branchline.pipeline.kubeflow.arguments import read_arguments
    from branchline.pipeline.kubeflow.compile.write_pipeline import write_pipeline

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        write_pipeline(read_arguments(["compile", *arguments, f"--output={path}"]))
        text = path.read_text()
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return yaml.safe_dump_all(yaml.safe_load_all(text), sort_keys=True, width=1000)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, arguments in PIPELINES.items():
        (GOLDEN / f"{name}.yaml").write_text(compile_yaml(arguments))
        print(GOLDEN / f"{name}.yaml", file=sys.stderr)
