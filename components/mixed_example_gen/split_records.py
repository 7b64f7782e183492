"""Sends a record to its split: by a stable hash, by its time, or by a field that says it."""

import hashlib
import json
from collections.abc import Container
from json.encoder import encode_basestring_ascii as _quoted

from branchline.components.mixed_example_gen.read_record import NotARecord, Record, Value
from branchline.schemas.splits import SplitByField, SplitByTime, Splits

_MOST_KEYS = 20  # that an error names


def choose_split(
    record: Record,
    splits: Splits,
    split_key: str | None = None,
    keys: Container[str] | None = None,
) -> str:
    """Chooses the split of a record, the same on every run and in every order of records.

    Args:
        record: Equal records fall into the same split.
        splits: Split → its parts of the records, by their hash; or another way to split.
        split_key: If the record has this key, only its values are hashed.
        keys: If given, only what the record has under these is hashed, so that a new column changes
            nothing.

    Raises:
        NotARecord: What the split goes by is missing, or tells no split.

    >>> choose_split({"a": [1]}, {"train": 1})
    'train'
    """
    if isinstance(splits, (SplitByTime, SplitByField)):  # noqa: UP038 - as A | B it is slow
        return _choose_by_field(record, splits)
    if split_key in record:
        text = _to_json(record[split_key])
    else:
        text = _as_json(record, list(record) if keys is None else [k for k in record if k in keys])
    place = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    place %= sum(splits.values())
    for split, parts in sorted(splits.items()):
        if place < parts:
            return split
        place -= parts
    raise AssertionError("unreachable: the parts add up")


def _choose_by_field(record: Record, splits: SplitByTime | SplitByField) -> str:
    key, values = splits.key, record.get(splits.key, [])
    try:
        if len(values) == 1:
            return splits.choose(_plain(values[0]))
        got = f"{len(values)} values"
    except ValueError:
        got = repr(values[0])
    if not values:
        seen = [each for each in sorted(record) if each != key][:_MOST_KEYS]
        got = f"no such field in a record of {', '.join(seen)}"
    raise NotARecord("bad_split", f"{key}: got {got}, expected {splits.expected}", key)


def _plain(value: Value) -> str | int | float:
    return value.decode() if isinstance(value, bytes) else value


def _as_json(record: Record, keys: list[str]) -> str:
    """What `_to_json` gives of these keys, faster where there is one text or int."""
    keys.sort()
    parts = []
    for key in keys:
        values = record[key]
        first = values[0]
        if len(values) > 1 or type(first) not in (str, int):
            parts.append(f"{_quoted(key)}: {_to_json(values)}")
        else:
            parts.append(f"{_quoted(key)}: [{_quoted(first) if type(first) is str else first}]")
    return f"{{{', '.join(parts)}}}"


def _as_text(value: bytes) -> str:
    """Bytes that are a text are the same to the hash as that text."""
    return value.decode(errors="backslashreplace")


_to_json = json.JSONEncoder(sort_keys=True, default=_as_text).encode
