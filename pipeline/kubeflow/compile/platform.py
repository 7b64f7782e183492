"""What Kubernetes alone has: secrets, nodes to run on and volumes, as the spec's `platforms`."""

from collections.abc import Mapping
from typing import Any

from branchline.schemas import RecipeError, Resources
from branchline.schemas.resources import TAINT


def platform_spec(
    labels: Mapping[str, str], resources: Mapping[str, Resources], mounts: Mapping[str, str]
) -> dict[str, Any]:
    """The second document of a pipeline's YAML, after the pipeline spec.

    Args:
        labels: Step → label of its executor in the pipeline spec.
        resources: Step → what it gets.
        mounts: Persistent volume claim → where it is mounted in every step.

    Returns:
        A PlatformSpec as JSON would hold it (kubernetes_platform/proto/
        kubernetes_executor_config.proto of kubeflow/pipelines); {} if there is nothing to say.
        Names stand in the fields that every release reads. Those of 2.5, `secretNameParameter` and
        `pvcNameParameter`, are unknown to the driver of 2.4.0 and before, which fails at them.
    """
    executors = {}
    for step, label in labels.items():
        config: dict[str, Any] = {}
        if mounts:
            config["pvcMount"] = [
                {"constant": claim, "mountPath": path} for claim, path in mounts.items()
            ]
        by_secret: dict[str, list[dict[str, str]]] = {}
        for variable, place in sorted(resources[step].secrets.items()):
            secret, _, key = place.partition("/")
            by_secret.setdefault(secret, []).append({"secretKey": key, "envVar": variable})
        if by_secret:
            config["secretAsEnv"] = [
                {"secretName": secret, "keyToEnv": keys} for secret, keys in by_secret.items()
            ]
        if resources[step].node_selector:
            config["nodeSelector"] = {"labels": dict(resources[step].node_selector)}
        if resources[step].tolerations:
            config["tolerations"] = [_toleration(taint) for taint in resources[step].tolerations]
        if config:
            executors[label] = config
    if not executors:
        return {}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def check_vertex(resources: Mapping[str, Resources]) -> None:
    """Rejects what Vertex AI does not have.

    Raises:
        RecipeError: A step asks for it.
    """
    for step, given in resources.items():
        leave_out = (
            f"leave it out with --set 'resources.{step}.%s', or resources.* where all have it"
        )
        for what, instead in (
            ("secrets", "give the run's service account the rights instead"),
            ("node_selector", leave_out % "node_selector={}"),
            ("tolerations", leave_out % "tolerations=[]"),
        ):
            if getattr(given, what):
                raise RecipeError(
                    f"resources of {step}: {what} is of Kubernetes, Vertex AI has none; {instead}"
                )


def _toleration(taint: str) -> dict[str, str]:
    parts = TAINT.fullmatch(taint)
    assert parts is not None  # Resources takes no other
    given = {name: text for name, text in parts.groupdict().items() if text is not None}
    return {"operator": "Equal" if "value" in given else "Exists", **given}
