"""Functions of a row whose prediction is several quantiles, for `RowMean`."""

from collections.abc import Callable, Sequence

import numpy as np


def pinball_loss(label: np.ndarray, prediction: np.ndarray, quantiles: Sequence[float]) -> float:
    """Returns the mean over the quantiles q of max(q · error, (q − 1) · error).

    Args:
        label: [1].
        prediction: [quantiles].
        quantiles: Those that are predicted.
    """
    error, q = label.astype(np.float64) - prediction.reshape(-1), np.asarray(quantiles)
    return float(np.maximum(q * error, (q - 1) * error).mean())


def coverage(label: np.ndarray, prediction: np.ndarray, quantiles: Sequence[float]) -> float:
    """Returns 1 if the label lies between the first and the last quantile or on one, else 0.

    The mean is about the last quantile less the first, 0.8 for 0.1 to 0.9, in a good model.

    Args:
        label: [1].
        prediction: [quantiles], increasing.
        quantiles: Those that are predicted.
    """
    return float(prediction.min() <= label.item() <= prediction.max())


def middle(quantiles: Sequence[float]) -> int:
    """Returns which quantile is nearest to the median; of two the lower.

    >>> middle((0.1, 0.5, 0.9)), middle((0.25, 0.75))
    (1, 0)
    """
    return int(np.argmin(np.abs(np.asarray(quantiles) - 0.5)))


OF_QUANTILES: dict[str, Callable[..., float]] = {
    "pinball_loss": pinball_loss,
    "coverage": coverage,
}
