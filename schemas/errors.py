"""Errors that a user is meant to read: one line that says what came and what was expected."""

from typing import Any, NoReturn


class BranchlineError(Exception):
    """A failure whose message alone tells the user what happened and what to do."""


class RecipeError(BranchlineError, ValueError):
    """A recipe, or an argument that changes one, is wrong."""


def reject(field: str, value: Any, expected: str) -> NoReturn:
    """Raises the RecipeError that names `field`, the value it got and what it expects.

    >>> reject("Training.steps", -1, "an int of at least 1")
    Traceback (most recent call last):
    ...
    branchline.schemas.errors.RecipeError: Training.steps: got -1, expected an int of at least 1
    """
    raise RecipeError(f"{field}: got {value!r}, expected {expected}")


def check_int(field: str, value: Any, least: int = 1) -> None:
    """Rejects `value` unless it is an int (no bool) of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        reject(field, value, f"an int of at least {least}")


def check_number(
    field: str, value: Any, *, least: float | None = None, above: float | None = None
) -> None:
    """Rejects `value` unless it is a finite number, `>= least` and `> above` where given."""
    wanted = "a finite number"
    wanted += f" of at least {least}" if least is not None else ""
    wanted += f" above {above}" if above is not None else ""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value != value or value in (float("inf"), float("-inf")):
        reject(field, value, wanted)
    if (least is not None and value < least) or (above is not None and value <= above):
        reject(field, value, wanted)


def check_share(field: str, value: Any) -> None:
    """Rejects `value` unless it is a number in [0, 1]."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        reject(field, value, "a share in [0, 1]")


def check_name(field: str, value: Any) -> None:
    """Rejects `value` unless it is a non-empty str of ASCII letters, digits, `-` and `_`."""
    ok = isinstance(value, str) and value.isascii() and value.replace("-", "a").replace("_", "a")
    if not ok or not value.replace("-", "a").replace("_", "a").isalnum():
        reject(field, value, "a name of ASCII letters, digits, '-' and '_'")


def check_key(field: str, value: Any) -> None:
    """Rejects `value` unless it can be the key of a record's field."""
    if not isinstance(value, str) or not value:
        reject(field, value, "the key of a field of the record, a non-empty str")
    if value in RESERVED_KEYS:
        reject(field, value, f"a key other than the reserved {', '.join(RESERVED_KEYS)}")


# Where a record came from, and the route it took; added to every example, never read from records.
SOURCE, OFFSET, ROUTE = "branchline.source", "branchline.offset", "_route"
RESERVED_KEYS = (SOURCE, OFFSET, ROUTE)
