"""Whole numbers that stand for things."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Ids(Feature):
    """Whole numbers in [0, num_ids): int64 [batch, length], each with an embedding of its own."""

    num_ids: int
    length: int = 1

    def __post_init__(self) -> None:
        check_int("Ids.num_ids", self.num_ids)
        check_int("Ids.length", self.length)

    @property
    def dtype(self) -> str:
        """Only whole numbers."""
        return "int"

    @property
    def num_values(self) -> int:
        """The number of ids in a record."""
        return self.length

    @property
    def required(self) -> bool:
        """There is no neutral id."""
        return True

    @property
    def num_codes(self) -> int:
        """The number of ids."""
        return self.num_ids
