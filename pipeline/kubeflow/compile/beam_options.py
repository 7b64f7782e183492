"""The arguments of the steps' Beam pipelines, for each place that they can run in."""

from collections.abc import Sequence

from branchline.pipeline.local import BEAM_ARGS
from branchline.schemas import RecipeError

# The steps that run a Beam pipeline: with a distributed runner, its workers read their artifacts.
BEAM_STEPS = ("MixedExampleGen", "Router", "RouteStatistics", "Transform", "BranchEvaluator")

_RUNNERS = {
    "flink": ("FlinkRunner", ("flink_master",)),
    "spark": ("SparkRunner", ("spark_master_url",)),
    "dataflow": ("DataflowRunner", ("project", "region", "temp_location")),
}


def beam_options(runner: str, given: Sequence[str], image: str) -> list[str]:
    """The arguments of every Beam pipeline.

    Args:
        runner: "direct" (within the step), "flink", "spark" or "dataflow".
        given: More arguments, `--name=value` each; they win.
        image: Of the steps; workers run it too, as they need branchline.

    Raises:
        RecipeError: An argument is not of that form, or one that the runner needs is missing.
    """
    for each in given:
        if not each.startswith("--") or each == "--":
            raise RecipeError(f"--beam-arg {each}: expected --beam-arg=--NAME=VALUE")
    names = {each[2:].partition("=")[0] for each in given}
    if runner == "direct":
        own = list(BEAM_ARGS)
    else:
        class_name, needed = _RUNNERS[runner]
        missing = [f"--beam-arg=--{name}=…" for name in needed if name not in names]
        if missing and "job_endpoint" not in names:
            raise RecipeError(f"--runner {runner} needs {' '.join(missing)}")
        own = [f"--runner={class_name}", f"--sdk_container_image={image}"]
    return [each for each in own if each[2:].partition("=")[0] not in names] + list(given)


def needs_remote_artifacts(runner: str, root: str) -> bool:
    """Whether the artifacts of Beam steps must lie where workers on other machines read them.

    Raises:
        RecipeError: They could not read them there.
    """
    if runner == "direct" or not root:  # a volume is mounted in the workers too
        return False
    if not root.startswith("gs://"):
        raise RecipeError(
            f"--runner {runner}: TensorFlow on its workers cannot read {root}; "
            "expected --pipeline-root gs://… or volume://… (the volume mounted in the workers)"
        )
    return True
