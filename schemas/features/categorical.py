"""One of a set of values."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Categorical(Feature):
    """One of a set of values, text or number: int64 [batch], an index into a learnt vocabulary.

    The `max_values` most frequent values of the route's training rows get an index of their own,
    all others share one.
    """

    max_values: int = 1000

    def __post_init__(self) -> None:
        check_int("Categorical.max_values", self.max_values)

    @property
    def dtype(self) -> str:
        """Numbers are read as their decimal text."""
        return "string"

    @property
    def num_values(self) -> int:
        """A record holds one value."""
        return 1

    @property
    def vocabulary(self) -> int:
        """The values that are known."""
        return self.max_values
