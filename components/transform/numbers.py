"""Makes scaled numbers of whatever is a number, a time or a duration, for all routes at once."""

from collections.abc import Sequence

import tensorflow as tf

from branchline.components.routing.written.read_written import read_written
from branchline.components.routing.written.times import SECOND
from branchline.components.transform.many_values import each_with_one
from branchline.components.transform.own_rows import OwnRows
from branchline.components.transform.scale import standardise
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
    """Scales the numbers of each route's features to zero mean and unit variance, as kinds say.

    Args:
        numbers: Of the groups of the kinds `SCALED`, as `read` gives them.

    Returns:
        Group's name → float32 [batch, width]; of times, what `spread_times` adds to it.
    """
    scaled = standardise([rows._replace(values=_to_scale(rows)) for rows in numbers])
    return {
        rows.group.name: _spread(rows, values) for rows, values in zip(numbers, scaled, strict=True)
    }


def _spread(rows: OwnRows, scaled: tf.Tensor) -> tf.SparseTensor:
    if isinstance(rows.group.kind, Timestamp):
        return spread_times(rows, scaled)
    spread = rows.spread(scaled)
    return each_with_one(spread) if rows.group.is_sequence else spread


def _to_scale(rows: OwnRows) -> tf.Tensor:
    """What is scaled: float64 [values]."""
    values = tf.cast(rows.values, tf.float64)
    match rows.group.kind:
        case Timestamp():
            return values / SECOND
        case Duration():
            return _signed_log(values)
    return values


def _signed_log(values: tf.Tensor) -> tf.Tensor:
    return tf.sign(values) * tf.math.log1p(tf.abs(values))
