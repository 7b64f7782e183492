"""Fails where records fell into splits in a way that nobody can have meant."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from branchline.components.mixed_example_gen.ingest import WITH_SPLIT_KEY
from branchline.schemas import BranchlineError, SplitByField, SplitByTime
from branchline.schemas.errors import OFFSET, SOURCE
from branchline.schemas.splits import Splits

_ROWS, _VALUES = 10_000, 10  # that are looked through, and that are named


def check_filled(
    splits: Splits, split_key: str | None, counts: Mapping[str, Any], uri: str
) -> None:
    """Checks that a key of the splits is in some record, and that no split is left without one.

    By hash, few records may leave a split without one; by time or field, none may.

    Args:
        splits: How the records were split.
        split_key: The key that was hashed.
        counts: What `quarantine.read_counts` gives.
        uri: Where the examples are.

    Raises:
        BranchlineError: Names the key or the splits, and what was seen.
    """
    if counts.get(WITH_SPLIT_KEY) == 0 and counts["out"]:
        raise BranchlineError(
            f"MixedExampleGen.split_key: got {split_key!r}, which no record has; expected one of "
            f"{', '.join(_first_keys(uri))}"
        )
    if isinstance(splits, SplitByTime | SplitByField):
        if without := [split for split in splits.names if split not in counts["out"]]:
            raise BranchlineError(_told(splits, without, counts, uri))


def _told(
    splits: SplitByTime | SplitByField, without: list[str], counts: Mapping[str, Any], uri: str
) -> str:
    told = f"MixedExampleGen.splits: no record is in {', '.join(without)}"
    for split, number in counts["out"].items():
        seen = ", ".join(_values(f"{uri}/Split-{split}/*.gz", splits.key))
        told += f"; {split}: {number} records, {splits.key} such as {seen}"
    if number := counts["quarantined"].get("bad_split"):
        samples = counts["samples"]["bad_split"]
        details = dict.fromkeys(sample["detail"] for sample in samples)
        told += f"; quarantined as bad_split: {number}, such as {'; '.join(details)}"
    return told


def _rows(pattern: str, number: int) -> list[tf.train.Example]:
    """The first examples of the files of a pattern."""
    files = sorted(tf.io.gfile.glob(pattern))
    rows = tf.data.TFRecordDataset(files, "GZIP").take(number)
    return [tf.train.Example.FromString(row.numpy()) for row in rows]


def _first_keys(uri: str) -> list[str]:
    """The keys of some example, as a user knows them."""
    rows = _rows(f"{uri}/Split-*/*.gz", 1)
    return sorted({key for row in rows for key in row.features.feature} - {SOURCE, OFFSET})


def _values(pattern: str, key: str) -> list[str]:
    """Some of the values that examples hold under a key."""
    found: dict[str, None] = {}
    for row in _rows(pattern, _ROWS):
        feature = row.features.feature[key]
        kind = feature.WhichOneof("kind")
        for value in getattr(feature, kind).value if kind else ():
            plain = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
            found[repr(plain)] = None
    return sorted(found)[:_VALUES]
