"""What a routing table reads of records: only that can cost a record."""

import json
from typing import NamedTuple

from branchline.schemas import RoutingTable


class Declared(NamedTuple):
    """The keys that are read, and as what.

    Attributes:
        keys: Those of conditions, features and labels, and the key of the splits; None for all.
        texts: Those of them that are texts to whoever reads them.
        numbers: Those that are numbers.
    """

    keys: frozenset[str] | None = None
    texts: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()

    def reads(self, key: str) -> bool:
        """Whether anything reads a key."""
        return self.keys is None or key in self.keys


def declared_by(table: RoutingTable | None, split_key: str | None) -> str:
    """Writes down, as JSON, what a table reads; without one everything is read."""
    if table is None:
        return "{}"
    keys = sorted({*table.keys, *([split_key] if split_key else [])})
    found = {"keys": keys, "texts": table.text_keys, "numbers": table.number_keys}
    return json.dumps(found)


def read_declared(text: str) -> Declared:
    """Reads what `declared_by` wrote."""
    return Declared(**{name: frozenset(keys) for name, keys in json.loads(text).items()})
