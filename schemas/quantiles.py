"""The quantiles that a target predicts: which may be given."""

from typing import Any

from branchline.schemas.errors import check_number, reject

DEFAULT_QUANTILES = (0.1, 0.5, 0.9)


def read_quantiles(where: str, task: Any, quantiles: Any) -> tuple[float, ...] | None:
    """Checks the quantiles that are given of a target, None for the default ones of its task.

    Raises:
        RecipeError: They do not increase strictly within (0, 1), or the task has none.

    >>> read_quantiles("Target", "quantile", None), read_quantiles("Target", "binary", None)
    ((0.1, 0.5, 0.9), None)
    """
    where += ".quantiles"
    if task != "quantile":
        if quantiles is not None:
            reject(where, quantiles, 'None unless task="quantile"')
        return None
    if quantiles is None:
        return DEFAULT_QUANTILES
    if not isinstance(quantiles, tuple | list) or not quantiles:
        reject(where, quantiles, f"a tuple of numbers such as {DEFAULT_QUANTILES}")
    for quantile in quantiles:
        check_number(where, quantile, above=0)
        if quantile >= 1:
            reject(where, quantile, "numbers below 1")
    if any(low >= high for low, high in zip(quantiles, quantiles[1:], strict=False)):
        reject(where, quantiles, "numbers that increase")
    return tuple(map(float, quantiles))
