"""The training core: one model with branches, each trained on its own stream (lazy, PEP 562)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchline.components.branch_trainer.embedding import Embedding
    from branchline.components.branch_trainer.history import History, Progress
    from branchline.components.branch_trainer.model import BranchedModel
    from branchline.components.branch_trainer.parts import Head, Path, Switch
    from branchline.components.branch_trainer.schedule import (
        Alternate,
        Proportional,
        Sequential,
        Weighted,
    )
    from branchline.components.branch_trainer.selective import Conditional, Selective
    from branchline.components.branch_trainer.settings import EarlyStop, PathSettings
    from branchline.components.branch_trainer.trainer import Trainer

_MODULES = {
    "Alternate": "schedule",
    "BranchedModel": "model",
    "Conditional": "selective",
    "EarlyStop": "settings",
    "Embedding": "embedding",
    "Head": "parts",
    "History": "history",
    "Path": "parts",
    "PathSettings": "settings",
    "Progress": "history",
    "Proportional": "schedule",
    "Selective": "selective",
    "Sequential": "schedule",
    "Switch": "parts",
    "Trainer": "trainer",
    "Weighted": "schedule",
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
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
