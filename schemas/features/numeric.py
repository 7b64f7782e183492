"""Numbers."""

import math
from dataclasses import dataclass
from typing import Any

from branchline.schemas.errors import check_int, check_number, reject
from branchline.schemas.features.feature import Feature

SCALES = ("zscore", "log", "quantile")
MISSING = ("mean", "indicator")


@dataclass(frozen=True)
class Numeric(Feature):
    """Numbers: float32 [batch, *shape], each position scaled to zero mean and unit variance.

    Args:
        shape: Of a record's numbers: () for one.
        whole: Whether they are whole numbers of 64 bits, such as times in milliseconds, which are
            kept as such until they are scaled. Others are kept as floats of 32 bits, about seven
            digits: near now, milliseconds since 1970 have steps of 131 s there.
        clip: The least and the greatest number; what is beyond becomes that one. None on either
            side for no bound.
        scale: "zscore" as above; "log" the same of the logarithm of one and the number, with its
            sign, for what spans powers of ten; "quantile" the place among the route's training rows
            in [-1, 1], 0 for the median, whatever outliers or fill values there are.
        missing: What a branch gets of a lone number that a record lacks: "mean", its route's mean,
            with "quantile" the median; "indicator", that too and whether it was there: float32
            [batch, 2], the scaled number and 1, or 0 twice.

    Raises:
        RecipeError: A field is wrong; names it, its value and what is expected.
    """

    shape: tuple[int, ...] = ()
    whole: bool = False
    clip: tuple[float | None, float | None] | None = None
    scale: str = "zscore"
    missing: str = "mean"

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        if not isinstance(shape, tuple | list):
            reject("Numeric.shape", self.shape, "a tuple of ints, such as () or (10,)")
        for size in shape:
            check_int("Numeric.shape", size)
        object.__setattr__(self, "shape", tuple(shape))
        if not isinstance(self.whole, bool):
            reject("Numeric.whole", self.whole, "True or False")
        if self.clip is not None:
            object.__setattr__(self, "clip", _read_bounds(self.clip))
        if self.scale not in SCALES:
            reject("Numeric.scale", self.scale, f"one of {', '.join(SCALES)}")
        if self.missing not in MISSING or (self.missing == "indicator" and self.shape):
            told = f"one of {', '.join(MISSING)}, and mean for more numbers than one"
            reject("Numeric.missing", self.missing, told)

    @property
    def dtype(self) -> str:
        """Whole numbers are read as floats too, unless all have to be whole."""
        return "int" if self.whole else "float"

    @property
    def num_values(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of a record's numbers, or the number and whether it was there."""
        return (2,) if self.missing == "indicator" else self.shape or (1,)


def _read_bounds(clip: Any) -> tuple[float | None, float | None]:
    expected = "the least and the greatest number, such as (0, 100) or (0, None)"
    if not isinstance(clip, tuple | list) or len(clip) != 2 or not any(b is not None for b in clip):
        reject("Numeric.clip", clip, expected)
    for bound in clip:
        if bound is not None:
            check_number("Numeric.clip", bound)
    low, high = clip
    if low is not None and high is not None and low > high:
        reject("Numeric.clip", clip, expected)
    return low, high
