"""Several values in an order that means something."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject
from branchline.schemas.features.categorical import Categorical
from branchline.schemas.features.feature import Feature
from branchline.schemas.features.hashed import Hashed
from branchline.schemas.features.ids import Ids
from branchline.schemas.features.numeric import Numeric


@dataclass(frozen=True)
class Sequence(Feature):
    """Any number of values in their order, also none: what was clicked on, the latest readings.

    Of more than `max_length` the last ones are used, which of events are the latest. They are
    preprocessed as values of their kind are, with one mean, or one vocabulary, for all places:

    - `Categorical` and `Hashed`: int64 [batch, max_length], from 1 on; 0 where there is none.
    - `Ids`: the same, each id plus 1.
    - `Numeric`: float32 [batch, 2 × max_length], each number and then a 1; 0 where there is none.

    Args:
        kind: What each value is: `Numeric()`, `Categorical()`, `Hashed(n)` or `Ids(n)`.
        max_length: How many values of a record are used.
    """

    kind: Feature
    max_length: int = 32

    def __post_init__(self) -> None:
        single = isinstance(self.kind, Numeric | Categorical | Hashed | Ids)
        told = isinstance(self.kind, Numeric) and self.kind.missing == "indicator"
        if not single or self.kind.num_values != 1 or told:
            expected = "a kind of one value: Numeric(), Categorical(), Hashed(n) or Ids(n)"
            reject("Sequence.kind", self.kind, expected)
        check_int("Sequence.max_length", self.max_length)

    @property
    def dtype(self) -> str:
        """That of its values."""
        return self.kind.dtype

    @property
    def num_values(self) -> None:
        """Any number will do."""
        return None

    @property
    def output_shape(self) -> tuple[int]:
        """The values that are used."""
        return (self.max_length,)

    @property
    def vocabulary(self) -> int | None:
        """That of its values, of all places together."""
        return self.kind.vocabulary

    @property
    def num_codes(self) -> int | None:
        """That of its values."""
        return self.kind.num_codes
