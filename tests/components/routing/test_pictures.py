"""Pictures of files: decoded as TensorFlow decodes one alone, whatever else is in the batch."""

import base64

import builders as build
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.routing.parse_batch import parse
from branchline.components.routing.pictures import can_be_decoded, decode_pictures
from branchline.components.routing.read_fields import read_table_fields
from branchline.components.routing.routing_fn import route_index
from branchline.schemas import Image, RecipeError, Route, RoutingTable, Text, when

BINARY = {"label": "y", "task": "binary"}
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
PNG = tf.io.encode_png(PIXELS).numpy()
# Two pixels, rows from below, blue first, each row filled up to 4 bytes.
BMP = (
    b"BM"
    + (62).to_bytes(4, "little")
    + bytes(4)
    + (54).to_bytes(4, "little")
    + (40).to_bytes(4, "little")
    + (1).to_bytes(4, "little")
    + (2).to_bytes(4, "little")
    + (1).to_bytes(2, "little")
    + (24).to_bytes(2, "little")
    + bytes(24)
    + b"\xff\x00\x00\x00"
    + b"\x00\x00\xff\x00"
)
KINDS = {
    "png": PNG,
    "grey png": tf.io.encode_png(PIXELS[..., :1]).numpy(),
    "png with alpha": tf.io.encode_png(np.concatenate([PIXELS, PIXELS[..., :1]], -1)).numpy(),
    "jpeg": tf.io.encode_jpeg(PIXELS).numpy(),
    "bmp": BMP,
}


def alone(content, height, width):
    """One picture by itself, by TensorFlow's operations, eagerly."""
    picture = tf.io.decode_image(content, channels=3, expand_animations=False)
    picture = tf.cast(picture, tf.float32) / 255.0
    return np.clip(tf.image.resize(picture, [height, width], antialias=True).numpy(), 0, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(9, 7), (4, 5), (20, 20)])
def test_a_picture_is_decoded_as_one_alone(kind, size):
    pixels, good = decode_pictures(tf.constant([KINDS[kind]]), *size, 3)
    assert good.numpy().all()
    np.testing.assert_allclose(pixels[0], alone(KINDS[kind], *size), atol=1e-6)


def test_the_pixels_are_those_that_were_drawn():
    pixels, _ = decode_pictures(tf.constant([PNG, BMP]), 9, 7, 3)
    np.testing.assert_allclose(pixels[0] * 255, PIXELS, atol=1e-4)
    pixels, _ = decode_pictures(tf.constant([BMP]), 2, 1, 3)
    np.testing.assert_allclose(pixels[0, :, 0], [[1, 0, 0], [0, 0, 1]], atol=1e-6)


def test_grey_is_the_brightness():
    grey, _ = decode_pictures(tf.constant([PNG]), 9, 7, 1)
    weights = [0.2989, 0.587, 0.114]  # ITU-R BT.601
    np.testing.assert_allclose(grey[0, ..., 0], PIXELS / 255 @ weights, atol=1e-4)


def test_base64_and_data_urls_are_what_they_hold():
    text = base64.b64encode(PNG)
    safe = base64.urlsafe_b64encode(PNG).rstrip(b"=")
    lines = b"\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    forms = [PNG, text, safe, lines, b"data:image/png;base64," + text]
    pixels, good = decode_pictures(tf.constant(forms), 9, 7, 3)
    assert good.numpy().all()
    for each in pixels[1:]:
        np.testing.assert_array_equal(each, pixels[0])


BROKEN = [b"", b"junk", b"\xff\xd8\xff\xe0", PNG[:60], base64.b64encode(PNG)[:60], b"\x00" * 9]


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*KINDS.values(), *BROKEN]),
            st.binary(max_size=40),
            st.integers(0, len(PNG) - 30).map(lambda cut: PNG[:cut]),
        ),
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_a_broken_picture_costs_no_other(contents):
    pixels, good = decode_pictures(tf.constant(contents, tf.string), 4, 4, 3)
    assert pixels.shape == (len(contents), 4, 4, 3)
    np.testing.assert_array_equal(can_be_decoded(tf.constant(contents, tf.string)), good)
    for content, each, is_good in zip(contents, pixels.numpy(), good.numpy(), strict=True):
        if content in KINDS.values():
            assert is_good
            np.testing.assert_allclose(each, alone(content, 4, 4), atol=1e-6)
        elif content in BROKEN:
            assert not is_good
        if not is_good:
            assert not each.any()


