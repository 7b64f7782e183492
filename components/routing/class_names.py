"""Names of classes in records: finds which name a text stands for, and which number a name has.

A record's text stands for a name where it is a spelling of it, see `schemas/class_names.py`; spaces
around it do not count. Routed examples hold the names themselves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from branchline.components.routing.find import find, find_code
from branchline.schemas.class_names import NONE_OF_THEM, spellings
from branchline.schemas.fields import Field


class ClassNames(NamedTuple):
    """The names of all fields' classes.

    Attributes:
        names: All of them, each once.
        texts: All spellings of them, each once.
        has_names: bool [fields].
        code: int64 [pairs], of each field and each of its spellings: `len(texts)` times the field's
            number, plus the spelling's place in `texts`.
        name: int64 [pairs], the place in `names` of what it stands for.
    """

    names: list[str]
    texts: list[str]
    has_names: np.ndarray
    code: np.ndarray
    name: np.ndarray


def class_names(fields: Sequence[Field]) -> ClassNames:
    """Lists the names of numbered fields, and what stands for them."""
    spelt = [
        (number, text, field.classes[index])
        for number, field in enumerate(fields)
        if field.classes
        for text, index in spellings(field.classes).items()
    ]
    # An empty text stands for it, once spaces are stripped.
    spelt += [
        (number, "", NONE_OF_THEM)
        for number, field in enumerate(fields)
        if field.classes and field.is_set
    ]
    names = sorted({name for _, _, name in spelt})
    texts = sorted({text for _, text, _ in spelt})
    place_of_name = {name: place for place, name in enumerate(names)}
    place_of_text = {text: place for place, text in enumerate(texts)}
    return ClassNames(
        names,
        texts,
        np.array([bool(field.classes) for field in fields], bool),
        np.array(
            [number * len(texts) + place_of_text[text] for number, text, _ in spelt], np.int64
        ),
        np.array([place_of_name[name] for *_, name in spelt], np.int64),
    )


def find_names(known: ClassNames, field: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """Finds which names texts stand for; one look-up, however many fields there are.

    Args:
        known: The names.
        field: int64 [n], the number of the field that holds each text.
        texts: string [n].

    Returns:
        int64 [n], the place in `known.names`, -1 where a text stands for none of its field's.
    """
    text = find(tf.strings.strip(texts), known.texts)
    pair = find_code(tf.where(text >= 0, field * len(known.texts) + text, -1), known.code)
    return tf.gather(tf.constant([-1, *known.name], tf.int64), pair + 1)


def class_index(texts: tf.Tensor, classes: Sequence[str]) -> tf.Tensor:
    """Turns the names that routed examples hold into numbers.

    Args:
        texts: string [n].
        classes: The target's.

    Returns:
        int64 [n], in [0, number of classes), -1 where a text is none of the names.
    """
    return find(texts, classes)
