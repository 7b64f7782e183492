"""Functions of a row whose prediction is the items that fit best, for `RowMean`."""

import numpy as np


def first_is_right(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns 1 if the first item is the label, else 0.

    Args:
        label: [1].
        prediction: items [top_k], the best first.
    """
    return float(prediction.reshape(-1)[0] == label.item())


def top_k_accuracy(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns 1 if the label is among the items, else 0: recall at k of one relevant item.

    Args:
        label: [1].
        prediction: items [top_k].
    """
    return float((prediction == label.item()).any())


def reciprocal_rank(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns 1 / place of the label among the items, counted from 1; 0 if it is not among them.

    Args:
        label: [1].
        prediction: items [top_k], the best first.
    """
    places = np.flatnonzero(prediction.reshape(-1) == label.item())
    return 1 / (places[0] + 1.0) if places.size else 0.0


OF_ITEMS = {
    "accuracy": first_is_right,
    "top_k_accuracy": top_k_accuracy,
    "mean_reciprocal_rank": reciprocal_rank,
}