TABLE = RoutingTable(
    Route(
        "file", when.present("picture"), features={"picture": Image(4, 4, stored="file")}, **BINARY
    ),
    Route("list", when.present("pixels"), features={"pixels": Image(1, 2, 1)}, **BINARY),
)
RECORDS = [
    ({"picture": [PNG], "y": [1]}, None),
    ({"picture": [PNG[:60]], "y": [1]}, "bad_picture"),
    ({"picture": [5], "y": [1]}, "bad_picture"),
    ({"picture": [PNG, PNG], "y": [1]}, "wrong_shape"),
    ({"pixels": [0, 5], "y": [0]}, None),
    ({"pixels": [PNG], "y": [0]}, "wrong_type"),
    ({"picture": [base64.b64encode(PNG)], "y": [0]}, None),
]


def test_what_is_no_picture_is_set_aside_by_its_reason():
    entries = parse(tf.constant([build.example(record) for record, _ in RECORDS]), TABLE)
    read = read_table_fields(TABLE, entries, route_index(TABLE, entries), label=True)
    told = [read.problems[i].reason if i >= 0 else None for i in read.problem.numpy()]
    assert told == [reason for _, reason in RECORDS]


def test_no_route_without_pictures_pays_for_them():
    table = RoutingTable(Route("t", when.present("t"), features={"t": Text()}, **BINARY))

    def read(examples):
        entries = parse(examples, table)
        return read_table_fields(table, entries, route_index(table, entries), label=True).problem

    for each, held in ((table, False), (TABLE, True)):
        table = each
        traced = tf.function(read, input_signature=[tf.TensorSpec([None], tf.string)])
        types = {op.type for op in traced.get_concrete_function().graph.get_operations()}
        assert any("Dataset" in kind for kind in types) == held


def test_the_schemas_say_what_is_wrong():
    with pytest.raises(
        RecipeError, match=r"Image.stored: got 'url', expected .*one of pixels, file"
    ):
        Image(4, 4, stored="url")
    with pytest.raises(RecipeError, match="Image.channels: got 4"):
        Image(4, 4, 4, stored="file")
    path = Route("a", when.present("x"), features={"p": Image(2, 2, stored="path")}, **BINARY)
    text = Route("b", when.present("z"), features={"p": Text()}, **BINARY)
    with pytest.raises(RecipeError, match=r"Route\('b'\): 'p' is Text.*another key"):
        RoutingTable(path, text)


HAS_WEBP = hasattr(tf.io, "decode_webp")  # TensorFlow 2.21
FOUR = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]]
WEBP = (
    "5249464632000000574542505650384c260000002f014000101f20102078f0bf6a434890d0fdbf578100c188ff4b"
)
STILL = {
    "opaque": WEBP.replace("4000101f", "4000001f") + "f31ff8e4a8e0060c11fd0f01",
    "transparent": WEBP + "4316f8e4a8e0060c11fd0f01",
}
MOVING = (
    "52494646b800000057454250565038580a00000002000000010000010000414e494d060000000000"
    "00000000414e4d4642000000000000000000010000010000000000025650384c290000002f014000"
    "001f2010204cf81ff46043489090fd7fd52e202172c4ff5d8e98ffc00753073f4088e87f0800414e"
    "4d4642000000000000000000010000010000000000005650384c290000002f014000001f20104828"
    "f617dc210d214142f6ff55bb8084c811ff773962fe837f4a003f4088e87f0400"
)


@pytest.mark.parametrize("kind", STILL)
def test_webp_is_read_where_tensorflow_knows_it_and_else_is_a_bad_picture(kind):
    values = tf.constant([PNG, bytes.fromhex(STILL[kind])])
    pixels, good = decode_pictures(values, 2, 2, 3)
    assert good.numpy().tolist() == [True, HAS_WEBP]
    want = np.array(FOUR) / 255 if HAS_WEBP else np.zeros([2, 2, 3])
    np.testing.assert_allclose(pixels[1], want, atol=1e-6)


def test_a_webp_that_moves_is_a_bad_picture():
    """TensorFlow 2.21 takes its four channels for three."""
    values = tf.constant([bytes.fromhex(MOVING), PNG])
    assert can_be_decoded(values).numpy().tolist() == [False, True]
