"""Random choices that depend on the step alone, not on what was drawn before."""

from collections.abc import Sequence

import numpy as np


def uniform_draws(seed: int, start: int, count: int) -> np.ndarray:
    """Returns the numbers of steps `start`, …, `start + count − 1`, whatever was drawn before.

    Args:
        seed: names the sequence.
        start: first step.
        count: how many.

    Returns:
        float64 [count], in [0, 1).

    Source: the counter-based generator Philox, Salmon et al. 2011.
    """
    words_per_counter = 4
    generator = np.random.Philox(key=seed, counter=start)
    raw = generator.random_raw(words_per_counter * count)[::words_per_counter]
    return (raw >> np.uint64(11)) * 2.0**-53


def pick(weights: Sequence[float], draws: np.ndarray) -> np.ndarray:
    """Returns the index that each draw falls on, with probability proportional to `weights`.

    Only the inner boundaries are compared, so that a draw near 1 falls on the last positive weight
    however the sum was rounded.

    Args:
        weights: non-negative, at least one positive.
        draws: float64 [count], in [0, 1).

    Returns:
        int64 [count], never an index of weight 0.

    >>> pick([1, 0, 3], np.array([0.0, 0.24, 0.25, 0.999]))
    array([0, 0, 2, 2])
    """
    positive = np.flatnonzero(np.asarray(weights) > 0)
    cumulative = np.cumsum(np.asarray(weights, np.float64)[positive])
    return positive[np.searchsorted(cumulative[:-1] / cumulative[-1], draws, side="right")]
