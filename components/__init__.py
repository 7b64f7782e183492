"""The components, and what sets TFX's own beside them up; each is imported on first use (PEP 562).

TFX takes seconds to import.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchline.components.baseline_finder.component import BaselineFinder
    from branchline.components.branch_evaluator.component import BranchEvaluator
    from branchline.components.branch_trainer.component import BranchTrainer
    from branchline.components.data_fingerprint.component import DataFingerprint
    from branchline.components.mixed_example_gen.component import MixedExampleGen
    from branchline.components.route_statistics.component import RouteStatistics
    from branchline.components.route_statistics.stats_options import route_stats_options
    from branchline.components.route_validator.component import RouteValidator
    from branchline.components.router.component import Router
    from branchline.components.run_report.component import RunReport
    from branchline.components.transform.declared_schema import declared_schema
    from branchline.components.transform.preprocessing import route_preprocessing

_MODULES = {
    "BaselineFinder": "baseline_finder.component",
    "BranchEvaluator": "branch_evaluator.component",
    "BranchTrainer": "branch_trainer.component",
    "DataFingerprint": "data_fingerprint.component",
    "MixedExampleGen": "mixed_example_gen.component",
    "RouteStatistics": "route_statistics.component",
    "RouteValidator": "route_validator.component",
    "Router": "router.component",
    "RunReport": "run_report.component",
    "declared_schema": "transform.declared_schema",
    "route_preprocessing": "transform.preprocessing",
    "route_stats_options": "route_statistics.stats_options",
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
    "declared_schema",
    "route_preprocessing",
    "route_stats_options",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
