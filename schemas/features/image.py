"""Pictures."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject
from branchline.schemas.features.feature import Feature

_STORED = ("pixels", "file", "path")


@dataclass(frozen=True)
class Image(Feature):
    """A picture: float32 [batch, height, width, channels] in [0, 1].

    Args:
        height: In pixels; another picture file is resized to it.
        width: As `height`.
        channels: 3 for red, green and blue, 1 for grey; of "pixels" any number.
        stored: What a record holds. "pixels": its numbers as nested lists, row by row; each feature
            is scaled as a whole, from what the training rows hold. "file": what is in a file of
            PNG, JPEG, GIF (its first picture) or BMP, as bytes or in base64, also as a data URL;
            also of WebP without motion from TensorFlow 2.21 on, which Python 3.11 and later have.
            "path": where such a file is, relative to the folder of the record's file and within it;
            MixedExampleGen puts what is in it into the example, and the served model takes that.
    """

    height: int
    width: int
    channels: int = 3
    stored: str = "pixels"

    def __post_init__(self) -> None:
        for field in ("height", "width", "channels"):
            check_int(f"Image.{field}", getattr(self, field))
        if self.stored not in _STORED:
            reject("Image.stored", self.stored, f"one of {', '.join(_STORED)}")
        if self.is_file and self.channels not in (1, 3):
            reject("Image.channels", self.channels, '1 or 3 unless stored="pixels"')

    @property
    def is_file(self) -> bool:
        """Whether an example holds what is in a file of a picture."""
        return self.stored != "pixels"

    @property
    def dtype(self) -> str:
        """Pixels may be whole numbers or floats."""
        return "string" if self.is_file else "float"

    @property
    def num_values(self) -> int:
        """One file; or row by row, channels last: nested lists are flattened in that order."""
        return 1 if self.is_file else self.num_pixels

    @property
    def required(self) -> bool:
        """There is no neutral picture."""
        return True

    @property
    def reason(self) -> str:
        """Why a record is quarantined whose picture cannot be decoded."""
        return "bad_picture"

    @property
    def expected(self) -> str:
        """What is in a file of a picture, in words."""
        return (
            "a PNG, JPEG, GIF, BMP or (TensorFlow 2.21) WebP that can be decoded, or one in base64"
        )

    @property
    def num_pixels(self) -> int:
        """How many numbers the picture has."""
        return self.height * self.width * self.channels

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.shape

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (self.height, self.width, self.channels)
