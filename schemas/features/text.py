"""Free text."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject
from branchline.schemas.features.feature import Feature

TOKENS = ("words", "characters")


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
    """

    max_words: int = 20_000
    length: int = 256
    ngrams: int = 1
    tokens: str = "words"

    def __post_init__(self) -> None:
        check_int("Text.max_words", self.max_words)
        check_int("Text.length", self.length)
        check_int("Text.ngrams", self.ngrams)
        if self.tokens not in TOKENS:
            reject("Text.tokens", self.tokens, f"one of {', '.join(TOKENS)}")

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
        """As many words as there may be."""
        return (self.length,)

    @property
    def vocabulary(self) -> int:
        """The words that are known."""
        return self.max_words
