"""The training core: one model with branches, each trained on its own stream (lazy, PEP 562)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchline.components.branch_trainer.embedding import Embedding
    from branchline.components.branch_trainer.history import History, Progress
    from branchline.components.branch_trainer.model import BranchedModel
    from branchline.components.branch_trainer.parts import Head, Path, Switch
    from branchline.components.branch_trainer.selective import Conditional, Selective
    from branchline.components.branch_trainer.settings import EarlyStop, PathSettings
    from branchline.components.branch_trainer.trainer import Trainer
    from branchline.schemas.schedules import (
        Alternate,
        Proportional,
        Sequential,
        Weighted,
    )

_MODULES = {
    "Alternate": "branchline.schemas.schedules",
    "BranchedModel": ".model",
    "Conditional": ".selective",
    "EarlyStop": ".settings",
    "Embedding": ".embedding",
    "Head": ".parts",
    "History": ".history",
    "Path": ".parts",
    "PathSettings": ".settings",
    "Progress": ".history",
    "Proportional": "branchline.schemas.schedules",
    "Selective": ".selective",
    "Sequential": "branchline.schemas.schedules",
    "Switch": ".parts",
    "Trainer": ".trainer",
    "Weighted": "branchline.schemas.schedules",
}
__all__ = [
    "Alternate",
    "BranchedModel",
    "Conditional",
    "EarlyStop",
    "Embedding",
    "Head",
    "History",
    "Path",
    "PathSettings",
    "Progress",
    "Proportional",
    "Selective",
    "Sequential",
    "Switch",
    "Trainer",
    "Weighted",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
