"""Counts how often each class was predicted as which, of labels whose classes have names."""

from collections.abc import Sequence

import numpy as np

from branchline.schemas import Target

CONFUSION = "confusion"  # the metric's name in TFMA's results
_MOST_CLASSES = 50  # more are no table for people, and the counts grow with their square


def confused(target: Target, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts entries, those without a finite prediction not.

    Args:
        target: Of the labels.
        labels: int64 [rows, values].
        predictions: [rows, values] of a binary target, else [rows, values, classes] or
            [rows, classes].

    Returns:
        float64 [classes²], row by row: a row is the label's class, a column the predicted one.
        Empty where the classes have no names, are more than 50, or an entry may have several.

    >>> target = Target("binary", classes=("no", "yes"))
    >>> confused(target, np.array([[0], [1], [1]]), np.array([[0.2], [0.9], [0.1]]))
    array([1., 0., 1., 1.])
    """
    size = 0 if target.is_set or target.top_k else len(target.names or ())
    if not 0 < size <= _MOST_CLASSES:
        return np.zeros(0)
    rows = predictions.reshape(labels.size, -1)
    there = np.isfinite(rows).all(axis=1)
    guess = rows.argmax(axis=1) if target.num_classes else rows[:, 0] > 0.5
    cells = labels.reshape(-1)[there] * size + guess[there]
    return np.bincount(cells, minlength=size * size).astype(np.float64)


def as_table(counts: Sequence[float]) -> list[list[int]]:
    """Lays counts out as a table: a row a class of the labels.

    >>> as_table([1.0, 0.0, 1.0, 1.0])
    [[1, 0], [1, 1]]
    """
    size = round(len(counts) ** 0.5)
    return np.asarray(counts).astype(int).reshape(size, size).tolist()
