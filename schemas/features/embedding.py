"""Vectors that were made elsewhere."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Embedding(Feature):
    """A vector that another model made, of a text, say, or a picture: float32 [batch, dim].

    Its direction is kept: it is scaled as a whole to a length of √dim, so that its numbers are
    about as large as those of other features. A vector of zeros stays one.
    """

    dim: int

    def __post_init__(self) -> None:
        check_int("Embedding.dim", self.dim)

    @property
    def dtype(self) -> str:
        """Whole numbers are read as floats too."""
        return "float"

    @property
    def num_values(self) -> int:
        """The numbers of the vector."""
        return self.dim

    @property
    def required(self) -> bool:
        """There is no neutral vector."""
        return True
