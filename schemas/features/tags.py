"""A set of categories."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Tags(Feature):
    """Any number of categories, also none: int64 [batch, length], as `Categorical`'s, 0 for none.

    A record holds them as a list of texts or of numbers. Empty ones are left out, and one that is
    there twice counts twice.

    Args:
        max_values: How many of the most frequent tags in the route's training rows have an index of
            their own; all others share one.
        length: How many of a record are used, the first ones.
        separator: What divides the tags in one text, such as ";" in a cell of CSV; spaces around
            tags are left out then. None where each text is one tag.
    """

    max_values: int = 1000
    length: int = 32
    separator: str | None = None

    def __post_init__(self) -> None:
        check_int("Tags.max_values", self.max_values)
        check_int("Tags.length", self.length)
        if self.separator is not None and not (isinstance(self.separator, str) and self.separator):
            reject("Tags.separator", self.separator, 'a text such as ";", or None')

    @property
    def dtype(self) -> str:
        """Numbers are read as their decimal text."""
        return "string"

    @property
    def num_values(self) -> None:
        """Any number will do."""
        return None

    @property
    def output_shape(self) -> tuple[int]:
        """The tags that are used."""
        return (self.length,)

    @property
    def vocabulary(self) -> int:
        """The tags that are known."""
        return self.max_values
