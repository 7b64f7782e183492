"""Tells from an Avro schema how much memory records can take that are small in their file."""

import math
from typing import Any, NamedTuple

import fastavro

from branchline.components.mixed_example_gen.limits import (
    LARGEST_BLOCK,
    LARGEST_LISTS,
    MOST_NESTED,
)

# Kind → the least bytes that a value has in the file, and about how many that one then has as an
# item of a Python list.
_SIZES = {
    "null": (0, 8),
    "boolean": (1, 8),
    "int": (2, 40),
    "long": (2, 40),
    "float": (4, 32),
    "double": (8, 32),
    "bytes": (2, 42),
    "string": (2, 58),
    "enum": (1, 8),
}
_LOGICAL, _LIST, _OBJECT = 112, 64, 240  # decimals and times, an empty list, a small object


class Bounds(NamedTuple):
    """What `measure` finds.

    Attributes:
        schema: As `fastavro.parse_schema` gives it.
        most_bytes: A block may unpack to at most.
        is_recursive: Whether a type holds itself.
    """

    schema: Any
    most_bytes: int
    is_recursive: bool


def measure(schema: Any) -> Bounds:
    """Checks a schema, and finds how large a block may be.

    Most may have `LARGEST_BLOCK` bytes; those with lists that take more memory than `LARGEST_LISTS`
    may have less.

    Raises:
        ValueError: It is nested too deeply, or holds lists of what takes no bytes in the file, so
            that a few bytes can stand for any number of them.
        fastavro.schema.SchemaParseException: It is no schema.
    """
    _check_depth(schema)
    parsed: Any = fastavro.parse_schema(schema)
    found = _Measure()
    found.sizes(parsed)
    if math.isinf(found.ratio):
        raise ValueError("its schema has lists or maps of what takes no bytes, such as null")
    most = min(LARGEST_BLOCK, int(LARGEST_LISTS / max(found.ratio, 1)))
    return Bounds(parsed, most, found.is_recursive)


def _check_depth(schema: Any) -> None:
    level = [schema]
    for _ in range(4 * MOST_NESTED):  # an object of a record is some four levels of JSON
        level = [part for each in level for part in _parts(each)]
        if not level:
            return
    raise ValueError("its schema is nested too deeply")


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if type(value) is list else []


class _Measure:
    """Walks over a schema.

    Attributes:
        ratio: The most bytes of memory for a byte in the file, among items of lists and maps.
        is_recursive: Whether a type holds itself.
    """

    def __init__(self) -> None:
        self.ratio, self.is_recursive = 0.0, False
        self._named: dict[str, tuple[int, int] | None] = {}  # None while its own parts are measured

    def sizes(self, schema: Any) -> tuple[int, int]:
        """The least bytes of a value in the file, and how many it then has in memory."""
        if isinstance(schema, list):
            each = [(least + 1, memory) for least, memory in map(self.sizes, schema)]
            return max(each, key=_ratio, default=(1, 8))
        kind = schema if isinstance(schema, str) else schema["type"]
        if not isinstance(schema, dict):
            schema = {}
        if kind in _SIZES or kind == "fixed":
            size = schema.get("size", 0)
            least, memory = _SIZES.get(kind, (size, size + 42))
            own = (least, _LOGICAL + memory) if "logicalType" in schema else (least, memory)
        elif kind in ("array", "map"):
            least, memory = self.sizes(schema["items" if kind == "array" else "values"])
            self.ratio = max(self.ratio, _ratio((least + (kind == "map"), memory)))
            return 1, _LIST
        elif kind in ("record", "error"):
            self._named[schema["name"]] = None
            parts = [self.sizes(field["type"]) for field in schema["fields"]]
            own = sum(least for least, _ in parts), _OBJECT + sum(memory for _, memory in parts)
        else:
            known = self._named[kind]
            self.is_recursive |= known is None
            return known or (1, _OBJECT)
        if "name" in schema:
            self._named[schema["name"]] = own
        return own


def _ratio(sizes: tuple[int, int]) -> float:
    least, memory = sizes
    return memory / least if least else math.inf
