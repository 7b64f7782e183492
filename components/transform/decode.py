"""Decodes the pictures of a group."""

import tensorflow as tf

from branchline.components.routing.pictures import decode_pictures
from branchline.components.transform.own_rows import OwnRows
from branchline.schemas import Image


def decode(pictures: OwnRows) -> tf.SparseTensor:
    """Decodes what is in files of pictures.

    Args:
        pictures: Values of a group of kind `Image`, string, one a row.

    Returns:
        float32 [batch, pixels] in [0, 1]; 0 for a picture that cannot be decoded, which the Router
        lets through to nobody.
    """
    kind = pictures.group.kind
    assert isinstance(kind, Image)
    pixels, _ = decode_pictures(pictures.values, *kind.shape)
    return pictures.spread_vectors(tf.reshape(pixels, [-1, kind.num_pixels]))
