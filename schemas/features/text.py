"""Free text."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Text(Feature):
    """Free text: its words as int64 [batch, length], indices into a learnt vocabulary, 0 for none.

    Words are runs of letters and digits in lower case; after `length` of them the rest is left out.
    The `max_words` most frequent words (and, with `ngrams=2`, pairs of neighbours) of the route's
    training rows are known.
    """

    max_words: int = 20_000
    length: int = 256
    ngrams: int = 1

    def __post_init__(self) -> None:
        check_int("Text.max_words", self.max_words)
        check_int("Text.length", self.length)
        check_int("Text.ngrams", self.ngrams)

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
