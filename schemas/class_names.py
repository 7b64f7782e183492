"""The names of a target's classes: which may be given, and the texts that stand for each."""

import re
from typing import Any

from branchline.schemas.errors import check_int, reject

LEARN = "learn"
MOST_LEARNT = 1000
# What a routed example holds of a list in which there is no name. No name is like it, and it is not
# the empty text, which is no value.
NONE_OF_THEM = " "
NAMED = ("binary", "multiclass", "multilabel", "ordinal", "retrieval")  # tasks
_SPACES = " \t\n\v\f\r"  # those that TensorFlow strips
_WHOLE = re.compile(r"-?[0-9]+")
_BOOLEANS = {"false": ("0", "false", "False", "FALSE"), "true": ("1", "true", "True", "TRUE")}


def read_class_names(
    where: str, task: Any, num_classes: Any, classes: Any
) -> tuple[int | None, tuple[str, ...] | str | None]:
    """Checks the names that are given of a target's classes, None for no names.

    Returns:
        The number of classes, as many as there are names but for "binary", and the names: of a
        "multilabel" target that has a number alone "0", "1" and so on. Where they are to be learnt,
        the most that may be, and LEARN.

    Raises:
        RecipeError: They are no list of at least two different names, or do not fit task or number.

    >>> read_class_names("Target", "multiclass", None, ["ham", "spam", "other"])
    (3, ('ham', 'spam', 'other'))
    """
    if classes is None and task == "multilabel" and num_classes is not None:
        check_int(f"{where}.num_classes", num_classes, least=2)
        classes = tuple(map(str, range(num_classes)))
    if classes is None and task != "multilabel":
        return num_classes, None
    where += ".classes"
    if task not in NAMED:
        reject(where, classes, f"None unless the task is one of {', '.join(NAMED)}")
    if classes == LEARN:
        if task == "ordinal":
            reject(where, classes, "the names in order, which no record tells")
        return MOST_LEARNT if task != "binary" and num_classes is None else num_classes, LEARN
    if not isinstance(classes, tuple | list):
        reject(where, classes, f'a tuple of names such as ("no", "yes"), or {LEARN!r}')
    for name in classes:
        if not isinstance(name, str) or not name or name != name.strip(_SPACES):
            reject(where, name, "names that are texts, not empty, without spaces around them")
        if any("\ud800" <= character <= "\udfff" for character in name):
            reject(where, name, "names that are Unicode")
    if len(set(classes)) < max(2, len(classes)):
        reject(where, classes, "at least two names, all different")
    if task == "binary" and len(classes) != 2:
        reject(where, classes, "two names, the second of what is 1, for task='binary'")
    if task != "binary" and num_classes is None:
        num_classes = len(classes)
    if task != "binary" and num_classes != len(classes):
        reject(
            where, classes, f"as many names as num_classes={num_classes!r} says, or no num_classes"
        )
    return num_classes, tuple(classes)


def spellings(classes: tuple[str, ...]) -> dict[str, int]:
    """Text in a record → the index of the class it names.

    Each name stands for itself, and for a whole number so does what pandas writes of it into a
    column with gaps, 3.0. Where the two names are false and true, in any case, all that formats
    make of booleans does too: records hold JSON's true as 1, and CSV has True and TRUE.

    >>> spellings(("ham", "spam"))
    {'ham': 0, 'spam': 1}
    >>> spellings(("FALSE", "TRUE"))["1"], spellings(("1", "2"))["2.0"]
    (1, 1)
    """
    found = {name: index for index, name in enumerate(classes)}
    found = {f"{name}.0": index for name, index in found.items() if _WHOLE.fullmatch(name)} | found
    if {name.lower() for name in classes} == set(_BOOLEANS):
        found |= {
            text: index
            for index, name in enumerate(classes)
            for text in (*_BOOLEANS[name.lower()], name)
        }
    return found
