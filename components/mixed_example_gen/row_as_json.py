"""Writes the row of a table as JSON, as a file of lines could have held it."""

import base64
import decimal
import json
from typing import Any

from branchline.components.mixed_example_gen.limits import LONGEST_RECORD

_MOST_SIGNS_OF_ONE = 6  # as \u0000
_MOST_SIGNS_OF_NUMBER = 32


def row_as_json(row: Any) -> bytes:
    """Writes a row, with bytes that are not UTF-8 as {"base64": text}.

    Args:
        row: Dicts, lists, texts, numbers, decimals, None and bytes; or only bytes, which stay as
            they are.
    """
    return row if isinstance(row, bytes) else _to_json(row).encode(errors="backslashreplace")


def is_small(row: Any) -> bool:
    """Whether the JSON of a row is surely not longer than a record may be; not so says nothing."""
    size = 0
    for key, value in row.items() if type(row) is dict else [("", row)]:
        kind = type(value)
        if kind is str or kind is bytes:
            size += len(value)
        elif kind is list or kind is dict:
            return False
        size += len(key) + _MOST_SIGNS_OF_NUMBER
    return size * _MOST_SIGNS_OF_ONE < LONGEST_RECORD


class Unreadable:
    """A cell that is not what its type promises, such as a time after the year 9999.

    Attributes:
        value: What stands in the file.
        told: What is wrong with it.
    """

    def __init__(self, value: Any, told: str) -> None:
        self.value, self.told = value, told


def _others_as_json(value: bytes | decimal.Decimal | Unreadable) -> Any:
    if isinstance(value, Unreadable):
        return value.value
    if isinstance(value, decimal.Decimal):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


_to_json = json.JSONEncoder(ensure_ascii=False, default=_others_as_json).encode
