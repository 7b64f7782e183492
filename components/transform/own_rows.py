"""Takes out of a batch the values of a group's members: of each row, its own route's feature."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from branchline.components.transform.groups import Group
from branchline.schemas import RoutingTable

Columns = Mapping[str, tf.Tensor | tf.SparseTensor]


class OwnRows(NamedTuple):
    """The values of a group's members, ordered by row.

    Attributes:
        group: The group.
        rows: int64 [values], each value's row in the batch.
        positions: int64 [values], its place within the row's values.
        values: [values].
        members: int64 [values], which of the group's members it is of.
        batch: int64 [], the number of rows in the batch.
    """

    group: Group
    rows: tf.Tensor
    positions: tf.Tensor
    values: tf.Tensor
    members: tf.Tensor
    batch: tf.Tensor

    def at(self, chosen: tf.Tensor) -> "OwnRows":
        """Gives the values with the numbers `chosen`."""
        return self._replace(
            rows=tf.gather(self.rows, chosen),
            positions=tf.gather(self.positions, chosen),
            values=tf.gather(self.values, chosen),
            members=tf.gather(self.members, chosen),
        )

    def cut(self, pieces: tf.RaggedTensor) -> "OwnRows":
        """Gives the pieces that the values were cut into: [values, None], pieces in their order."""
        return self.at(pieces.value_rowids())._replace(values=pieces.flat_values).numbered()

    def numbered(self) -> "OwnRows":
        """Gives the values places anew, from 0 on in each row."""
        number = tf.range(tf.size(self.rows, tf.int64))
        first = tf.math.unsorted_segment_min(number, self.rows, self.batch)
        return self._replace(positions=number - tf.gather(first, self.rows))

    def spread(self, values: tf.Tensor) -> tf.SparseTensor:
        """Puts values that were made of these, one of one, into their rows [batch, width]."""
        indices = tf.stack([self.rows, self.positions], axis=1)
        return tf.SparseTensor(indices, values, tf.stack([self.batch, self.group.width]))

    def spread_vectors(self, vectors: tf.Tensor) -> tf.SparseTensor:
        """Puts a vector [values, width] that was made of each, the only one of its row, into it."""
        width = self.group.width
        every = self.at(tf.repeat(tf.range(tf.size(self.rows)), width))
        positions = tf.math.floormod(tf.range(tf.size(every.rows, tf.int64)), width)
        return every._replace(positions=positions).spread(tf.reshape(vectors, [-1]))


def route_places(table: RoutingTable, route: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    """Looks up the place in the table of each row's route.

    Args:
        table: The routes.
        route: The column `_route` of a batch.

    Returns:
        int64 [batch]; the number of routes where it is none of them.
    """
    given = _sparse(route)
    one = tf.SparseTensor(given.indices, given.values, tf.stack([given.dense_shape[0], 1]))
    taken = tf.sparse.to_dense(one, default_value="")
    fits = tf.equal(taken, tf.constant(table.names)[None])
    # The first that fits; behind them all one that always does.
    return tf.argmax(tf.pad(tf.cast(fits, tf.int8), [[0, 0], [0, 1]], constant_values=1), axis=1)


def take_rows(group: Group, columns: Columns, places: tf.Tensor, num_routes: int) -> OwnRows:
    """Takes a group's values out of its columns.

    The number of operations does not depend on the number of columns: Transform traces a graph
    half a dozen times and walks through it many more, which takes milliseconds per operation.

    Args:
        group: The group.
        columns: Of the routed examples.
        places: int64 [batch], of each row's route.
        num_routes: How many there are.
    """
    sparse = [_sparse(columns[name]) for name in group.columns]
    indices = tf.concat([each.indices for each in sparse], axis=0)
    rows, positions = tf.unstack(indices, axis=1)
    values = tf.concat([each.values for each in sparse], axis=0)
    sizes = tf.concat(tf.shape_n([each.values for each in sparse], tf.int64), axis=0)
    column = tf.repeat(tf.range(len(sparse), dtype=tf.int64), sizes)

    numbers = {name: number for number, name in enumerate(group.columns)}
    declared = sorted(  # a column of a route → which member that is
        (numbers[each.column] * (num_routes + 1) + each.route, member)
        for member, each in enumerate(group.members)
    )
    codes, members = (tf.constant(each, tf.int64) for each in zip(*declared, strict=True))
    code = column * (num_routes + 1) + tf.gather(places, rows)
    found = tf.minimum(tf.searchsorted(codes, code), len(declared) - 1)
    batch = tf.size(places, tf.int64)
    everything = OwnRows(group, rows, positions, values, tf.gather(members, found), batch)
    own = everything.at(tf.where(tf.equal(tf.gather(codes, found), code))[:, 0])
    return own if len(sparse) == 1 else own.at(tf.argsort(own.rows, stable=True))


def _sparse(values: tf.Tensor | tf.SparseTensor) -> tf.SparseTensor:
    """Gives a column's values by row, [batch, number of values], whatever shape it has."""
    if isinstance(values, tf.SparseTensor):
        return values
    flat = tf.reshape(values, [-1, values.shape[1:].num_elements()])
    everywhere = tf.where(tf.ones_like(flat, tf.bool))
    shape = tf.shape(flat, out_type=tf.int64)
    return tf.SparseTensor(everywhere, tf.reshape(flat, [-1]), shape)
