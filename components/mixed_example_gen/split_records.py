"""Sends a record to its split by a stable hash."""

import hashlib
import json
from collections.abc import Container, Mapping

from branchline.components.mixed_example_gen.read_record import Record


def choose_split(
    record: Record,
    splits: Mapping[str, int],
    split_key: str | None = None,
    keys: Container[str] | None = None,
) -> str:
    """Chooses the split of a record, the same on every run and in every order of records.

    Args:
        record: Equal records fall into the same split.
        splits: Split → how many parts of the records it gets.
        split_key: If the record has this key, only its values count.
        keys: If given, only what the record has under these counts, so that a new column changes
            nothing.

    >>> choose_split({"a": [1]}, {"train": 1})
    'train'
    """
    counted = record if keys is None else {k: v for k, v in record.items() if k in keys}
    if split_key in record:
        counted = record[split_key]
    text = json.dumps(counted, sort_keys=True, default=_as_text).encode()
    place = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    place %= sum(splits.values())
    for split, parts in sorted(splits.items()):
        if place < parts:
            return split
        place -= parts
    raise AssertionError("unreachable: the parts add up")


def _as_text(value: bytes) -> str:
    """Bytes that are a text are the same to the hash as that text."""
    return value.decode(errors="backslashreplace")
