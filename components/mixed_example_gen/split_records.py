"""Sends a record to its split: by a stable hash, by its time, or by a field that says it."""

import bisect
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from branchline.components.mixed_example_gen.plain_rows import PlainRows, made_of
from branchline.components.mixed_example_gen.read_record import NotARecord, Record, Value
from branchline.schemas.splits import SplitByField, SplitByTime, Splits

_MOST_KEYS = 20  # that an error names
_MOST_KEPT = 100  # keys of a record that are kept for the next


def choose_split(
    record: Record,
    splits: Splits,
    split_key: str | None = None,
    keys: frozenset[str] | None = None,
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
        text = _as_json(record, keys)
    return _by_hash(text, *_ends(tuple(splits.items())))


def choose_splits(
    rows: PlainRows,
    splits: Mapping[str, int],
    split_key: str | None = None,
    keys: frozenset[str] | None = None,
) -> list[str]:
    """Chooses the splits of rows by their hash: of each the one that `choose_split` chooses."""
    parts = made_of(rows, _part, "", keys)
    in_order = [parts[key] for key in sorted(parts)] or [[""] * rows.num_rows]
    texts = [f"{{{', '.join(filter(None, row))}}}" for row in zip(*in_order, strict=True)]
    if split_key is not None:
        for own in made_of(rows, _values, "", [split_key]).values():
            texts = [value or text for value, text in zip(own, texts, strict=True)]
    ends = _ends(tuple(splits.items()))
    return [_by_hash(text, *ends) for text in texts]


def _part(key: str, value: Value) -> str:
    return f"{_quoted(key)}: {_values(key, value)}"


def _values(_: str, value: Value) -> str:
    """A list of one value as `_to_json` writes it."""
    if isinstance(value, int):
        return f"[{value:d}]"  # a boolean is 0 or 1
    return f"[{_quoted(value)}]" if type(value) is str else _to_json([value])


def _by_hash(text: str, names: list[str], ends: list[int]) -> str:
    place = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return names[bisect.bisect(ends, place % ends[-1])]


@functools.lru_cache(maxsize=16)
def _ends(splits: tuple[tuple[str, int], ...]) -> tuple[list[str], list[int]]:
    """The splits, and where the places of each end.

    >>> _ends((("train", 4), ("eval", 1)))
    (['eval', 'train'], [1, 5])
    """
    names, parts = zip(*sorted(splits), strict=True)
    return list(names), list(itertools.accumulate(parts))


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


def _as_json(record: Record, keys: frozenset[str] | None) -> str:
    """What `_to_json` gives of what the record has under `keys`, in less time."""
    parts = []
    names = _names if len(record) < _MOST_KEPT else _names.__wrapped__
    for key, name in names(tuple(record), keys):
        values = record[key]
        first: Any = values[0] if values else None
        kind = type(first)
        if len(values) > 1 or (kind is not str and kind is not int):
            parts.append(f"{name}{_to_json(values)}")
        else:
            parts.append(f"{name}[{_quoted(first) if kind is str else first}]")
    return f"{{{', '.join(parts)}}}"


@functools.lru_cache(maxsize=256)  # records of one kind have the same keys
def _names(record: tuple[str, ...], keys: frozenset[str] | None) -> list[tuple[str, str]]:
    """Those of a record's keys that are hashed, in order, and how JSON writes each."""
    hashed = sorted(record if keys is None else keys.intersection(record))
    return [(key, f"{_quoted(key)}: ") for key in hashed]


def _as_text(value: bytes) -> str:
    """Bytes that are a text are the same to the hash as that text."""
    return value.decode(errors="backslashreplace")


_to_json = json.JSONEncoder(sort_keys=True, default=_as_text).encode
