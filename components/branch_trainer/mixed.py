"""Computes a batch whose rows take different paths through one model."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from branchline.components.branch_trainer.model import BranchedModel


def run_mixed(
    model: "BranchedModel", features: Any, path_ids: tf.Tensor, training: bool | None
) -> dict[str, tf.Tensor]:
    """Runs every row on its own path.

    A branch sees the rows that take it and no others, so one without rows is not run at all (its
    mean would be NaN, and its BatchNormalization would keep it).

    Args:
        model: whose branches at one switch all give the same shape and dtype.
        features: nested dict of tensors [batch, ...]; rows hold any value in keys that their path
            does not take.
        path_ids: int [batch], positions in `model.paths`.
        training: as in Keras.

    Returns:
        Head name → output [batch, ...], zero in rows of paths without that head.
    """
    raise NotImplementedError
