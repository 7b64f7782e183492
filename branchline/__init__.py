"""branchline: one TensorFlow model with a branch per kind of record, as a TFX pipeline."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from branchline.components.artifacts import Quarantine, Report

__version__ = "0.1.0"
__all__ = ["Quarantine", "Report"]


def __getattr__(name: str) -> object:
    """The artifact types, by the names under which TFX looks for them (see their module)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from branchline.components import artifacts

    return getattr(artifacts, name)
