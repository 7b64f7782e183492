"""What a step of the pipeline gets where each runs in a container of its own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from branchline.schemas.errors import check_int, check_number, reject

# The steps of a pipeline on Kubeflow. Those that can use an accelerator train.
GPU_STEPS = ("BranchTrainer",)
STEPS = (
    "DataFingerprint",
    "MixedExampleGen",
    "Router",
    "RouteStatistics",
    "ImportSchemaGen",
    "RouteValidator",
    "Transform",
    *GPU_STEPS,
    "Baseline",
    "BranchEvaluator",
    "Pusher",
    "RunReport",
)
EVERY_STEP = "*"
TAINT = re.compile(
    r"(?P<key>[\w./-]+)(=(?P<value>[\w.-]+))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)",
    re.ASCII,
)

IMAGE = re.compile(r"(?!\w+://)\S+")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")  # as Kubernetes has it
_SECRET = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[-._a-zA-Z0-9]+")


@dataclass(frozen=True)
class Resources:
    """What one step gets on a cluster; a run on one machine takes no notice of it.

    Args:
        cpu: Cores at most, in whole or part; None for no limit.
        memory: GB (10⁹ bytes) at most; None for no limit.
        gpus: Accelerators, for a step that can use them.
        gpu_type: The Kubernetes resource (`nvidia.com/gpu`, the default there) or Vertex's type
            (`NVIDIA_TESLA_T4`, the default there).
        node_selector: Labels that the node must have.
        tolerations: Taints that the node may have, as `kubectl taint` writes them:
            `nvidia.com/gpu:NoSchedule` (whatever its value) or `pool=gpu:NoSchedule`.
        secrets: Environment variable → `<secret>/<key>` of a Kubernetes secret.
        env: Environment variable → value. Not for what must stay secret.
        image: Container image, where it is another one than the pipeline's.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    cpu: float | None = None
    memory: float | None = None
    gpus: int = 0
    gpu_type: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[str] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None

    def __post_init__(self) -> None:
        for name in ("cpu", "memory"):
            if getattr(self, name) is not None:
                check_number(f"Resources.{name}", getattr(self, name), above=0)
        check_int("Resources.gpus", self.gpus, least=0)
        for name in ("node_selector", "secrets", "env"):
            _check_strings(f"Resources.{name}", getattr(self, name))
        for variable in (*self.secrets, *self.env):
            if not _VARIABLE.fullmatch(variable):
                reject("Resources", variable, "the name of an environment variable")
        if not isinstance(self.tolerations, list | tuple):
            reject("Resources.tolerations", self.tolerations, "a list of str")
        for taint in self.tolerations:
            if not isinstance(taint, str) or not TAINT.fullmatch(taint):
                reject(
                    "Resources.tolerations",
                    taint,
                    "<key>:<effect> or <key>=<value>:<effect>, "
                    "the effect NoSchedule, PreferNoSchedule or NoExecute",
                )
        for variable, place in self.secrets.items():
            if not _SECRET.fullmatch(place):
                reject(f"Resources.secrets[{variable!r}]", place, "<secret>/<key>")
            if variable in self.env:
                reject("Resources.env", variable, f"one that is not from the secret {place}, too")
        for name, expected in (("gpu_type", "nvidia.com/gpu"), ("image", "REGISTRY/NAME:TAG")):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and IMAGE.fullmatch(value)):
                reject(f"Resources.{name}", value, f"a str such as {expected}, or None")

    def over(self, common: "Resources") -> "Resources":
        """These resources, and where they say nothing, those of `common`."""
        return Resources(
            cpu=self.cpu if self.cpu is not None else common.cpu,
            memory=self.memory if self.memory is not None else common.memory,
            gpus=self.gpus or common.gpus,
            gpu_type=self.gpu_type or common.gpu_type,
            node_selector={**common.node_selector, **self.node_selector},
            tolerations=tuple(dict.fromkeys([*common.tolerations, *self.tolerations])),
            secrets={**common.secrets, **self.secrets},
            env={**common.env, **self.env},
            image=self.image or common.image,
        )


def read_resources(where: str, value: Any) -> dict[str, Resources]:
    """Checks a recipe's resources, step → Resources or a dict of its fields.

    Raises:
        RecipeError: There is no such step or field, or a step cannot use what it is given.
    """
    if not isinstance(value, Mapping):
        reject(where, value, "a dict of step to Resources(…)")
    read = {}
    for step, given in value.items():
        if step not in (*STEPS, EVERY_STEP):
            reject(where, step, f"one of {', '.join(STEPS)}, or {EVERY_STEP!r} for all")
        if isinstance(given, Mapping):
            unknown = [name for name in given if name not in Resources.__dataclass_fields__]
            if unknown:
                known = ", ".join(Resources.__dataclass_fields__)
                reject(f"{where}[{step!r}]", unknown[0], f"one of {known}")
            given = Resources(**given)
        if not isinstance(given, Resources):
            reject(f"{where}[{step!r}]", given, "Resources(…)")
        if given.gpus and step not in GPU_STEPS:
            reject(
                f"{where}[{step!r}].gpus", given.gpus, f"0: only {', '.join(GPU_STEPS)} can use one"
            )
        read[step] = given
    return read


def _check_strings(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        reject(where, value, "a dict of str to str")
    for key, text in value.items():
        if not isinstance(key, str) or not key or not isinstance(text, str):
            reject(f"{where}[{key!r}]", text, 'a str under a str, as in {"pool": "1"}')
