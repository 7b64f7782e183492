"""Makes scaled numbers of whatever is a number, a time or a duration, for all routes at once."""

from collections.abc import Sequence

import tensorflow as tf

from branchline.components.routing.written.read_written import read_written
from branchline.components.routing.written.times import SECOND
from branchline.components.transform.many_values import each_with_one
from branchline.components.transform.own_rows import OwnRows
from branchline.components.transform.quantiles import ranks
from branchline.components.transform.scale import number_places, standardise
from branchline.components.transform.times import spread_times
from branchline.schemas import Duration, Numeric, Timestamp
from branchline.schemas.features import Written

SCALED = (Numeric, Timestamp, Duration)


def read(rows: OwnRows) -> OwnRows:
    """Reads the texts of a group of a kind that is written as such, as the Router has done.

    A text that cannot be read is left out: the Router lets none pass, but other examples may come.
    """
    kind = rows.group.kind
    if not isinstance(kind, Written):
        return rows
    values, readable = read_written(kind, rows.values)
    return rows._replace(values=values).at(tf.where(readable)[:, 0])


def scale(numbers: Sequence[OwnRows]) -> dict[str, tf.SparseTensor]:
    """Scales the numbers of each route's features as their kinds say.

    Args:
        numbers: Of the groups of the kinds `SCALED`, as `read` gives them.

    Returns:
        Group's name → float32 [batch, width].
    """
    exact = [rows._replace(values=_before_scaling(rows)) for rows in numbers]
    ranked = [rows for rows in exact if _is_ranked(rows)]
    others = [rows for rows in exact if not _is_ranked(rows)]
    scaled = zip([*ranked, *others], [*_rank(ranked), *standardise(others)], strict=True)
    values = {rows.group.name: each for rows, each in scaled}
    return {rows.group.name: _spread(rows, values[rows.group.name]) for rows in numbers}


def _is_ranked(rows: OwnRows) -> bool:
    return isinstance(kind := rows.group.value_kind, Numeric) and kind.scale == "quantile"


def _rank(numbers: Sequence[OwnRows]) -> list[tf.Tensor]:
    """The ranks of the values of each group, float32."""
    if not numbers:
        return []
    places, total = number_places(numbers)
    found = ranks(tf.concat(places, 0), tf.concat([rows.values for rows in numbers], 0), total)
    sizes = tf.stack([tf.size(rows.values) for rows in numbers])
    return tf.split(tf.cast(found, tf.float32), sizes, num=len(numbers))


def _before_scaling(rows: OwnRows) -> tf.Tensor:
    """What is scaled: float64 [values]."""
    values, kind = tf.cast(rows.values, tf.float64), rows.group.value_kind
    if isinstance(kind, Timestamp):
        return values / SECOND
    if isinstance(kind, Duration):
        return _signed_log(values)
    assert isinstance(kind, Numeric)
    if kind.clip is not None:
        low, high = kind.clip
        values = values if low is None else tf.maximum(values, low)
        values = values if high is None else tf.minimum(values, high)
    return _signed_log(values) if kind.scale == "log" else values


def _spread(rows: OwnRows, values: tf.Tensor) -> tf.SparseTensor:
    """Puts scaled values into their rows, with what else a branch gets of them."""
    kind = rows.group.kind
    if isinstance(kind, Timestamp):
        return spread_times(rows, values)
    if isinstance(kind, Numeric) and kind.missing == "indicator":
        return rows.spread_vectors(tf.stack([values, tf.ones_like(values)], axis=1))
    spread = rows.spread(values)
    return each_with_one(spread) if rows.group.is_sequence else spread


def _signed_log(values: tf.Tensor) -> tf.Tensor:
    return tf.sign(values) * tf.math.log1p(tf.abs(values))
