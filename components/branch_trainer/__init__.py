"""The training core: one model with branches, each trained on its own stream (lazy, PEP 562)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchline.components.branch_trainer.loop.history import History, Progress
    from branchline.components.branch_trainer.model.branched_model import BranchedModel
    from branchline.components.branch_trainer.model.contrastive_loss import ContrastiveLoss
    from branchline.components.branch_trainer.model.embedding import Embedding
    from branchline.components.branch_trainer.model.parts import Head, Path, Switch
    from branchline.components.branch_trainer.model.selective import Conditional, Selective
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
    "BranchedModel": ".model.branched_model",
    "Conditional": ".model.selective",
    "ContrastiveLoss": ".model.contrastive_loss",
    "EarlyStop": ".settings",
    "Embedding": ".model.embedding",
    "Head": ".model.parts",
    "History": ".loop.history",
    "Path": ".model.parts",
    "PathSettings": ".settings",
    "Progress": ".loop.history",
    "Proportional": "branchline.schemas.schedules",
    "Selective": ".model.selective",
    "Sequential": "branchline.schemas.schedules",
    "Switch": ".model.parts",
    "Trainer": ".trainer",
    "Weighted": "branchline.schemas.schedules",
}
__all__ = [
    "Alternate",
    "BranchedModel",
    "Conditional",
    "ContrastiveLoss",
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
