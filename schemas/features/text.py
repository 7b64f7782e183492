"""Free text."""

import os
from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject
from branchline.schemas.features.feature import Feature

TOKENS = ("words", "characters")
SAVED_MODEL = "saved_model.pb"  # is in every SavedModel's folder


@dataclass(frozen=True)
class Text(Feature):
    """Free text: its words as int64 [batch, length], indices into a learnt vocabulary, 0 for none.

    Words are runs of letters with their marks and digits, in lower case and of any script. Texts
    that differ in their Unicode form alone (NFC, NFD) have the same words.

    Args:
        max_words: How many of the most frequent ones in the route's training rows are known; all
            others share an index.
        length: How many of a text are used, the first ones.
        ngrams: With 2, pairs of neighbours are words too; with 3, also runs of three.
        tokens: "words", or "characters" for scripts without spaces between words, such as Chinese,
            Japanese and Thai: each character (code point) of a word is then taken as a word, and
            with `ngrams`, runs of them within the word.
        encoder: Folder of a SavedModel that encodes texts instead, such as one from TF Hub: its
            signature `serving_default` takes string [n] and gives one output, float [n, width]. A
            branch then gets the text itself, string [batch, 1], "" for none. Relative to the recipe
            file, or in a store.
        trainable: Whether that is trained further with the route's branch; else it stays as it is.
    """

    max_words: int = 20_000
    length: int = 256
    ngrams: int = 1
    tokens: str = "words"
    encoder: str | None = None
    trainable: bool = False

    def __post_init__(self) -> None:
        check_int("Text.max_words", self.max_words)
        check_int("Text.length", self.length)
        check_int("Text.ngrams", self.ngrams)
        if self.tokens not in TOKENS:
            reject("Text.tokens", self.tokens, f"one of {', '.join(TOKENS)}")
        if not isinstance(self.trainable, bool):
            reject("Text.trainable", self.trainable, "True or False")
        if self.encoder is None:
            if self.trainable:
                reject("Text.trainable", True, "an encoder= to train further")
            return
        if not isinstance(self.encoder, str | os.PathLike) or not os.fspath(self.encoder):
            reject("Text.encoder", self.encoder, "the path of a SavedModel's folder")
        object.__setattr__(self, "encoder", os.fspath(self.encoder))
        for name in ("max_words", "length", "ngrams", "tokens"):
            value = getattr(self, name)
            if value != getattr(Text, name):
                reject(f"Text.{name}", value, "nothing beside encoder=, which takes texts whole")

    @property
    def dtype(self) -> str:
        """Numbers are read as their decimal text."""
        return "string"

    @property
    def num_values(self) -> int:
        """A record holds one text."""
        return 1

    @property
    def output_shape(self) -> tuple[int]:
        """As many words as there may be; one text for an encoder."""
        return (1,) if self.encoder else (self.length,)

    @property
    def vocabulary(self) -> int | None:
        """The words that are known; an encoder has its own."""
        return None if self.encoder else self.max_words
