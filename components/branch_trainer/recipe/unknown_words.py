"""Tells how many of a feature's words or categories its vocabulary does not know.

To a branch all unknown ones are one. They are counted where nothing was learnt from, because the
vocabulary has been made of the training rows.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from branchline.components.branch_trainer.streams.read_rows import RowReader
from branchline.components.files.routed import route_files
from branchline.schemas import Categorical, Feature, RoutingTable, Text
from branchline.schemas.splits import EVAL

_progress = logging.getLogger("branchline.progress")
_ROWS = 256  # of each route, of which the first of every file are looked at
_MOST = 0.5  # share of unknown ones that is no warning


def tell_unknown(
    reader: RowReader, table: RoutingTable, uris: list[str], train_split: str
) -> dict[str, Any]:
    """Warns in the log of features of which more than half is unknown.

    Args:
        reader: As `unknown_shares` takes it, and so on.
        table: The routes.
        uris: Of the routed examples.
        train_split: Its name.

    Returns:
        For the history: `unknown`, the shares, and `warnings`, the lines of the log.
    """
    shares = unknown_shares(reader, table, uris, train_split)
    warnings = told_unknown(shares, table)
    for line in warnings:
        _progress.warning("%s", line)
    return {"unknown": shares, "warnings": warnings}


def unknown_shares(
    reader: RowReader, table: RoutingTable, uris: list[str], train_split: str
) -> dict[str, dict[str, float]]:
    """Counts unknown words and categories in some rows of `eval`, or of a training split alone.

    Args:
        reader: Reads routed examples as the branches get them.
        table: The routes.
        uris: Of the routed examples.
        train_split: Where there is no split `eval`, the rows to look at; of these the unknown ones
            are what a vocabulary had no room for.

    Returns:
        Route → key of a feature with a vocabulary → the share in [0, 1] of its words or categories
        that are unknown; without what has none in these rows.
    """
    keys = {
        name: [
            key for key, spec in of.items() if spec.vocabulary_size and _learns(table, name, key)
        ]
        for name, of in reader.inputs.items()
    }
    routes = [name for name, of in keys.items() if of]
    files: dict[str, list[str]] = {}
    for split in (EVAL, train_split):
        files = {name: of for name, of in route_files(uris, split, routes).items() if of}
        if files:
            break
    if not files:
        return {}
    most = max(1, _ROWS // max(map(len, files.values())))
    seen: Counter[tuple[str, str]] = Counter()
    unknown: Counter[tuple[str, str]] = Counter()
    for route, features, _ in reader.parts(files, most):
        for key in keys[route]:
            indices = _flat(features[key])
            seen[route, key] += np.count_nonzero(indices)
            last = (reader.inputs[route][key].vocabulary_size or 0) - 1
            unknown[route, key] += np.count_nonzero(indices == last)
    return {
        route: {key: unknown[route, key] / seen[route, key] for key in of if seen[route, key]}
        for route, of in keys.items()
        if any(seen[route, key] for key in of)
    }


def told_unknown(shares: Mapping[str, Mapping[str, float]], table: RoutingTable) -> list[str]:
    """Words a warning for each feature of which more than half is unknown.

    Args:
        shares: As `unknown_shares` gives them.
        table: The routes.

    Returns:
        A sentence each: route, key, share, and what to do.
    """
    return [
        f"route {route}: {share:.0%} of the {_things(kind)} in {key!r} are unknown to its "
        f"vocabulary, and so all alike to the branch; {_advice(kind)}"
        for route, of in shares.items()
        for key, share in of.items()
        for kind in [table[route].features[key]]
        if share > _MOST
    ]


def _learns(table: RoutingTable, route: str, key: str) -> bool:
    kind = table[route].features.get(key)
    return kind is not None and kind.vocabulary is not None


def _flat(values: Any) -> np.ndarray:
    if isinstance(values, tf.RaggedTensor):
        values = values.flat_values
    return np.ravel(values.numpy())


def _things(kind: Feature) -> str:
    if not isinstance(kind, Text):
        return "values"
    return "words" if kind.tokens == "words" else "characters and their runs"


def _advice(kind: Feature) -> str:
    if isinstance(kind, Text) and kind.tokens == "words":
        return (
            'Text(tokens="characters", ngrams=2) is for scripts without spaces between words, and '
            "a greater max_words, or more training rows, for rare ones"
        )
    if isinstance(kind, Text):
        return "smaller ngrams, a greater max_words or more training rows make more of them known"
    if isinstance(kind, Categorical):
        return (
            "Hashed(buckets) is for values of which there is no end, and a greater max_values, or "
            "more training rows, for rare ones"
        )
    return "a greater max_values, or more training rows, make more of them known"
