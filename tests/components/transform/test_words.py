import base64
import collections
import unicodedata

import builders as build
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from branchline.components.transform.groups import groups_of
from branchline.components.transform.own_rows import OwnRows
from branchline.components.transform.vocabulary import FILE
from branchline.components.transform.words import words_of
from branchline.schemas import Route, RoutingTable, Text, when

HINDI = ["मुझे यह किताब पसंद है", "यह फ़िल्म अच्छी नहीं है", "हिन्दी में लिखा हुआ पत्र"]
MARKED = ["كَتَبَ الطَّالِبُ", "Tie\u0302\u0301ng Vie\u0323\u0302t re\u0301sume\u0301", "می\u200cخواهم"]
CHINESE = ["我喜欢这本书，很好！", "这部电影不好。", "東京タワー 2号"]
THAI = ["ฉันชอบหนังสือ", "ไม่ดีเลย"]


def table_of(**texts):
    route = Route("r", when.present("t"), features=texts, label="y", task="binary")
    return RoutingTable(route)


def cut(kind, texts):
    """The words of some texts, a list each."""
    (group,) = groups_of(table_of(t=kind))
    values = tf.constant(texts, tf.string)
    rows = tf.range(len(texts), dtype=tf.int64)
    zeros = tf.zeros_like(rows)
    batch = tf.constant(len(texts), tf.int64)
    (found,) = words_of([OwnRows(group, rows, zeros, values, zeros, batch)])
    words = [[] for _ in texts]
    for row, place, word in zip(*(each.numpy() for each in found[1:4]), strict=True):
        assert place == len(words[row])
        words[row].append(word.decode())
    return words


def belongs(character):
    return unicodedata.category(character)[0] in "LMN" or character in "\u200c\u200d"


def expected(kind, text):
    """The words of a text as the documentation says, in plain Python."""
    plain = "".join(each if belongs(each) else " " for each in lower(text)).split(" ")
    units = [[*word] for word in plain if word]
    joint = ""
    if kind.tokens == "words":
        units, joint = [[word for word in plain if word]], " "
    return [
        joint.join(unit[at : at + size])
        for unit in units
        for at in range(len(unit))
        for size in range(1, kind.ngrams + 1)
        if at + size <= len(unit)
    ]


def lower(text):
    lowered = tf.strings.lower(text, encoding="utf-8").numpy().decode()
    return unicodedata.normalize("NFC", lowered)


@pytest.mark.parametrize("text", [*HINDI, *MARKED])
def test_k2_words_keep_the_marks_of_their_letters(text):
    assert cut(Text(), [text]) == [[lower(word) for word in text.split()]]


def test_k3_characters_and_runs_of_them_end_with_their_word():
    assert cut(Text(tokens="characters", ngrams=2), ["不好。很", "--", "a"]) == [
        ["不", "不好", "好", "很"],
        [],
        ["a"],
    ]


kinds = st.builds(Text, ngrams=st.integers(1, 3), tokens=st.sampled_from(["words", "characters"]))
pieces = st.sampled_from([*"ab é9ß，。-_', \n\t你好हिनแอ", "e\u0301", "\u200c", "🙂", "مُ", "ि"])
texts = st.lists(pieces, max_size=12).map("".join)


@given(kinds, st.lists(texts, max_size=5))
@settings(max_examples=60, deadline=None)
def test_texts_are_cut_as_the_documentation_says(kind, some):
    assert cut(kind, some) == [expected(kind, text) for text in some]


def learnt(output):
    """The words of the vocabulary of the only feature."""
    lines = open(output.vocabulary_file_by_name(FILE), "rb").read().splitlines()
    words = [line.partition(b"\t")[0].partition(b".")[2] for line in lines]
    return {base64.urlsafe_b64decode(word + b"==").decode() for word in words if word}


@pytest.mark.parametrize(
    ("kind", "some", "whole"),
    [
        (Text(), HINDI + MARKED, ["किताब", "फ़िल्म", "नहीं", "الطَّالِبُ", "résumé", "tiếng"]),
        (Text(tokens="characters", ngrams=3), CHINESE + THAI, ["喜欢", "很好", "不", "หนั"]),
    ],
    ids=["words", "characters"],
)
def test_vocabularies_hold_whole_words_and_runs_of_characters(kind, some, whole, tmp_path):
    table = table_of(t=kind)
    rows = build.route_rows(table, [{"t": text, "y": 0} for text in some])
    output, _ = build.transform(tmp_path / "t", table, rows, materialize=False)
    want = collections.Counter(word for text in some for word in expected(kind, text))
    assert learnt(output) == set(want)
    assert set(whole) <= learnt(output)
