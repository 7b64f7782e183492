"""Tells which rows of a batch have a label."""

import numpy as np

from branchline.schemas import Target


def has_label(labels: np.ndarray, target: Target) -> np.ndarray:
    """Returns bool [rows]: all, of a target that is not optional.

    Args:
        labels: [rows, values], filled with the target's `missing` where there is none.
        target: Of the labels.

    >>> has_label(np.array([[1, 0], [-1, -1]]), Target("binary", shape=(2,), optional=True))
    array([ True, False])
    """
    if not target.optional:
        return np.ones(len(labels), bool)
    missing = np.isnan(labels) if target.is_number else labels == target.missing
    return ~missing.any(axis=1)
