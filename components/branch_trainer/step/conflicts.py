"""Resolves conflicts between routes on the layers that they share.

Source: PCGrad, Yu et al. 2020, "Gradient Surgery for Multi-Task Learning" (arXiv:2001.06782),
algorithm 1.
"""

from collections.abc import Sequence

import tensorflow as tf


def pcgrad_factors(products: tf.Tensor, orders: tf.Tensor) -> tf.Tensor:
    """Returns by what to multiply each route's gradient before they are summed.

    Each route's gradient is freed, one other route after another, of its part that points against
    that route's gradient. What comes out is a sum of the gradients, so that their inner products
    are all that it takes.

    Args:
        products: float32 [routes, routes], inner products of the routes' gradients.
        orders: int32 [routes, routes], in row i the order in which route i meets the others;
            itself it passes over.

    Returns:
        float32 [routes].
    """
    num_routes = int(orders.shape[0] or 0)
    total = tf.zeros([num_routes])
    for i in range(num_routes):
        factors = tf.one_hot(i, num_routes)
        for k in range(num_routes):
            j = orders[i, k]
            along = tf.tensordot(factors, products[:, j], 1)
            opposed = (along < 0) & (j != i)
            share = tf.where(opposed, tf.math.divide_no_nan(along, products[j, j]), 0.0)
            factors -= share * tf.one_hot(j, num_routes)
        total += factors
    return total


def inner_products(gradients: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor:
    """Returns float32 [routes, routes] from each route's gradients of the same variables."""
    products = tf.zeros([len(gradients), len(gradients)])
    for of_variable in zip(*gradients, strict=True):
        rows = tf.stack([tf.cast(tf.reshape(g, [-1]), tf.float32) for g in of_variable])
        products += tf.matmul(rows, rows, transpose_b=True)
    return products


def random_orders(num_routes: int, step: tf.Tensor, seed: int = 0) -> tf.Tensor:
    """Returns int32 [routes, routes], a permutation in each row, the same whenever asked.

    Args:
        num_routes: how many.
        step: int64 [], names the draw.
        seed: of the training; names the draws of all steps.
    """
    draws = tf.random.stateless_uniform([num_routes, num_routes], tf.stack([step, seed]))
    return tf.argsort(draws, axis=1)
