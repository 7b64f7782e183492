"""The components; each is imported on first use, because TFX takes seconds to import (PEP 562)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchline.components.baseline_finder.component import BaselineFinder
    from branchline.components.branch_evaluator.component import BranchEvaluator
    from branchline.components.branch_trainer.component import BranchTrainer
    from branchline.components.data_fingerprint.component import DataFingerprint
    from branchline.components.mixed_example_gen.component import MixedExampleGen
    from branchline.components.route_statistics.component import RouteStatistics
    from branchline.components.route_validator.component import RouteValidator
    from branchline.components.router.component import Router
    from branchline.components.run_report.component import RunReport

_FOLDERS = {
    "BaselineFinder": "baseline_finder",
    "BranchEvaluator": "branch_evaluator",
    "BranchTrainer": "branch_trainer",
    "DataFingerprint": "data_fingerprint",
    "MixedExampleGen": "mixed_example_gen",
    "RouteStatistics": "route_statistics",
    "RouteValidator": "route_validator",
    "Router": "router",
    "RunReport": "run_report",
}
__all__ = [
    "BaselineFinder",
    "BranchEvaluator",
    "BranchTrainer",
    "DataFingerprint",
    "MixedExampleGen",
    "RouteStatistics",
    "RouteValidator",
    "Router",
    "RunReport",
]


def __getattr__(name: str) -> object:
    if name not in _FOLDERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"branchline.components.{_FOLDERS[name]}.component")
    return getattr(module, name)
