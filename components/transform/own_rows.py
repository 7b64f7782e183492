"""Takes out of a batch the values that a group's routes declare."""

from typing import NamedTuple

import tensorflow as tf

from branchline.components.transform.groups import Group
from branchline.schemas import RoutingTable

Values = tf.Tensor | tf.SparseTensor


class OwnRows(NamedTuple):
    """One column's values in the rows of a group's routes.

    Attributes:
        group: The group.
        indices: int64 [values, 2], of the row in the batch and the place within it.
        values: [values].
        members: int64 [values], which of the group's routes each value's row takes; 0 where the
            group is of one route.
        batch: int64 [], the number of rows in the batch.
    """

    group: Group
    indices: tf.Tensor
    values: tf.Tensor
    members: tf.Tensor | int
    batch: tf.Tensor

    def spread(self, values: tf.Tensor, width: int) -> tf.SparseTensor:
        """Puts values that were made of these, one of one, into their rows [batch, width]."""
        return tf.SparseTensor(self.indices, values, tf.stack([self.batch, width]))


def route_places(table: RoutingTable, route: Values) -> tf.Tensor:
    """Looks up the place in the table of each row's route.

    Args:
        table: The routes.
        route: The column `_route` of a batch.

    Returns:
        int64 [batch]; the number of routes where it is none of them.
    """
    sparse = as_sparse(route)
    names = tf.sparse.to_dense(sparse, default_value="")[:, 0]
    with tf.init_scope():
        places = tf.lookup.KeyValueTensorInitializer(
            tf.constant(table.names), tf.range(len(table.routes), dtype=tf.int64)
        )
        found = tf.lookup.StaticHashTable(places, default_value=len(table.routes))
    return found.lookup(names)


def take_rows(group: Group, values: Values, places: tf.Tensor, num_routes: int) -> OwnRows:
    """Takes a group's values out of its column.

    Args:
        group: The group.
        values: The column, of any routes.
        places: int64 [batch], of each row's route.
        num_routes: How many there are.
    """
    column = as_sparse(values)
    place = tf.gather(places, column.indices[:, 0])
    members: tf.Tensor | int = 0
    if len(group.routes) == 1:  # thousands of groups may be so: no operation more than it takes
        kept = tf.where(tf.equal(place, group.routes[0]))[:, 0]
    else:
        member_of = [-1] * (num_routes + 1)  # the last is of rows of no route
        for member, route in enumerate(group.routes):
            member_of[route] = member
        of_value = tf.gather(tf.constant(member_of, tf.int64), place)
        kept = tf.where(of_value >= 0)[:, 0]
        members = tf.gather(of_value, kept)
    return OwnRows(
        group,
        tf.gather(column.indices, kept),
        tf.gather(column.values, kept),
        members,
        column.dense_shape[0],
    )


def as_sparse(values: Values) -> tf.SparseTensor:
    """Gives a column's values by row, [batch, number of values], whatever shape it has."""
    if isinstance(values, tf.SparseTensor):
        return values
    flat = tf.reshape(values, [tf.shape(values)[0], -1])
    everywhere = tf.where(tf.ones_like(flat, tf.bool))
    shape = tf.shape(flat, out_type=tf.int64)
    return tf.SparseTensor(everywhere, tf.reshape(flat, [-1]), shape)
