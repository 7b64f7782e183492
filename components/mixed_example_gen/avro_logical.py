"""Reads Avro's logical types: one that cannot be read costs its cell, not the block.

fastavro fails on a time after the year 9999, as a sentinel often is, and knows no way around it but
readers of one's own for types of one's own.
"""

import functools
from collections.abc import Callable
from typing import Any

from fastavro.read import LOGICAL_READERS

from branchline.components.mixed_example_gen.row_as_json import Unreadable

_OURS = "branchline."


def careful(schema: Any) -> Any:
    """Puts ours in place of the logical types of a schema, as JSON, that fastavro reads."""
    if isinstance(schema, list):
        return [careful(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: careful(value) for name, value in schema.items()}
    if f"{schema.get('type')}-{_OURS}{schema.get('logicalType')}" in LOGICAL_READERS:
        changed["logicalType"] = f"{_OURS}{schema['logicalType']}"
    return changed


def _read(read_fn: Callable[..., Any], value: Any, *schemas: Any) -> Any:
    try:
        return read_fn(value, *schemas)
    except Exception as error:  # noqa: BLE001 - whatever the reader of a type raises
        got = repr(value)[:100]
        return Unreadable(value, f"got {got}: {error}")


for _name, _read_fn in list(LOGICAL_READERS.items()):
    _kind, _, _logical = _name.partition("-")
    LOGICAL_READERS[f"{_kind}-{_OURS}{_logical}"] = functools.partial(_read, _read_fn)
