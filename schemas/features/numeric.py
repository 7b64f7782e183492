"""Numbers."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Numeric(Feature):
    """Numbers: float32 [batch, *shape], each position scaled to zero mean and unit variance.

    Args:
        shape: Of a record's numbers: () for one.
        whole: Whether they are whole numbers of 64 bits, such as times in milliseconds, which are
            kept as such until they are scaled. Others are kept as floats of 32 bits, about seven
            digits: near now, milliseconds since 1970 have steps of 131 s there.
    """

    shape: tuple[int, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        if not isinstance(shape, tuple | list):
            reject("Numeric.shape", self.shape, "a tuple of ints, such as () or (10,)")
        for size in shape:
            check_int("Numeric.shape", size)
        object.__setattr__(self, "shape", tuple(shape))
        if not isinstance(self.whole, bool):
            reject("Numeric.whole", self.whole, "True or False")

    @property
    def dtype(self) -> str:
        """Whole numbers are read as floats too, unless all have to be whole."""
        return "int" if self.whole else "float"

    @property
    def num_values(self) -> int:
        """The product of the shape."""
        product = 1
        for size in self.shape:
            product *= size
        return product
