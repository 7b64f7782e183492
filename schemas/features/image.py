"""Pictures."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Image(Feature):
    """A picture: float32 [batch, height, width, channels], scaled as a whole to [0, 1]."""

    height: int
    width: int
    channels: int = 3

    def __post_init__(self) -> None:
        for field in ("height", "width", "channels"):
            check_int(f"Image.{field}", getattr(self, field))

    @property
    def dtype(self) -> str:
        """Pixels may be whole numbers or floats."""
        return "float"

    @property
    def num_values(self) -> int:
        """Row by row, channels last; nested lists are flattened in that order."""
        return self.height * self.width * self.channels

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.shape

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (self.height, self.width, self.channels)
