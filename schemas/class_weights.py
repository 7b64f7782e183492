"""Weights of a target's classes, as recipes give them."""

from collections.abc import Mapping
from typing import Any

from branchline.schemas.errors import check_number, reject

BALANCED = "balanced"


def read_class_weights(
    where: str, num_classes: int | None, classes: tuple[str, ...] | None, given: Any
) -> tuple[float, ...] | str | None:
    """Checks the weights that are given of a target's classes, None for none.

    Args:
        where: Names the target.
        num_classes: How many there are; None where the label is a number.
        classes: Their names, if they have any.
        given: "balanced"; class → its weight, 1 for those left out; or all weights in order.

    Returns:
        "balanced", or the weight of each class in order.

    Raises:
        RecipeError: They are none of these.

    >>> read_class_weights("Target", 3, ("ham", "spam", "other"), {"spam": 5})
    (1.0, 5.0, 1.0)
    """
    if given is None or (given == BALANCED and num_classes):
        return given
    where += ".class_weight"
    names = classes or tuple(range(num_classes or 0))
    if not names:
        reject(where, given, "None unless the target has classes")
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                reject(where, name, f"one of the classes {', '.join(map(repr, names))}")
        given = [given.get(name, 1.0) for name in names]
    if not isinstance(given, tuple | list) or len(given) != len(names):
        example = f"{{{names[-1]!r}: 2.0}}"
        reject(where, given, f"{BALANCED!r}, class → weight such as {example}, or all in order")
    for weight in given:
        check_number(where, weight, above=0)
    return tuple(float(weight) for weight in given)
