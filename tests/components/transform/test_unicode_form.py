import unicodedata

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.transform.unicode_form import nfc


@pytest.fixture(scope="module")
def form():
    """The function in a graph, as Transform has it."""
    return tf.function(nfc, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def check(form, texts):
    found = [each.decode() for each in form(tf.constant(texts, tf.string)).numpy()]
    assert found == [unicodedata.normalize("NFC", text) for text in texts]


def test_every_character_has_its_form_and_so_has_what_it_is_made_of(form):
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    check(form, every)
    check(form, [unicodedata.normalize("NFD", each) for each in every])
    composed = [each for each in every if unicodedata.decomposition(each)]
    check(form, [each + mark for each in composed for mark in "\u0301\u0323\u0345\u3099"])
    check(form, [f"a{each}\u0301" for each in every if unicodedata.combining(each)])


def test_k2_texts_that_look_alike_are_equal(form):
    words = ["résumé", "Việt", "한국어", "कहानी ज़", "مُدَرِّس", "Å"]
    for word in words:
        both = form([unicodedata.normalize(name, word) for name in ("NFC", "NFD")])
        assert len(set(both.numpy())) == 1


odd = st.sampled_from(
    [*"aeouAα한가ㄱ", *map(chr, range(0x300, 0x362)), *map(chr, range(0x1161, 0x1164))]
)
odd |= st.sampled_from(
    "\u1100\u1101\u11a8\u11a9\u0345\u212b\u1e9b\u09c7\u09be\u0d4a\u0f73\u0000\U0001d15e"
)


@given(st.lists(st.text(odd, max_size=12) | st.text(max_size=9), max_size=6))
@settings(max_examples=300, deadline=None)
def test_texts_are_brought_to_the_form_that_python_knows(form, texts):
    check(form, texts)
