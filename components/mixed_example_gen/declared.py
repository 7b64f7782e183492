"""What a routing table reads of records: only that can cost a record."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from branchline.schemas import RoutingTable
from branchline.schemas.missing_cells import MISSING_CELLS


class Declared(NamedTuple):
    """The keys that are read, and as what.

    Attributes:
        keys: Those of conditions, features and labels, and the key of the splits; None for all.
        texts: Those of them that are texts to whoever reads them.
        numbers: Those that are numbers.
        wholes: Those under which a float without a fraction is read as an int.
        paths: Those under which the path of a picture is, in place of which the picture is read.
        written: Those of the texts that are to be read as a time or the like; there a float is kept
            as its decimal text, with all its digits.
        lists: Those under which an empty list is a value.
        missing_cells: What stands in a cell of those where there is none.
    """

    keys: frozenset[str] | None = None
    texts: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    wholes: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    missing_cells: frozenset[str] = frozenset(MISSING_CELLS)

    def reads(self, key: str) -> bool:
        """Whether anything reads a key."""
        return self.keys is None or key in self.keys


def declared_by(
    table: RoutingTable | None,
    split_key: str | None,
    missing_cells: Iterable[str] = MISSING_CELLS,
) -> str:
    """Writes down, as JSON, what a table reads; without one everything is read."""
    if table is None:
        return "{}"
    keys = sorted({*table.keys, *([split_key] if split_key else [])})
    found = {"keys": keys, "texts": table.text_keys, "numbers": table.number_keys}
    found |= {"wholes": table.whole_keys, "paths": table.path_keys, "written": table.written_keys}
    labels = [item for route in table.routes for item in route.labels.items()]
    found |= {"lists": sorted({key for key, target in labels if target.is_set})}
    return json.dumps(found | {"missing_cells": sorted(missing_cells)})


def read_declared(text: str) -> Declared:
    """Reads what `declared_by` wrote."""
    return Declared(**{name: frozenset(keys) for name, keys in json.loads(text).items()})
