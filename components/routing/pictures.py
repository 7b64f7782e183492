"""Decodes pictures, so that one that cannot be decoded costs no other row.

TensorFlow's operations that decode fail for the whole batch; a `tf.data` pipeline within the graph
leaves such an element out, and decodes on all cores. A SavedModel holds it like any operation.
"""

from collections.abc import Callable

import tensorflow as tf

_BASE64 = r"[A-Za-z0-9_\-]+"
_DATA_URL = r"^data:[A-Za-z0-9/+.\-]*;base64,"


def decode_pictures(
    values: tf.Tensor, height: int, width: int, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and resizes pictures.

    Args:
        values: string [n], what is in files of PNG, JPEG, GIF, BMP or (TensorFlow 2.21) WebP, or
            that in base64.
        height: To resize to.
        width: To resize to.
        channels: 3, or 1 for grey.

    Returns:
        float32 [n, height, width, channels] in [0, 1], 0 where a picture cannot be decoded; and
        where it can, bool [n].
    """

    def resized(picture: tf.Tensor) -> tf.Tensor:
        small = tf.image.resize(
            tf.cast(picture, tf.float32) / 255.0, [height, width], antialias=True
        )
        small = tf.clip_by_value(small, 0.0, 1.0)
        return small if channels == 3 else tf.image.rgb_to_grayscale(small)

    return _decoded(values, resized, [height, width, channels])


def can_be_decoded(values: tf.Tensor) -> tf.Tensor:
    """Tells which pictures `decode_pictures` decodes: bool [n]."""
    return _decoded(values, lambda picture: tf.cast(tf.size(picture), tf.float32), [])[1]


def _decoded(
    values: tf.Tensor, made: Callable[[tf.Tensor], tf.Tensor], shape: list[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    def decode(number: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = _without_base64(value)
        return number, made(_pixels(content))

    count = tf.size(values, tf.int64)
    elements = tf.data.Dataset.from_tensor_slices((tf.range(count), values))
    decoded = elements.map(decode, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # One more, as there is no batch of none.
    decoded = decoded.concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(shape))))
    numbers, found = decoded.batch(count + 1).get_single_element()
    places, found = numbers[:-1, None], found[:-1]
    size = tf.stack([count, *shape])
    good = tf.fill(tf.stack([count]), False)
    good = tf.tensor_scatter_nd_update(good, places, tf.fill(tf.shape(numbers[:-1]), True))
    return tf.scatter_nd(places, found, tf.cast(size, tf.int64)), good


def _pixels(content: tf.Tensor) -> tf.Tensor:
    """Decodes one picture to uint8 [height, width, 3].

    WebP, which TensorFlow decodes from 2.21 on, has four channels where it is transparent, whatever
    is asked for; of one that moves TensorFlow gives wrong pixels: it counts as no picture.
    """
    is_webp = tf.equal(tf.strings.substr(content, 8, 4), "WEBP")
    is_extended = is_webp & tf.equal(tf.strings.substr(content, 12, 4), "VP8X")
    flags = tf.io.decode_raw(tf.strings.substr(content, 20, 1), tf.uint8)[0]
    moves = is_extended & tf.not_equal(tf.bitwise.bitwise_and(flags, 2), 0)
    still = tf.where(moves, "", content)
    picture = tf.cond(
        is_webp,
        lambda: tf.io.decode_image(still, expand_animations=False)[..., :3],
        lambda: tf.io.decode_image(still, channels=3, expand_animations=False),
    )
    picture.set_shape([None, None, 3])
    return picture


def _without_base64(value: tf.Tensor) -> tf.Tensor:
    """What a text in base64 holds; other bytes, and no picture's are such a text, as they are."""
    text = tf.strings.regex_replace(value, _DATA_URL, "")
    text = tf.strings.regex_replace(text, r"[=\s]+", "")
    text = tf.strings.regex_replace(tf.strings.regex_replace(text, r"\+", "-"), "/", "_")
    is_text = tf.strings.regex_full_match(text, _BASE64)
    return tf.cond(is_text, lambda: tf.io.decode_base64(text), lambda: value)
