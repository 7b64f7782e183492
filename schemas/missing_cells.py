"""What stands in a cell of numbers where there is none."""

from typing import Any

from branchline.schemas.errors import reject

MISSING_CELLS = ("#N/A", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")


def read_missing_cells(where: str, value: Any) -> tuple[str, ...]:
    """Checks a recipe's or a component's `missing_cells`, and sorts it.

    Raises:
        RecipeError: It is no list of texts, or one has spaces around it, which cells are read
            without; an empty cell is absent anyway.

    >>> read_missing_cells("Recipe.missing_cells", ["?", "-999"])
    ('-999', '?')
    """
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        reject(where, value, 'a list of texts such as ["NA", "-999"]')
    for cell in value:
        if not isinstance(cell, str) or not cell or cell != cell.strip():
            reject(where, cell, "a text that is not empty, without spaces around it")
    return tuple(sorted(set(value)))
